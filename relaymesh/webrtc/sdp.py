"""SDP offers of WebRTC clients (RFC 8866, RFC 8829), as far as a node must understand them.

In: the text of an offer, from anybody. Out: a model of it, whose attributes
are all kept in order, read or not. The ICE candidates are not read: a lite agent waits
to be called. What to answer is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.errors import SdpError

MAX_BYTES = 64 * 1024
MAX_SECTIONS = 32
MAX_SOURCES = 64  # SSRCs and rids of a section
MAX_FEEDBACK = 32  # kinds of feedback of a codec
MAX_FMTP = 512  # characters
MAX_EXTENSION_ID = 14  # higher ones need two-byte elements (RFC 8285 §4.3), which are never accepted
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]{1,64}")  # RFC 8866 §9
_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]*")  # RFC 8839 §5.4
_FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){15,63}")
_RID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # RFC 8851 §10

Attributes = Sequence[tuple[str, str]]  # (name, value); the value of a flag is ""


@dataclass(frozen=True, slots=True)
class MediaSection:
    """One m= section of an offer."""

    kind: str  # audio, video, application, or what else stands there
    port: int
    protocol: str  # UDP/TLS/RTP/SAVPF, UDP/DTLS/SCTP, ...
    formats: tuple[str, ...]  # of the m= line: payload types, or webrtc-datachannel
    mid: str  # "" only if rejected
    direction: str  # as the offerer sees it: one of DIRECTIONS
    codecs: tuple[Codec, ...]  # by preference; retransmission formats are attached to theirs
    extensions: dict[str, int]  # URI → identifier, 1 … 14
    ssrcs: tuple[tuple[int, int | None], ...]  # (media, its retransmission); empty when rids are used
    rids: tuple[str, ...]  # of the encodings the offerer would send
    bundle_only: bool
    rejected: bool  # port 0 without bundle-only
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """An offer that can be answered. What ICE and DTLS need is that of the bundle's first section."""

    media: tuple[MediaSection, ...]
    ice_ufrag: str
    ice_password: str
    fingerprints: tuple[tuple[str, str], ...]  # (hash name in lower case, hex pairs in upper case)
    setup: str  # "actpass" or "active": we are the DTLS server
    bundle: tuple[str, ...]  # mids of the BUNDLE group; empty without one
    attributes: tuple[tuple[str, str], ...]  # of the session


def parse_offer(text: str) -> SessionDescription:
    """The offer in *text*.

    Raises:
        SdpError: not SDP, beyond the bounds of this module, or without what any answer needs: a section
            that is not rejected, each with a mid and, if there are several, in one BUNDLE group; ICE
            credentials; a fingerprint; rtcp-mux; a DTLS role that leaves the server's to us.
    """
    session, sections = _split(text)
    direction = _direction(session, "sendrecv")
    media = tuple(_parse_section(line, attributes, direction) for line, attributes in sections)
    mids = [section.mid for section in media if section.mid]
    if len(set(mids)) != len(mids):
        raise SdpError("two sections have the same mid")
    live = [section for section in media if not section.rejected]
    if not live:
        raise SdpError("nothing is offered")
    bundle = _bundle(session)
    if len(live) > 1 and not all(section.mid in bundle for section in live):
        raise SdpError("all sections must be in one BUNDLE group")
    first = next((s for mid in bundle for s in live if s.mid == mid), live[0])
    levels = (first.attributes, session)  # a section's own attribute goes before the session's
    return SessionDescription(
        media=media,
        ice_ufrag=_ice("ice-ufrag", levels, 4),
        ice_password=_ice("ice-pwd", levels, 22),
        fingerprints=_fingerprints(levels),
        setup=_setup(levels),
        bundle=bundle,
        attributes=session,
    )


# --- lines ---------------------------------------------------------------------------------------


def _split(text: str) -> tuple[tuple[tuple[str, str], ...], list[tuple[str, tuple[tuple[str, str], ...]]]]:
    """The session's attributes, and each section's m= line with its attributes."""
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise SdpError("longer than 64 KiB")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[0] != "v=0":
        raise SdpError("SDP begins with v=0")
    session: list[tuple[str, str]] = []
    sections: list[tuple[str, list[tuple[str, str]]]] = []
    for line in lines:
        if not line:
            continue  # some leave empty lines, at the end above all
        if len(line) < 2 or line[1] != "=" or _CONTROL.search(line):
            raise SdpError("a line that is not SDP")
        if line[0] == "m":
            if len(sections) == MAX_SECTIONS:
                raise SdpError("too many sections")
            sections.append((line[2:], []))
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            (sections[-1][1] if sections else session).append((name, value.strip()))
    return tuple(session), [(line, tuple(attributes)) for line, attributes in sections]


