"""SDP answers of a node (RFC 8829 §5.3, RFC 8839, RFC 9143): ICE lite, one port, one bundle.

In: the offer, what was decided about each of its sections, our credentials and
addresses. Out: the answer's text. It decides nothing itself but leaves out what
was not offered: extensions, feedback, reduced-size RTCP, rids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from relaymesh.webrtc.addresses import bare, is_stream
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.sdp import MediaSection, SessionDescription
from relaymesh.webrtc.sdp_simulcast import Rid

# RFC 8445 §5.1.2.1: type preference 126 for a host, local preference from 65535 down, component 1.
HOST_PRIORITY = 2130706431
# RFC 6544 §4.2: below all UDP, as browsers rank TCP hosts (90); we are passive, 4 of 7 among directions.
TCP_PRIORITY = 90 << 24 | (4 << 13 | 0x1FFF) << 8 | 255
MAX_ADDRESSES = 18  # candidates of a node

# Which directions may answer which (RFC 3264 §6.1).
_ANSWERS = {
    "sendrecv": ("sendrecv", "sendonly", "recvonly", "inactive"),
    "sendonly": ("recvonly", "inactive"),
    "recvonly": ("sendonly", "inactive"),
    "inactive": ("inactive",),
}


# RTCP has no port of its own, whatever happens (RFC 8858 §3; WHIP, RFC 9725 §4.4.1, demands both lines).
_MUX = ("a=rtcp-mux", "a=rtcp-mux-only")


@dataclass(frozen=True, slots=True)
class AnswerSection:
    """What is answered to one section of an offer."""

    offered: MediaSection
    direction: Literal["sendrecv", "recvonly", "sendonly", "inactive"]  # as we see it
    codec: Codec | None = None  # one of the offered; None rejects the section, unless it has a data channel
    extensions: Sequence[str] = ()  # URIs that are accepted if offered
    feedback: Sequence[str] = ()  # kinds ("nack pli") that are accepted if offered for the codec
    ssrc: int | None = None  # under which we send; None when we do not
    rtx_ssrc: int | None = None  # under which we retransmit; only with codec.rtx
    cname: str = ""  # canonical name of what we send; sources that share it are synchronised
    stream_label: str = ""  # the media stream and the track in it as the player's page sees them (RFC 8830)
    track_label: str = ""
    further_codecs: Sequence[Codec] = ()  # others of the offered that are accepted too: opus behind red
    rids: Sequence[str] = ()  # of the offered encodings that we receive; empty: one encoding
    sctp_port: int | None = None  # accepts a data channel (RFC 8841); None in all other sections
    max_message_bytes: int = 0  # that we take over it; 0: of any size

    @property
    def accepted(self) -> bool:
        """Whether the section is answered with a port."""
        return self.codec is not None or self.sctp_port is not None


def build_answer(
    offer: SessionDescription,
    sections: Sequence[AnswerSection],
    *,
    ufrag: str,
    password: str,
    fingerprint: str,
    host: str,
    port: int,
    session_id: int,
    version: int = 1,
    further_addresses: Sequence[tuple[str, int]] = (),
    dtls_role: Literal["server", "client"] | None = None,
) -> str:
    """The answer to *offer*: one of *sections* for each of its sections, in its order.

    *fingerprint* is the SHA-256 of our certificate as hex pairs with colons; *host* an IPv4 or IPv6
    address, and *further_addresses* the others under which the same port is reached, by preference,
    and where streams are taken (:func:`~relaymesh.webrtc.addresses.stream_address`);
    *session_id* and *version* go into o=, the version rising with each answer of a session.
    *dtls_role* is ours if it was settled before; else the offer decides.
    """
    assert [s.offered.mid for s in sections] == [m.mid for m in offer.media], "one answer for each section"
    role = dtls_role or offer.dtls_role
    assert offer.setup == "actpass" or role == offer.dtls_role, "the offer allows our DTLS role"
    family = "IP6" if ":" in host else "IP4"
    accepted = [s.offered.mid for s in sections if s.accepted]
    lines = ["v=0", f"o=- {session_id} {version} IN {family} {host}", "s=-", "t=0 0", "a=ice-lite"]
    if offer.bundle and accepted:
        lines.append(" ".join(["a=group:BUNDLE", *accepted]))
    lines.append("a=msid-semantic: WMS *")
    transport = [
        f"a=ice-ufrag:{ufrag}",
        f"a=ice-pwd:{password}",
        f"a=fingerprint:sha-256 {fingerprint}",
        f"a=setup:{'passive' if role == 'server' else 'active'}",
        *candidates([(host, port), *further_addresses]),
        "a=end-of-candidates",
    ]
    connection = f"c=IN {family} {host}"
    for section in sections:
        if section.codec is not None:
            lines += _media(section, section.codec, port, [connection, *_MUX, *transport])
        elif section.sctp_port is not None:
            lines += _data(section, section.sctp_port, port, [connection, *transport])
        else:
            lines += _rejected(section.offered)
    return "\r\n".join(lines) + "\r\n"


def candidates(addresses: Sequence[tuple[str, int]]) -> Iterator[str]:
    """A host candidate for each address; foundations differ, since bases do (RFC 8445 §5.1.1.3).

    Where we listen for streams it is a passive one (RFC 6544 §4.5).
    """
    assert len(addresses) <= MAX_ADDRESSES, "a node has a few addresses"
    for index, address in enumerate(dict.fromkeys(addresses)):
        host, port = bare(address)
        if is_stream(address):
            priority = TCP_PRIORITY - (index << 8)
            yield f"a=candidate:{index + 1} 1 tcp {priority} {host} {port} typ host tcptype passive"
        else:
            yield f"a=candidate:{index + 1} 1 udp {HOST_PRIORITY - (index << 8)} {host} {port} typ host"


def _rejected(offered: MediaSection) -> list[str]:
    lines = [
        f"m={offered.kind} 0 {offered.protocol} {' '.join(offered.formats)}",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
    ]
    return [*lines, f"a=mid:{offered.mid}"] if offered.mid else lines


def _data(section: AnswerSection, sctp_port: int, port: int, transport: list[str]) -> list[str]:
    offered = section.offered
    assert offered.sctp_port is not None, "a data channel was offered"
    assert not offered.rejected, "what the offerer rejected stays rejected"
    return [
        f"m={offered.kind} {port} {offered.protocol} {' '.join(offered.formats)}",
        *transport,
        f"a=mid:{offered.mid}",
        f"a=sctp-port:{sctp_port}",
        f"a=max-message-size:{section.max_message_bytes}",
    ]


def _media(section: AnswerSection, codec: Codec, port: int, transport: list[str]) -> list[str]:
    offered = section.offered
    assert not offered.rejected, "what the offerer rejected stays rejected"
    assert section.direction in _ANSWERS[offered.direction], "the offer allows the direction"
    codecs = (codec, *section.further_codecs)
    payload_types = [n for c in codecs for n in (c.payload_type, c.rtx) if n is not None]
    lines = [f"m={offered.kind} {port} {offered.protocol} {' '.join(map(str, payload_types))}", *transport]
    if any(name == "rtcp-rsize" for name, _ in offered.attributes):
        lines.append("a=rtcp-rsize")
    lines += [f"a=mid:{offered.mid}", f"a={section.direction}"]
    if offered.mixes_extensions:
        lines.append("a=extmap-allow-mixed")
    ids = offered.extensions
    lines += [f"a=extmap:{ids[uri]} {uri}" for uri in section.extensions if uri in ids]
    for each in codecs:
        lines += _formats(each, section.feedback)
    return lines + _simulcast(section, payload_types) + _sources(section)


def _formats(codec: Codec, feedback: Sequence[str]) -> list[str]:
    number = codec.payload_type
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    lines = [f"a=rtpmap:{number} {codec.name}/{codec.clock_rate}{channels}"]
    lines += [f"a=rtcp-fb:{number} {kind}" for kind in codec.feedback if kind in feedback]
    if codec.fmtp:
        lines.append(f"a=fmtp:{number} {codec.fmtp}")
    if codec.rtx is not None:
        lines += [f"a=rtpmap:{codec.rtx} rtx/{codec.clock_rate}", f"a=fmtp:{codec.rtx} apt={number}"]
    return lines


def _simulcast(section: AnswerSection, payload_types: Sequence[int]) -> list[str]:
    """The encodings we receive: the offerer's streams and alternatives in its order (RFC 8853 §5.3.2).

    None of them is paused by the answer: demand for an encoding changes faster than descriptions.
    """
    offered = section.offered
    taken = [rid for rid in offered.rid_lines if rid.name in section.rids and _usable(rid, payload_types)]
    if not taken:
        return []
    lines = [f"a=rid:{rid.name} recv{_restrictions(rid, payload_types)}" for rid in taken]
    names = {rid.name for rid in taken}
    streams = [",".join(a.rid for a in stream if a.rid in names) for stream in offered.simulcast]
    if any(streams):
        lines.append(f"a=simulcast:recv {';'.join(filter(None, streams))}")
    return lines


def _usable(rid: Rid, payload_types: Sequence[int]) -> bool:
    return not rid.payload_types or any(number in payload_types for number in rid.payload_types)


def _restrictions(rid: Rid, payload_types: Sequence[int]) -> str:
    """What the offer binds the encoding to, which an answer may not loosen (RFC 8851 §6.3)."""
    kept = list(rid.restrictions)
    if rid.payload_types:
        kept.insert(0, "pt=" + ",".join(str(n) for n in rid.payload_types if n in payload_types))
    return f" {';'.join(kept)}" if kept else ""


def _sources(section: AnswerSection) -> list[str]:
    """Who sends what (RFC 5576, RFC 8830); nothing for a section that only receives."""
    if section.ssrc is None:
        return []
    assert section.direction in ("sendrecv", "sendonly"), "who sends nothing has no source"
    msid = f"{section.stream_label} {section.track_label}"
    lines = [f"a=msid:{msid}"]
    sources = [section.ssrc]
    if section.rtx_ssrc is not None:
        lines.append(f"a=ssrc-group:FID {section.ssrc} {section.rtx_ssrc}")
        sources.append(section.rtx_ssrc)
    for ssrc in sources:
        lines += [f"a=ssrc:{ssrc} cname:{section.cname}", f"a=ssrc:{ssrc} msid:{msid}"]
    return lines
