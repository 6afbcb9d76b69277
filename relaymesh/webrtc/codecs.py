"""Codecs as an offer names them, and which of them a publisher or a player is answered with.

In: the codecs of an offer's section. Out: one of them, or none. Knows the
formats a node can forward (opus, VP8, H264), not SDP's syntax, not a payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AUDIO = "opus"
VIDEO = ("VP8", "H264")


@dataclass(frozen=True, slots=True)
class Codec:
    """One payload type of an offered section."""

    payload_type: int  # 0 … 127
    name: str  # as offered: VP8, H264, opus
    clock_rate: int  # Hz
    channels: int = 1
    fmtp: str = ""  # as offered
    feedback: tuple[str, ...] = ()  # what follows the payload type in a=rtcp-fb: "nack pli", "transport-cc"
    rtx: int | None = None  # the payload type of its retransmissions (RFC 4588)


def parameters(fmtp: str) -> dict[str, str]:
    """The parameters of a format, names in lower case; ``""`` for one without a value."""
    found: dict[str, str] = {}
    for part in fmtp.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def choose_codec(kind: str, codecs: Sequence[Codec], prefer: Sequence[str] = VIDEO) -> Codec | None:
    """What a publisher is asked to send: opus, or the first format of *prefer* that it offers.

    Of H264's many variants only those with packetization mode 1 count, the most widely decodable
    profile first. ``None`` when nothing offered can be forwarded.
    """
    if kind == "audio":
        return _first_named(codecs, AUDIO)
    if kind != "video":
        return None
    for name in prefer:
        if name.upper() == "H264":
            variants = [c for c in codecs if c.name.upper() == "H264" and _packetization_mode(c.fmtp) == "1"]
            if variants:
                return min(variants, key=_publishing_rank)
        elif name.upper() in VIDEO:
            found = _first_named(codecs, name)
            if found is not None:
                return found
    return None


def match_codec(kind: str, codecs: Sequence[Codec], name: str, fmtp: str) -> Codec | None:
    """The payload type under which a player decodes what a publisher sends as *name* with *fmtp*.

    H264 needs the same packetization mode, and a profile that contains the publisher's; of several
    the nearest is taken. Levels are not compared: decoders take more than they name (RFC 6184 §8.2.2
    has them independent per direction with ``level-asymmetry-allowed``). ``None`` when none fits.
    """
    if kind not in ("audio", "video"):
        return None
    if name.upper() != "H264":
        return _first_named(codecs, name)
    mode = _packetization_mode(fmtp)
    wanted = _DECODED_BY.get(profile := h264_profile(fmtp), (profile,))
    variants = [
        c
        for c in codecs
        if c.name.upper() == "H264" and _packetization_mode(c.fmtp) == mode and h264_profile(c.fmtp) in wanted
    ]
    return min(variants, key=lambda c: wanted.index(h264_profile(c.fmtp)), default=None)


def _first_named(codecs: Sequence[Codec], name: str) -> Codec | None:
    """The first of *codecs* called *name*; names have no case (RFC 4855 §3)."""
    return next((c for c in codecs if c.name.lower() == name.lower()), None)


def _packetization_mode(fmtp: str) -> str:
    return parameters(fmtp).get("packetization-mode", "0")  # RFC 6184 §8.1


def _publishing_rank(codec: Codec) -> int:
    return {"constrained-baseline": 0, "baseline": 1}.get(h264_profile(codec.fmtp), 2)


# Which offered profiles decode a stream of a profile, nearest first. Nobody uses what Baseline has
# beyond Constrained Baseline, so the two stand for each other.
_DECODED_BY = {
    "constrained-baseline": (
        "constrained-baseline",
        "baseline",
        "main",
        "constrained-high",
        "high",
        "extended",
    ),
    "baseline": ("baseline", "constrained-baseline", "extended"),
    "main": ("main", "high"),
    "constrained-high": ("constrained-high", "high"),
}


def h264_profile(fmtp: str) -> str:
    """The profile that ``profile-level-id`` names (RFC 6184 table 5), or its first digits.

    Without the parameter it is Constrained Baseline: the RFC says Baseline, whose extras nobody uses.
    """
    value = parameters(fmtp).get("profile-level-id", "42e01f").lower()
    try:
        idc, constraints = int(value[0:2], 16), int(value[2:4], 16)
    except ValueError:
        return value
    set0, set1 = constraints & 0x80 != 0, constraints & 0x40 != 0
    match idc:
        case 0x42:
            return "constrained-baseline" if set1 else "baseline"
        case 0x4D:
            return "constrained-baseline" if set0 else "main"
        case 0x58 if set0:
            return "constrained-baseline" if set1 else "baseline"
        case 0x58:
            return "extended"
        case 0x64:
            return "constrained-high" if constraints & 0x0C == 0x0C else "high"
    return value[:4]
