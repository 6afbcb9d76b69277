"""Codecs as an offer names them, and which of them a publisher or a player is answered with.

In: the codecs of an offer's section. Out: one of them, or the reason why none
fits. Knows the formats a node can forward, not SDP's syntax, not a payload.
H264's profiles are with :mod:`relaymesh.webrtc.h264_profiles`.

Nothing is decoded on the way, so a stream reaches a player in the format in
which it was published, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relaymesh.webrtc.h264_profiles import decoding_rank, publishing_rank, why_undecodable

AUDIO = "opus"
RED = "red"  # RFC 2198: each packet repeats the audio of those before it
VIDEO = ("VP8", "H264", "VP9", "AV1", "H265")
_VIDEO_NAMES = frozenset(name.lower() for name in VIDEO)


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


# --- publishers ------------------------------------------------------------------------------------


def choose_codec(
    kind: str, codecs: Sequence[Codec], prefer: Sequence[str] = VIDEO, *, redundant: bool = False
) -> Codec | None:
    """What a publisher is asked to send: opus, or the first format of *prefer* that it offers.

    Of several variants it is the most widely decodable one. With *redundant* audio is asked for as
    RED where that is offered. ``None`` when nothing offered can be forwarded: see :func:`explain_choice`.
    """
    kind = kind.lower()
    if kind == "audio":
        opus = _first_named(codecs, AUDIO)
        red = redundant_audio(codecs, opus) if redundant and opus is not None else None
        return red or opus
    if kind != "video":
        return None
    for name in prefer:
        if name.lower() in _VIDEO_NAMES:
            variants = [c for c in codecs if _is_called(c, name) and _why_unusable(c) is None]
            if variants:
                return min(variants, key=_publishing_rank)
    return None


def prefers_redundancy(codecs: Sequence[Codec]) -> bool:
    """Whether RED is named before opus, as by a page that wants it: it costs up to twice the rate."""
    names = [codec.name.lower() for codec in codecs]
    return RED in names and AUDIO in names and names.index(RED) < names.index(AUDIO)


def explain_choice(kind: str, codecs: Sequence[Codec], prefer: Sequence[str] = VIDEO) -> str:
    """The reason why :func:`choose_codec` chose none; for people."""
    kind = kind.lower()
    if kind not in ("audio", "video"):
        return f"{kind} is not forwarded, only audio and video"
    wanted = [AUDIO] if kind == "audio" else [name for name in prefer if name.lower() in _VIDEO_NAMES]
    refused = {
        f"{c.name} {reason}"
        for c in codecs
        if any(_is_called(c, name) for name in wanted) and (reason := _why_unusable(c)) is not None
    }
    if refused:
        return "; ".join(sorted(refused))
    return f"none of {', '.join(wanted)} is offered, but {_names(codecs)}"


def _why_unusable(codec: Codec) -> str | None:
    return why_undecodable(parameters(codec.fmtp)) if _is_called(codec, "H264") else None


def _publishing_rank(codec: Codec) -> int:
    found = parameters(codec.fmtp)
    match codec.name.lower():
        case "h264":
            # Packets of mode 1 can carry what mode 0 cannot: slices beyond one packet.
            return 8 * (found.get("packetization-mode", "0") != "1") + publishing_rank(found)
        case "vp9":
            return 0 if _profile(found, "profile-id", "0") == 0 else 1
        case "av1":
            return 0 if _profile(found, "profile", "0") == 0 else 1
        case "h265":
            return 0 if _profile(found, "profile-id", "1") == 1 else 1
    return 0


# --- players ---------------------------------------------------------------------------------------


def match_codec(kind: str, codecs: Sequence[Codec], name: str, fmtp: str) -> Codec | None:
    """The payload type under which a player decodes what a publisher sends as *name* with *fmtp*.

    VP9 and AV1 need a profile that contains the publisher's, H265 the same one or a greater. Of
    H264's variants it is the nearest, and in the end any: decoders take more than they name, in
    profile, level and packetization mode. ``None`` when none fits: see :func:`explain_mismatch`.
    """
    kind = kind.lower()
    if kind not in ("audio", "video"):
        return None
    if kind == "audio" and name.lower() == RED:
        # Without RED at the player, what is repeated is taken off: relaymesh.webrtc.red.
        opus = _first_named(codecs, AUDIO)
        return redundant_audio(codecs, opus) or opus
    sent = parameters(fmtp)
    best: tuple[int, Codec] | None = None
    for codec in codecs:
        if _is_called(codec, name):
            rank = _decoding_rank(name, sent, parameters(codec.fmtp))
            if rank is not None and (best is None or rank < best[0]):
                best = rank, codec
    return best[1] if best else None


def explain_mismatch(kind: str, codecs: Sequence[Codec], name: str, fmtp: str) -> str:
    """The reason why :func:`match_codec` found none; for people."""
    kind = kind.lower()
    if kind not in ("audio", "video"):
        return f"{kind} is not forwarded, only audio and video"
    offered = [c for c in codecs if _is_called(c, name)]
    if not offered:
        return f"the publisher sends {name}, and the player offers {_names(codecs)}"
    reason = why_undecodable(parameters(fmtp)) if name.lower() == "h264" else None
    if reason is not None:
        return f"the publisher sends {name} {reason}, and the player does not offer that"
    return (
        f"the publisher sends {name} ({fmtp or 'no parameters'}), beyond the profiles that the player offers"
    )


def redundant_audio(codecs: Sequence[Codec], opus: Codec | None) -> Codec | None:
    """The RED format whose blocks are *opus*, as ``fmtp 111/111`` says; one without parameters counts."""
    if opus is None:
        return None
    number = str(opus.payload_type)
    for codec in codecs:
        blocks = codec.fmtp.replace(" ", "").split("/") if codec.fmtp else [number]
        if _is_called(codec, RED) and codec.clock_rate == opus.clock_rate and set(blocks) == {number}:
            return codec
    return None


def audio_within(codecs: Sequence[Codec], codec: Codec) -> Codec | None:
    """The format of *codec*'s blocks, where that is RED; ``None`` for all others."""
    return _first_named(codecs, AUDIO) if _is_called(codec, RED) else None


