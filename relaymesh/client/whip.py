"""WHIP (RFC 9725) and WHEP over HTTP: one offer is posted, one answer comes back, one DELETE ends it.

In: an endpoint's URL, an SDP offer, and a token where the server wants one. Out: the answer and the URL of
the session, or a :class:`SignallingError` that says what the server said. No trickle: the offer carries all
it has. Knows nothing of what the SDP means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import httpx

SDP = "application/sdp"
ANSWER_WITHIN = 10.0  # seconds
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
MAX_REASON = 300  # characters of the server's words that are worth showing


class SignallingError(Exception):
    """The offer was not answered.

    ``status`` is the HTTP status, or ``None`` when no answer of HTTP came at all; ``reason`` is for people.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(f"{status}: {reason}" if status else reason)
        self.reason = reason
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of the server."""

    sdp: str
    session_url: str | None  # DELETE it to leave; None when the server named none
    # What the DELETE is to bring; None where there is none, or where the session is somebody else's.
    token: str | None = field(default=None, repr=False)


def endpoint(url: str, kind: str) -> str:
    """*url*, when it is a ``whip`` or ``whep`` (*kind*) endpoint of a node.

    Raises:
        ValueError: it is not ``http(s)://host:port[/prefix]/<kind>/room/participant``.
    """
    parts = urlsplit(url)
    path = parts.path.strip("/").split("/")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"not an http or https URL: {url}")
    if len(path) < 3 or path[-3] != kind or not all(path):
        raise ValueError(f"a URL here looks like http://host:port/{kind}/room/participant, not {url}")
    return url


def bearer(token: str | None) -> str | None:
    """*token*, if it can be one; it may stand between spaces, as when it was read from a file.

    Raises:
        ValueError: it is not of the letters that a token has (RFC 6750 §2.1). It is not repeated.
    """
    if token is not None and not _TOKEN.fullmatch(token.strip()):
        raise ValueError("this is no token: it is one word of letters, digits and -._~+/")
    return token.strip() if token is not None else None


async def send_offer(
    http: httpx.AsyncClient, url: str, offer: str, codec: str | None = None, token: str | None = None
) -> Answer:
    """Post *offer* to *url*, preferring the video *codec* (``VP8``, ``H264``), with *token* if there is one.

    Raises:
        SignallingError: the server refused, answered something else, or could not be reached.
    """
    params = {"codec": codec} if codec else None
    try:
        response = await http.post(
            url,
            content=offer.encode(),
            headers={"content-type": SDP, "accept": SDP, **_authorization(token)},
            params=params,
            timeout=ANSWER_WITHIN,
        )
    except httpx.HTTPError as error:
        raise SignallingError(f"no answer from {url}: {error or type(error).__name__}") from error
    if response.status_code != 201:
        words = response.text.strip()[:MAX_REASON] or response.reason_phrase
        raise SignallingError(words, response.status_code)
    if not response.headers.get("content-type", "").startswith(SDP):
        raise SignallingError("the server answered 201, but not with SDP", 201)
    location = response.headers.get("location")
    session_url = urljoin(str(response.url), location) if location else None
    ours = session_url is not None and _origin(session_url) == _origin(str(response.url))
    return Answer(response.text, session_url, token if ours else None)


async def leave(http: httpx.AsyncClient, session_url: str, token: str | None = None) -> bool:
    """DELETE the session; returns whether the server confirmed. A session that is already gone counts."""
    try:
        response = await http.delete(session_url, headers=_authorization(token), timeout=2.0)
    except httpx.HTTPError:
        return False
    return response.is_success or response.status_code == 404


def _authorization(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
