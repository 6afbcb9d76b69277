"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) over HTTP: two endpoints, and the sessions they open.

In: requests, from anybody. Out: what they ask of the node, as calls of :class:`Signalling`,
and its answers as statuses and headers. Every refusal is a status and a sentence. Who may ask is the gate's
part (:mod:`relaymesh.node.gate`), before a body is read; what an SDP means is the node's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relaymesh.node.gate import Gate
from relaymesh.node.hitless import Hitless
from relaymesh.node.refusals import RefusedSection, SignallingError
from relaymesh.node.settings import NodeSettings
from relaymesh.protocol.ids import NAME_PATTERN, is_name
from relaymesh.protocol.messages import ParticipantName

MAX_OFFER_BYTES = 64 << 10
BODY_TIMEOUT = 10.0  # s
CODECS = ("VP8", "H264", "VP9", "AV1", "H265")  # the order without ?codec=: what most players decode first
HITLESS: dict[str, Hitless] = {"none": "none", "audio": "audio", "all": "all"}
SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
ENDPOINT_METHODS = ("GET", "POST", "OPTIONS")
SESSION_METHODS = ("GET", "PATCH", "DELETE", "OPTIONS")
EXPOSED = (
    *("Location", "ETag", "Link", "Accept-Post", "Accept-Patch", "Retry-After"),
    *("WWW-Authenticate", "RelayMesh-Refused"),
)


class Opened(NamedTuple):
    """A session made from an offer."""

    session: str  # its id; whoever knows it may end the session
    answer: str
    tag: str  # of its ICE session
    refused: tuple[RefusedSection, ...] = ()


class Fragment(NamedTuple):
    """Our side of an ICE restart."""

    text: str
    tag: str


class Signalling(Protocol):
    """The calls that endpoints and sessions make of a node."""

    settings: NodeSettings
    http_url: str  # under which clients reach it; its path goes before those told to them

    async def publish(
        self,
        name: ParticipantName,
        offer: str,
        prefer: tuple[str, ...],
        hitless: Hitless | None = None,
        credential: bytes = b"",
        *,
        partial: bool = False,
    ) -> Opened:
        """Open a publisher's session, or raise :class:`SignallingError`."""

    async def play(self, name: ParticipantName, offer: str, *, partial: bool = False) -> Opened:
        """Open a player's session, or raise :class:`SignallingError`."""

    def ice_tag(self, session_id: str) -> str | None:
        """Name the ICE session now under way; ``None`` when there is no such session."""

    def take_fragment(self, session_id: str, text: str, *, may_restart: bool) -> Fragment | None:
        """Take an ICE fragment; the node's own if it restarted ICE. Or raise :class:`SignallingError`."""

    def end(self, session_id: str) -> bool:
        """``False`` when there is no such session."""

    def status(self) -> dict[str, object]:
        """The node's own account of itself."""


def whip_routes(node: Signalling, gate: Gate) -> list[Route]:
    """The endpoints of WHIP and WHEP, for those whom the *gate* lets in, and the sessions of both."""

    async def whip(request: Request) -> Response:
        if request.method != "POST":
            return _nothing(request, ENDPOINT_METHODS)
        name, query = _name(request), request.query_params
        admitted = gate.admit_publisher(*_says_of_itself(request), name)
        offer = await _read(request)
        gate.check_offer(admitted, offer)
        opened = await node.publish(
            name,
            offer,
            _preference(query),
            _hitless(query),
            admitted.credential,
            partial=_partial(query),
        )
        return _created(node, opened)

    async def whep(request: Request) -> Response:
        if request.method != "POST":
            return _nothing(request, ENDPOINT_METHODS)
        name = _name(request)
        gate.admit_player(*_says_of_itself(request), name)
        offer = await _read(request)
        return _created(node, await node.play(name, offer, partial=_partial(request.query_params)))

    async def session(request: Request) -> Response:
        session_id = request.path_params["session"]
        tag = node.ice_tag(session_id)
        if request.method == "OPTIONS":
            return _nothing(request, SESSION_METHODS)
        if tag is None:
            raise SignallingError(404, "no such session; it may have ended")
        if request.method == "DELETE":
            node.end(session_id)
            return Response(status_code=200)
        if request.method == "PATCH":
            return await _patch(node, request, session_id, tag)
        return _nothing(request, SESSION_METHODS)

    return [
        Route("/whip/{room}/{participant}", whip, methods=[*ENDPOINT_METHODS]),
        Route("/whep/{room}/{participant}", whep, methods=[*ENDPOINT_METHODS]),
        Route("/session/{session}", session, methods=[*SESSION_METHODS]),
    ]