def _values(attributes: Attributes, name: str) -> Iterator[str]:
    return (value for key, value in attributes if key == name)


def _first(attributes: Attributes, name: str) -> str | None:
    return next(_values(attributes, name), None)


def _number(text: str, highest: int, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10) or int(text) > highest:
        raise SdpError(f"{what} is a number up to {highest}")
    return int(text)


def _words(value: str, at_least: int, what: str) -> list[str]:
    words = value.split()
    if len(words) < at_least:
        raise SdpError(f"{what} is incomplete")
    return words


def _direction(attributes: Attributes, otherwise: str) -> str:
    return next((name for name, _ in attributes if name in DIRECTIONS), otherwise)


# --- the session -----------------------------------------------------------------------------------


def _bundle(session: Attributes) -> tuple[str, ...]:
    """The mids of the first BUNDLE group (RFC 9143 §5)."""
    for value in _values(session, "group"):
        semantics, *mids = value.split() or [""]
        if semantics == "BUNDLE":
            return tuple(mids)
    return ()


def _ice(name: str, levels: Sequence[Attributes], shortest: int) -> str:
    value = next((v for level in levels if (v := _first(level, name)) is not None), None)
    if value is None:
        raise SdpError(f"{name} is missing")
    if not shortest <= len(value) <= 256 or not _ICE_CHARS.fullmatch(value):
        raise SdpError(f"{name} is malformed")
    return value


def _fingerprints(levels: Sequence[Attributes]) -> tuple[tuple[str, str], ...]:
    """The section's fingerprints, else the session's (RFC 8122 §5)."""
    for level in levels:
        found = []
        for value in _values(level, "fingerprint"):
            algorithm, digest, *_ = _words(value, 2, "a fingerprint")
            if not _FINGERPRINT.fullmatch(digest.upper()):
                raise SdpError("a fingerprint is malformed")
            found.append((algorithm.lower(), digest.upper()))
        if found:
            return tuple(dict.fromkeys(found))
    raise SdpError("a fingerprint is missing")


def _setup(levels: Sequence[Attributes]) -> str:
    setup = next((v for level in levels if (v := _first(level, "setup")) is not None), "actpass")
    if setup not in ("actpass", "active"):
        raise SdpError("the offerer must be ready to be the DTLS client: setup actpass or active")
    return setup


# --- one section -----------------------------------------------------------------------------------


def _parse_section(line: str, attributes: tuple[tuple[str, str], ...], direction: str) -> MediaSection:
    kind, port_text, protocol, *formats = _words(line, 4, "an m= line")
    if not line.isascii():
        raise SdpError("an m= line is malformed")
    port = _number(port_text.partition("/")[0], 0xFFFF, "a port")
    bundle_only = _first(attributes, "bundle-only") is not None
    rejected = port == 0 and not bundle_only
    mid = _first(attributes, "mid") or ""
    if not _TOKEN.fullmatch(mid) and not (rejected and not mid):
        raise SdpError("a section has no usable mid")
    is_rtp = kind in ("audio", "video")
    if is_rtp and not rejected and _first(attributes, "rtcp-mux") is None:
        raise SdpError("rtcp-mux is needed: there is one port for everything")
    return MediaSection(
        kind=kind,
        port=port,
        protocol=protocol,
        formats=tuple(formats),
        mid=mid,
        direction=_direction(attributes, direction),
        codecs=_parse_codecs(formats, attributes) if is_rtp else (),
        extensions=_parse_extensions(attributes),
        ssrcs=_parse_ssrcs(attributes),
        rids=_parse_rids(attributes),
        bundle_only=bundle_only,
        rejected=rejected,
        attributes=attributes,
    )


