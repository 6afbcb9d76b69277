"""Refusals in words: of a whole offer, and of single sections of one that is answered nevertheless.

In: what was offered and what of it is taken. Out: reasons for people, and one line of
HTTP for each. It decides nothing: :mod:`relaymesh.node.offers` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from relaymesh.node.publications import AnyPublication, Track
from relaymesh.webrtc.codecs import explain_choice, explain_mismatch, match_codec
from relaymesh.webrtc.sdp import MediaSection, SessionDescription

MAX_REASON_CHARACTERS = 300  # of one section, in a header; codec names and parameters are the client's text


class SignallingError(Exception):
    """A request that cannot be met; ``status`` is the HTTP status, the text says why.

    ``challenge``: what ``WWW-Authenticate`` tells with it (RFC 6750 §3), where a better token would help.
    """

    def __init__(self, status: int, reason: str, *, challenge: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.challenge = challenge


@dataclass(frozen=True, slots=True)
class RefusedSection:
    """One section of an offer that is answered without it."""

    mid: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} (mid {self.mid}): {self.reason}"

    def header_item(self) -> str:
        """One member of the list in ``RelayMesh-Refused``, an RFC 9651 token with parameters."""
        return f"{_token(self.kind)};mid={_quoted(self.mid)};reason={_quoted(self.reason)}"


def sends(section: MediaSection) -> bool:
    """Tell if the client wants to send audio or video by *section*."""
    return (
        section.kind in ("audio", "video")
        and not section.rejected
        and section.direction in ("sendonly", "sendrecv")
    )


def receives(section: MediaSection) -> bool:
    """Tell if the client wants to be sent something by *section*."""
    return not section.rejected and section.direction in ("recvonly", "sendrecv")


def refused_of_publisher(
    offer: SessionDescription, taken: Collection[str], prefer: Sequence[str]
) -> tuple[RefusedSection, ...]:
    """What a publisher offers to send beside the mids *taken*; *prefer* are the codecs it may use."""
    return tuple(
        RefusedSection(s.mid, s.kind, explain_choice(s.kind, s.codecs, prefer))
        for s in offer.media
        if s.mid not in taken and not s.rejected and (sends(s) or s.kind not in ("audio", "video"))
    )


def refused_of_player(
    offer: SessionDescription, taken: Collection[str], publication: AnyPublication
) -> tuple[RefusedSection, ...]:
    """What a player offers to receive of *publication* beside the mids *taken*."""
    return tuple(
        RefusedSection(s.mid, s.kind, _why_not_sent(s, publication.tracks.values()))
        for s in offer.media
        if s.mid not in taken and receives(s)
    )


def loses_all_video(refused: Sequence[RefusedSection], taken: Iterable[MediaSection]) -> bool:
    """Tell if video was asked for and none of it is *taken*: a black picture, unless somebody is told."""
    return any(section.kind == "video" for section in refused) and all(s.kind != "video" for s in taken)


def why_unplayable(offer: SessionDescription, publication: AnyPublication) -> str:
    """The reason why an offer can receive none of *publication*'s tracks."""
    reasons = [
        explain_mismatch(section.kind, section.codecs, track.info.codec, track.info.fmtp)
        for track in publication.tracks.values()
        for section in offer.media
        if receives(section) and section.kind == track.info.kind
    ]
    if reasons:
        return "; ".join(dict.fromkeys(reasons))
    kinds = ", ".join(sorted({track.info.kind for track in publication.tracks.values()})) or "nothing yet"
    return f"the publisher sends {kinds}, and this offer receives none of it"


def _why_not_sent(section: MediaSection, tracks: Iterable[Track]) -> str:
    infos = [track.info for track in tracks if track.info.kind == section.kind]
    if not infos:
        return f"the publisher sends no {section.kind}"
    reasons = [
        explain_mismatch(section.kind, section.codecs, info.codec, info.fmtp)
        for info in infos
        if match_codec(section.kind, section.codecs, info.codec, info.fmtp) is None
    ]
    return "; ".join(dict.fromkeys(reasons)) or f"the publisher sends no more {section.kind}"


def _token(text: str) -> str:
    return "".join(c for c in text.lower() if c.isascii() and c.isalnum()) or "unknown"


def _quoted(text: str) -> str:
    """*text* as an RFC 9651 string: printable ASCII only, since it holds what the client wrote."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in text[:MAX_REASON_CHARACTERS])
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