def accepts(path: str) -> dict[str, str]:
    """The header that says what may be sent to a resource of these, by its path."""
    return {"Accept-Patch": FRAGMENT} if path.startswith("/session/") else {"Accept-Post": SDP}


async def _patch(node: Signalling, request: Request, session_id: str, tag: str) -> Response:
    """Trickle or an ICE restart (RFC 9725 §4.3).

    The RFC has 428 for any PATCH without If-Match. Many clients trickle without it, and candidates
    change nothing here; but a restart must say so, or a late fragment of before one would undo it.
    """
    if _media_type(request) != FRAGMENT:
        raise SignallingError(415, f"a PATCH carries {FRAGMENT}")
    condition = request.headers.get("if-match")
    if condition is not None and not _matches(condition, tag):
        raise SignallingError(412, "the ICE session was restarted; If-Match names another one")
    text = _text(await read_body(request))
    try:
        fragment = node.take_fragment(session_id, text, may_restart=condition is not None)
    except SignallingError as error:
        if error.status == 428:
            raise SignallingError(428, "an ICE restart needs If-Match, with * or the ETag") from None
        raise
    if fragment is None:
        return Response(status_code=204)
    return Response(fragment.text, 200, {"ETag": f'"{fragment.tag}"'}, media_type=FRAGMENT)


def _matches(condition: str, tag: str) -> bool:
    """Compare as If-Match does (RFC 9110 §13.1.1): strongly, so that W/"…" is never equal."""
    return any(part.strip() in ("*", f'"{tag}"') for part in condition.split(","))


def _nothing(request: Request, methods: tuple[str, ...]) -> Response:
    """No content: for GET, which means nothing here, and for OPTIONS, which asks what does."""
    headers = {}
    if request.method == "OPTIONS":
        headers = {"Allow": ", ".join(methods), **accepts(request.url.path)}
    return Response(status_code=200 if headers else 204, headers=headers)


def _created(node: Signalling, opened: Opened) -> Response:
    prefix = urlsplit(node.http_url).path.rstrip("/")  # a proxy may put it before all of ours
    headers = {"Location": f"{prefix}/session/{opened.session}", "ETag": f'"{opened.tag}"'}
    if opened.refused:
        headers["RelayMesh-Refused"] = ", ".join(section.header_item() for section in opened.refused)
    return Response(opened.answer, 201, headers, media_type=SDP)


def _preference(query: Mapping[str, str]) -> tuple[str, ...]:
    wanted = query.get("codec")
    if wanted is None:
        return CODECS
    if wanted.upper() not in CODECS:
        raise SignallingError(400, f"codec must be one of {', '.join(CODECS)}")
    return (wanted.upper(), *(codec for codec in CODECS if codec != wanted.upper()))


def _hitless(query: Mapping[str, str]) -> Hitless | None:
    hitless = query.get("hitless")
    if hitless is not None and hitless not in HITLESS:
        raise SignallingError(400, f"hitless must be one of {', '.join(HITLESS)}")
    return HITLESS[hitless] if hitless else None


def _partial(query: Mapping[str, str]) -> bool:
    allowed = query.get("allow")
    if allowed not in (None, "partial"):
        raise SignallingError(400, "allow must be partial")
    return allowed is not None


def _says_of_itself(request: Request) -> tuple[str, str]:
    return request.headers.get("authorization", ""), request.headers.get("host", "")


def _name(request: Request) -> ParticipantName:
    """The stream's name from the path."""
    room, participant = request.path_params["room"], request.path_params["participant"]
    for part, text in (("room", room), ("participant", participant)):
        if not is_name(text):
            raise SignallingError(400, f"the {part}'s name must match {NAME_PATTERN}")
    return ParticipantName(room, participant)


async def _read(request: Request) -> str:
    """The offer from the body."""
    if _media_type(request) != SDP:
        raise SignallingError(415, f"the body must be an SDP offer, Content-Type: {SDP}")
    return _text(await read_body(request))


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise SignallingError(400, "the body is not UTF-8") from None


async def read_body(request: Request) -> bytes:
    """The body, bounded in length and time, or :class:`SignallingError`."""
    too_long = SignallingError(413, f"a body has at most {MAX_OFFER_BYTES} bytes")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > MAX_OFFER_BYTES:
        raise too_long
    body = b""
    with trio.move_on_after(BODY_TIMEOUT):
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_OFFER_BYTES:
                    raise too_long
        return body
    raise SignallingError(408, f"the body did not come within {BODY_TIMEOUT:.0f} s")