def _parse_codecs(formats: Sequence[str], attributes: Attributes) -> tuple[Codec, ...]:
    """The codecs with an rtpmap, in the order of the m= line."""
    maps = _by_payload_type(attributes, "rtpmap")
    fmtps = _by_payload_type(attributes, "fmtp")
    feedback = _parse_feedback(attributes)
    codecs: dict[int, Codec] = {}
    rtx: dict[int, int] = {}  # payload type → that of its retransmissions
    for text in dict.fromkeys(formats):
        payload_type = _number(text, 127, "a payload type")
        # RFC 5761 §4: these payload types cannot be told from RTCP.
        if payload_type not in maps or 64 <= payload_type <= 95:
            continue
        name, clock_rate, channels = _parse_rtpmap(maps[payload_type])
        fmtp = fmtps.get(payload_type, "")
        if len(fmtp) > MAX_FMTP or not fmtp.isascii():
            raise SdpError("an fmtp is too long, or not ASCII")
        if name.lower() == "rtx":
            associated = re.match(r"apt=(\d{1,3})\b", fmtp)
            if associated:
                rtx.setdefault(int(associated[1]), payload_type)
            continue
        kinds = (*feedback.get(payload_type, ()), *feedback.get(None, ()))
        if len(kinds) > MAX_FEEDBACK:
            raise SdpError("too many kinds of feedback")
        codecs[payload_type] = Codec(
            payload_type, name, clock_rate, channels, fmtp, tuple(dict.fromkeys(kinds))
        )
    return tuple(
        Codec(c.payload_type, c.name, c.clock_rate, c.channels, c.fmtp, c.feedback, rtx.get(c.payload_type))
        for c in codecs.values()
    )


def _by_payload_type(attributes: Attributes, name: str) -> dict[int, str]:
    """The rest of each attribute *name* by the payload type it begins with; the first of several counts."""
    found: dict[int, str] = {}
    for value in _values(attributes, name):
        payload_type, _, rest = value.partition(" ")
        found.setdefault(_number(payload_type, 127, f"the payload type of an {name}"), rest.strip())
    return found


def _parse_rtpmap(value: str) -> tuple[str, int, int]:
    name, _, rest = value.partition("/")
    rate, _, channels = rest.partition("/")
    clock_rate = _number(rate, 1_000_000, "a clock rate")
    count = _number(channels, 255, "a number of channels") if channels else 1
    if not _TOKEN.fullmatch(name) or len(name) > 32 or clock_rate == 0 or count == 0:
        raise SdpError("an rtpmap is malformed")
    return name, clock_rate, count


def _parse_feedback(attributes: Attributes) -> dict[int | None, list[str]]:
    """The kinds of feedback by payload type (RFC 4585 §4.2); those for all of them under ``None``."""
    found: dict[int | None, list[str]] = {}
    for value in _values(attributes, "rtcp-fb"):
        payload_type, *kind = _words(value, 2, "an rtcp-fb")
        key = None if payload_type == "*" else _number(payload_type, 127, "the payload type of an rtcp-fb")
        found.setdefault(key, []).append(" ".join(kind))
    return found


def _parse_extensions(attributes: Attributes) -> dict[str, int]:
    """URI → identifier of the usable header extensions (RFC 8285 §5); a direction is not looked at."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for value in _values(attributes, "extmap"):
        number, uri, *_ = _words(value, 2, "an extmap")
        # Identifiers from 4096 on are offered for lack of room; no packet can carry them.
        identifier = _number(number.partition("/")[0], 0xFFFF, "the identifier of an extmap")
        if 1 <= identifier <= MAX_EXTENSION_ID and identifier not in taken and uri not in found:
            found[uri] = identifier
            taken.add(identifier)
    return found


def _parse_ssrcs(attributes: Attributes) -> tuple[tuple[int, int | None], ...]:
    """(media, its retransmission) in the order of the offer (RFC 5576 §4, RFC 4588 §8)."""
    rtx: dict[int, int] = {}
    for value in _values(attributes, "ssrc-group"):
        semantics, *numbers = value.split() or [""]
        if semantics == "FID" and len(numbers) == 2:
            rtx[_number(numbers[0], 0xFFFFFFFF, "an SSRC")] = _number(numbers[1], 0xFFFFFFFF, "an SSRC")
    words = (_words(value, 1, "an ssrc")[0] for value in _values(attributes, "ssrc"))
    named = dict.fromkeys(_number(word, 0xFFFFFFFF, "an SSRC") for word in words)
    if max(len(named), len(rtx)) > MAX_SOURCES:
        raise SdpError("too many SSRCs")
    retransmissions = set(rtx.values())
    return tuple((ssrc, rtx.get(ssrc)) for ssrc in named if ssrc not in retransmissions)


def _parse_rids(attributes: Attributes) -> tuple[str, ...]:
    """The identifiers of the encodings that the offerer would send (RFC 8851 §4)."""
    rids: list[str] = []
    for value in _values(attributes, "rid"):
        rid, direction, *_ = _words(value, 2, "a rid")
        if not _RID.fullmatch(rid):
            raise SdpError("a rid is malformed")
        if direction == "send":
            rids.append(rid)
    if len(rids) > MAX_SOURCES:
        raise SdpError("too many rids")
    return tuple(dict.fromkeys(rids))
