"""One m= section of an offer: its codecs, header extensions, sources and encodings.

In: the m= line and the attributes of the section, and those of the session. Out: a model of
it, whose attributes are all kept in order, read or not. What is malformed raises
:class:`SdpError`; what to answer is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from relaymesh.webrtc.codecs import Codec, parameters
from relaymesh.webrtc.errors import SdpError
from relaymesh.webrtc.sdp_lines import TOKEN, Attributes, first, number, values, words
from relaymesh.webrtc.sdp_simulcast import (
    Rid,
    SimulcastStream,
    parse_layers,
    parse_rids,
    parse_simulcast,
)

MAX_SOURCES = 64  # SSRCs of a section
MAX_FEEDBACK = 32  # kinds of feedback of a codec
MAX_FMTP = 512  # characters
MAX_EXTENSION_ID = 14  # higher ones need two-byte elements (RFC 8285 §4.3), which few clients make
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
DATA_MESSAGE_BYTES = 64 * 1024  # that an SCTP peer takes if it does not say (RFC 8841 §6.1)


@dataclass(frozen=True, slots=True)
class MediaSection:
    """One m= section of an offer."""

    kind: str  # audio, video, application, or what else stands there; in lower case
    port: int
    protocol: str  # UDP/TLS/RTP/SAVPF, UDP/DTLS/SCTP, ...
    formats: tuple[str, ...]  # of the m= line: payload types, or webrtc-datachannel
    mid: str  # "" only if rejected
    direction: str  # as the offerer sees it: one of DIRECTIONS
    codecs: tuple[Codec, ...]  # by preference; retransmission formats are attached to theirs
    extensions: dict[str, int]  # URI → identifier, 1 … 14
    ssrcs: tuple[tuple[int, int | None], ...]  # (media, its retransmission); empty when rids are used
    rids: tuple[
        str, ...
    ]  # of the encodings the offerer would send; in the order of `simulcast` if there is one
    bundle_only: bool
    rejected: bool  # port 0 without bundle-only
    attributes: tuple[tuple[str, str], ...]
    rid_lines: tuple[Rid, ...] = ()  # what is said of each of `rids`, in the order of the lines
    simulcast: tuple[SimulcastStream, ...] = ()  # sent at the same time; empty: one encoding, or SSRCs
    layer_ssrcs: tuple[int, ...] = ()  # the encodings of a simulcast told by ssrc-group:SIM
    mixes_extensions: bool = False  # a=extmap-allow-mixed (RFC 8285 §6), here or for the session
    sctp_port: int | None = None  # of a section with a data channel (RFC 8841 §5)
    max_message_bytes: int = DATA_MESSAGE_BYTES  # that the offerer takes over it; 0: of any size


def parse_section(line: str, attributes: tuple[tuple[str, str], ...], session: Attributes) -> MediaSection:
    """The section with the m= line *line*; *session* has the attributes that hold for all sections.

    Raises:
        SdpError: malformed, beyond a bound, or live without a mid or rtcp-mux.
    """
    kind, port_text, protocol, *formats = words(line, 4, "an m= line")
    if not line.isascii():
        raise SdpError("an m= line is malformed")
    kind = kind.lower()
    port = number(port_text.partition("/")[0], 0xFFFF, "a port")
    bundle_only = first(attributes, "bundle-only") is not None
    rejected = port == 0 and not bundle_only
    mid = first(attributes, "mid") or ""
    if not TOKEN.fullmatch(mid) and not (rejected and not mid):
        raise SdpError("a section has no usable mid")
    is_rtp = kind in ("audio", "video")
    if is_rtp and not rejected and first(attributes, "rtcp-mux") is None:
        raise SdpError("rtcp-mux is needed: there is one port for everything")
    codecs = _parse_codecs(formats, attributes) if is_rtp else ()
    rid_lines = parse_rids(attributes, [codec.payload_type for codec in codecs])
    simulcast = parse_simulcast(attributes, rid_lines)
    ssrcs = _parse_ssrcs(attributes)
    return MediaSection(
        kind=kind,
        port=port,
        protocol=protocol,
        formats=tuple(formats),
        mid=mid,
        direction=direction_of(attributes, direction_of(session, "sendrecv")),
        codecs=codecs,
        extensions=_parse_extensions((*attributes, *session)),
        ssrcs=ssrcs,
        rids=_rid_names(rid_lines, simulcast),
        bundle_only=bundle_only,
        rejected=rejected,
        attributes=attributes,
        rid_lines=rid_lines,
        simulcast=simulcast,
        layer_ssrcs=parse_layers(attributes, [rtx for _, rtx in ssrcs if rtx is not None]),
        mixes_extensions=any(
            first(level, "extmap-allow-mixed") is not None for level in (attributes, session)
        ),
        sctp_port=_parse_sctp_port(attributes) if kind == "application" else None,
        max_message_bytes=_parse_message_size(attributes),
    )


def direction_of(attributes: Attributes, otherwise: str) -> str:
    """The first direction among *attributes*, else *otherwise*."""
    return next((name for name, _ in attributes if name in DIRECTIONS), otherwise)


def _rid_names(lines: Sequence[Rid], simulcast: Sequence[SimulcastStream]) -> tuple[str, ...]:
    named = [alternative.rid for stream in simulcast for alternative in stream]
    return tuple(dict.fromkeys([*named, *(rid.name for rid in lines)]))


def _parse_sctp_port(attributes: Attributes) -> int | None:
    value = first(attributes, "sctp-port")
    return None if value is None else number(value, 0xFFFF, "an SCTP port")


def _parse_message_size(attributes: Attributes) -> int:
    value = first(attributes, "max-message-size")
    return DATA_MESSAGE_BYTES if value is None else number(value, 0xFFFFFFFF, "a message size")


# --- codecs ----------------------------------------------------------------------------------------


def _parse_codecs(formats: Sequence[str], attributes: Attributes) -> tuple[Codec, ...]:
    """The codecs with an rtpmap, in the order of the m= line."""
    maps = _by_payload_type(attributes, "rtpmap")
    fmtps = _by_payload_type(attributes, "fmtp")
    feedback = _parse_feedback(attributes)
    codecs: dict[int, Codec] = {}
    rtx: dict[int, int] = {}  # payload type → that of its retransmissions
    for text in dict.fromkeys(formats):
        payload_type = number(text, 127, "a payload type")
        # RFC 5761 §4: these payload types cannot be told from RTCP.
        if payload_type not in maps or 64 <= payload_type <= 95:
            continue
        name, clock_rate, channels = _parse_rtpmap(maps[payload_type])
        fmtp = fmtps.get(payload_type, "")
        if len(fmtp) > MAX_FMTP or not fmtp.isascii():
            raise SdpError("an fmtp is too long, or not ASCII")
        if name.lower() == "rtx":
            associated = parameters(fmtp).get("apt", "")
            if associated.isdigit() and len(associated) <= 3:
                rtx.setdefault(int(associated), payload_type)
            continue
        kinds = (*feedback.get(payload_type, ()), *feedback.get(None, ()))
        if len(kinds) > MAX_FEEDBACK:
            raise SdpError("too many kinds of feedback")
        codecs[payload_type] = Codec(
            payload_type, name, clock_rate, channels, fmtp, tuple(dict.fromkeys(kinds))
        )
    return tuple(replace(codec, rtx=rtx.get(codec.payload_type)) for codec in codecs.values())


def _by_payload_type(attributes: Attributes, name: str) -> dict[int, str]:
    """The rest of each attribute *name* by the payload type it begins with; the first of several counts."""
    found: dict[int, str] = {}
    for value in values(attributes, name):
        payload_type, _, rest = value.partition(" ")
        found.setdefault(number(payload_type, 127, f"the payload type of an {name}"), rest.strip())
    return found


def _parse_rtpmap(value: str) -> tuple[str, int, int]:
    name, _, rest = value.partition("/")
    rate, _, channels = rest.partition("/")
    clock_rate = number(rate, 1_000_000, "a clock rate")
    count = number(channels, 255, "a number of channels") if channels else 1
    if not TOKEN.fullmatch(name) or len(name) > 32 or clock_rate == 0 or count == 0:
        raise SdpError("an rtpmap is malformed")
    return name, clock_rate, count


def _parse_feedback(attributes: Attributes) -> dict[int | None, list[str]]:
    """The kinds of feedback by payload type (RFC 4585 §4.2); those for all of them under ``None``."""
    found: dict[int | None, list[str]] = {}
    for value in values(attributes, "rtcp-fb"):
        payload_type, *kind = words(value, 2, "an rtcp-fb")
        key = None if payload_type == "*" else number(payload_type, 127, "the payload type of an rtcp-fb")
        found.setdefault(key, []).append(" ".join(kind))
    return found


# --- header extensions and sources -----------------------------------------------------------------


def _parse_extensions(attributes: Attributes) -> dict[str, int]:
    """URI → identifier of the usable header extensions (RFC 8285 §5); a direction is not looked at."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for value in values(attributes, "extmap"):
        text, uri, *_ = words(value, 2, "an extmap")
        # Identifiers from 4096 on are offered for lack of room; no packet can carry them.
        identifier = number(text.partition("/")[0], 0xFFFF, "the identifier of an extmap")
        if 1 <= identifier <= MAX_EXTENSION_ID and identifier not in taken and uri not in found:
            found[uri] = identifier
            taken.add(identifier)
    return found


def _parse_ssrcs(attributes: Attributes) -> tuple[tuple[int, int | None], ...]:
    """(media, its retransmission) in the order of the offer (RFC 5576 §4, RFC 4588 §8)."""
    rtx: dict[int, int] = {}
    for value in values(attributes, "ssrc-group"):
        semantics, *numbers = value.split() or [""]
        if semantics == "FID" and len(numbers) == 2:
            rtx[number(numbers[0], 0xFFFFFFFF, "an SSRC")] = number(numbers[1], 0xFFFFFFFF, "an SSRC")
    named = dict.fromkeys(
        number(words(value, 1, "an ssrc")[0], 0xFFFFFFFF, "an SSRC") for value in values(attributes, "ssrc")
    )
    if max(len(named), len(rtx)) > MAX_SOURCES:
        raise SdpError("too many SSRCs")
    retransmissions = set(rtx.values())
    return tuple((ssrc, rtx.get(ssrc)) for ssrc in named if ssrc not in retransmissions)
