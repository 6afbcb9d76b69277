"""Simulcast in an offered section: rids (RFC 8851), their streams (RFC 8853), groups of SSRCs.

In: a section's attributes and payload types. Out: which encodings of one picture the offerer
would send. What it would receive by rid is not read: nodes send one encoding to each client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relaymesh.webrtc.errors import SdpError
from relaymesh.webrtc.sdp_lines import Attributes, first, number, values, words

MAX_RIDS = 8  # that a section would send; browsers send three, and no more than four
MAX_RESTRICTIONS = 16  # of a rid

_RID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # RFC 8851 §10
_RESTRICTION = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class Rid:
    """One a=rid line of the direction "send": an encoding that the offerer can make."""

    name: str
    payload_types: tuple[int, ...] = ()  # those of pt=, by preference; empty: any of the section
    restrictions: tuple[str, ...] = ()  # as offered: "max-width=1280"


@dataclass(frozen=True, slots=True)
class Alternative:
    """An encoding in a=simulcast."""

    rid: str
    paused: bool = False  # "~": the offerer would not send it yet (RFC 8853 §5.1)


SimulcastStream = tuple[Alternative, ...]
"""One stream of a=simulcast, which is sent as one of its alternatives, the preferred first."""


def parse_rids(attributes: Attributes, formats: Sequence[int]) -> tuple[Rid, ...]:
    """The encodings the offerer would send, in the order of their lines (RFC 8851 §4).

    One that is bound to payload types which the section has not is passed over (§6.2.2).
    """
    found: dict[str, Rid] = {}
    for value in values(attributes, "rid"):
        name, direction, *rest = words(value, 2, "a rid")
        if not _RID.fullmatch(name):
            raise SdpError("a rid has at most 64 letters, digits, hyphens and underscores")
        if direction.lower() != "send" or name in found:
            continue
        rid = _parse_rid(name, "".join(rest), formats)
        if rid is None:
            continue
        if len(found) == MAX_RIDS:
            raise SdpError(f"more than {MAX_RIDS} rids in a section")
        found[name] = rid
    return tuple(found.values())


def _parse_rid(name: str, text: str, formats: Sequence[int]) -> Rid | None:
    restrictions = [part for part in text.split(";") if part]
    if len(restrictions) > MAX_RESTRICTIONS or not all(map(_RESTRICTION.fullmatch, restrictions)):
        raise SdpError("the restrictions of a rid are malformed, or too many")
    payload_types: tuple[int, ...] = ()
    if restrictions and restrictions[0].lower().startswith("pt="):
        listed = restrictions.pop(0)[3:].split(",")
        numbers = [number(word, 127, "the payload type of a rid") for word in listed]
        payload_types = tuple(n for n in dict.fromkeys(numbers) if n in formats)
        if not payload_types:
            return None
    return Rid(name, payload_types, tuple(restrictions))


def parse_simulcast(attributes: Attributes, rids: Sequence[Rid]) -> tuple[SimulcastStream, ...]:
    """The streams the offerer would send at the same time, in its order (RFC 8853 §5.1).

    Encodings without an a=rid line are passed over (§5.3.2). What Chromium wrote before the RFC,
    ``send rid=q;h;f``, means the same.
    """
    text = _sent(first(attributes, "simulcast") or "")
    if text.count(";") + text.count(",") > 2 * MAX_RIDS:
        raise SdpError("too many streams in a simulcast")
    known = {rid.name for rid in rids}
    seen: set[str] = set()
    streams = []
    for part in text.split(";"):
        stream = tuple(a for a in _alternatives(part, seen) if a.rid in known)
        if stream:
            streams.append(stream)
    return tuple(streams)


def _sent(value: str) -> str:
    """The list after the word "send", without the old form's "rid="."""
    parts = value.split()
    if len(parts) % 2 or any(word not in ("send", "recv") for word in parts[::2]):
        raise SdpError("a simulcast is malformed")
    for direction, streams in zip(parts[::2], parts[1::2], strict=True):
        if direction == "send":
            return streams.removeprefix("rid=")
    return ""


def _alternatives(part: str, seen: set[str]) -> Iterator[Alternative]:
    for text in part.split(",") if part else ():
        name = text.removeprefix("~")
        if not _RID.fullmatch(name):
            raise SdpError("a simulcast names a malformed rid")
        if name in seen:
            raise SdpError("a simulcast names a rid twice")
        seen.add(name)
        yield Alternative(name, paused=text.startswith("~"))


def parse_layers(attributes: Attributes, retransmissions: Sequence[int]) -> tuple[int, ...]:
    """The SSRCs of the first ``ssrc-group:SIM``, in its order; empty without one.

    That is how encodings were told before rids; libwebrtc lists the smallest first.
    """
    for value in values(attributes, "ssrc-group"):
        semantics, *numbers = value.split() or [""]
        if semantics == "SIM":
            if len(numbers) > MAX_RIDS:
                raise SdpError(f"more than {MAX_RIDS} SSRCs in a simulcast")
            layers = dict.fromkeys(number(word, 0xFFFFFFFF, "an SSRC") for word in numbers)
            return tuple(ssrc for ssrc in layers if ssrc not in retransmissions)
    return ()