def carries(taken: str, sent: str) -> bool:
    """Whether a player of the format *taken* can go on with one named *sent*: RED and opus are converted."""
    names = {taken.lower(), sent.lower()}
    return len(names) == 1 or names == {AUDIO, RED}


def _decoding_rank(name: str, sent: dict[str, str], offered: dict[str, str]) -> int | None:
    """How far a player's variant is from what is sent, 0 the nearest; ``None`` if it cannot decode it."""
    match name.lower():
        case "h264":
            return decoding_rank(sent, offered)
        case "vp9":
            # Profiles 0 … 3 differ in chroma and bits: none but itself is sure.
            return 0 if _distance(sent, offered, "profile-id", "0") == 0 else None
        case "av1":
            # Main, High and Professional contain each other (AV1 §6.4.1). Level and tier are not
            # compared: what a decoder names there, it takes and more.
            more = _distance(sent, offered, "profile", "0")
            return more if more is not None and more >= 0 else None
        case "h265":
            # Main 10 (2) contains Main (1); beyond them nothing is sure (RFC 7798 §7.1).
            more = _distance(sent, offered, "profile-id", "1")
            wider = more == 1 and _profile(sent, "profile-id", "1") == 1
            return more if more == 0 or wider else None
    return 0


def _distance(sent: dict[str, str], offered: dict[str, str], name: str, otherwise: str) -> int | None:
    """By how much the offered profile's number is above the one sent."""
    wanted, has = _profile(sent, name, otherwise), _profile(offered, name, otherwise)
    return None if wanted is None or has is None else has - wanted


def _profile(found: dict[str, str], name: str, otherwise: str) -> int | None:
    """A profile's number; ``None`` for one that is no number."""
    value = found.get(name, otherwise)
    return int(value) if value.isascii() and value.isdigit() and len(value) < 4 else None


def _is_called(codec: Codec, name: str) -> bool:
    return codec.name.lower() == name.lower()  # names have no case (RFC 4855 §3)


def _first_named(codecs: Sequence[Codec], name: str) -> Codec | None:
    return next((c for c in codecs if _is_called(c, name)), None)


def _names(codecs: Sequence[Codec]) -> str:
    return ", ".join(dict.fromkeys(c.name for c in codecs)) or "nothing"
