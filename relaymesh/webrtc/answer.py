"""SDP answers of a node (RFC 8829 §5.3, RFC 8839, RFC 9143): ICE lite, one port, one bundle.

In: the offer, what was decided about each of its sections, our credentials and
address. Out: the answer's text. It decides nothing itself but leaves out what
was not offered: extensions, feedback, reduced-size RTCP. Simulcast is not
accepted: a browser answered plainly sends one encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.sdp import MediaSection, SessionDescription

HOST_PRIORITY = 2130706431  # of the only candidate: RFC 8445 §5.1.2.1 for a host, local preference 65535

# Which directions may answer which (RFC 3264 §6.1).
_ANSWERS = {
    "sendrecv": ("sendonly", "recvonly", "inactive"),
    "sendonly": ("recvonly", "inactive"),
    "recvonly": ("sendonly", "inactive"),
    "inactive": ("inactive",),
}


@dataclass(frozen=True, slots=True)
class AnswerSection:
    """What is answered to one section of an offer."""

    offered: MediaSection
    direction: Literal["recvonly", "sendonly", "inactive"]  # as we see it
    codec: Codec | None = None  # one of the offered; None rejects the section
    extensions: Sequence[str] = ()  # URIs that are accepted if offered
    feedback: Sequence[str] = ()  # kinds ("nack pli") that are accepted if offered for the codec
    ssrc: int | None = None  # under which we send; None when we do not
    rtx_ssrc: int | None = None  # under which we retransmit; only with codec.rtx
    cname: str = ""  # canonical name of what we send; sources that share it are synchronised
    stream_label: str = ""  # the media stream and the track in it as the player's page sees them (RFC 8830)
    track_label: str = ""


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
) -> str:
    """The answer to *offer*: one of *sections* for each of its sections, in its order.

    *fingerprint* is the SHA-256 of our certificate as hex pairs with colons; *host* an IPv4 or IPv6
    address; *session_id* and *version* go into o=, the version rising with each answer of a session.
    """
    assert [s.offered.mid for s in sections] == [m.mid for m in offer.media], "one answer for each section"
    family = "IP6" if ":" in host else "IP4"
    accepted = [s.offered.mid for s in sections if s.codec is not None]
    lines = ["v=0", f"o=- {session_id} {version} IN {family} {host}", "s=-", "t=0 0", "a=ice-lite"]
    if offer.bundle and accepted:
        lines.append(" ".join(["a=group:BUNDLE", *accepted]))
    lines.append("a=msid-semantic: WMS *")
    transport = [
        f"c=IN {family} {host}",
        "a=rtcp-mux",
        f"a=ice-ufrag:{ufrag}",
        f"a=ice-pwd:{password}",
        f"a=fingerprint:sha-256 {fingerprint}",
        "a=setup:passive",
        f"a=candidate:1 1 udp {HOST_PRIORITY} {host} {port} typ host",
        "a=end-of-candidates",
    ]
    for section in sections:
        if section.codec is None:
            lines += _rejected(section.offered)
        else:
            lines += _accepted(section, section.codec, port, transport)
    return "\r\n".join(lines) + "\r\n"


def _rejected(offered: MediaSection) -> list[str]:
    lines = [
        f"m={offered.kind} 0 {offered.protocol} {' '.join(offered.formats)}",
        "c=IN IP4 0.0.0.0",
        "a=inactive",
    ]
    return [*lines, f"a=mid:{offered.mid}"] if offered.mid else lines


def _accepted(section: AnswerSection, codec: Codec, port: int, transport: list[str]) -> list[str]:
    offered = section.offered
    assert not offered.rejected, "what the offerer rejected stays rejected"
    assert section.direction in _ANSWERS[offered.direction], "the offer allows the direction"
    payload_types = [codec.payload_type] if codec.rtx is None else [codec.payload_type, codec.rtx]
    lines = [f"m={offered.kind} {port} {offered.protocol} {' '.join(map(str, payload_types))}", *transport]
    if any(name == "rtcp-rsize" for name, _ in offered.attributes):
        lines.append("a=rtcp-rsize")
    lines += [f"a=mid:{offered.mid}", f"a={section.direction}"]
    ids = offered.extensions
    lines += [f"a=extmap:{ids[uri]} {uri}" for uri in section.extensions if uri in ids]
    return lines + _formats(codec, section.feedback) + _sources(section)


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


def _sources(section: AnswerSection) -> list[str]:
    """Who sends what (RFC 5576, RFC 8830); nothing for a section that only receives."""
    if section.ssrc is None:
        return []
    msid = f"{section.stream_label} {section.track_label}"
    lines = [f"a=msid:{msid}"]
    sources = [section.ssrc]
    if section.rtx_ssrc is not None:
        lines.append(f"a=ssrc-group:FID {section.ssrc} {section.rtx_ssrc}")
        sources.append(section.rtx_ssrc)
    for ssrc in sources:
        lines += [f"a=ssrc:{ssrc} cname:{section.cname}", f"a=ssrc:{ssrc} msid:{msid}"]
    return lines
