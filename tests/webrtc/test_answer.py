"""Answers: one word for word, those to real offers through another parser, and what they leave out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from aiortc.sdp import SessionDescription as OtherSessionDescription

from relaymesh.webrtc import rtp
from relaymesh.webrtc.addresses import stream_address
from relaymesh.webrtc.answer import AnswerSection, build_answer
from relaymesh.webrtc.codecs import choose_codec
from relaymesh.webrtc.sdp import MediaSection, SessionDescription, parse_offer

DIRECTORY = Path(__file__).parents[1] / "vectors" / "sdp"
VECTORS = {path.stem: path.read_bytes().decode() for path in DIRECTORY.glob("*.sdp")}
FINGERPRINT = ":".join(f"{i:02X}" for i in range(32))
EXTENSIONS = (rtp.MID, rtp.TRANSPORT_CC, rtp.AUDIO_LEVEL, rtp.VIDEO_ORIENTATION)
FEEDBACK = ("transport-cc", "nack", "nack pli")


def answer_to(
    offer: SessionDescription, sections: list[AnswerSection], host: str = "192.0.2.1", **more: object
) -> str:
    return build_answer(
        offer,
        sections,
        ufrag="ourufrag",
        password="our-password-of-24-chars",
        fingerprint=FINGERPRINT,
        host=host,
        port=4000,
        session_id=1234,
        **more,
    )


def section(offered: MediaSection) -> AnswerSection:
    """What a node would answer: take what is sent, send where something is received."""
    codec = choose_codec(offered.kind, offered.codecs)
    sends = offered.direction == "recvonly"
    if codec is None or offered.rejected:
        return AnswerSection(offered, "inactive")
    return AnswerSection(
        offered,
        "sendonly" if sends else "recvonly",
        codec,
        EXTENSIONS,
        FEEDBACK,
        ssrc=(333 if offered.kind == "audio" else 111) if sends else None,
        rtx_ssrc=222 if sends and codec.rtx is not None else None,
        cname="name",
        stream_label="alice",
        track_label=f"alice-{offered.kind}",
    )


SMALL_OFFER = """\
v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE a v d
a=ice-ufrag:abcd
a=ice-pwd:0123456789abcdefghijkl
a=setup:actpass
a=fingerprint:sha-1 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33
m=audio 9 UDP/TLS/RTP/SAVPF 96
a=mid:a
a=sendonly
a=rtcp-mux
a=rtpmap:96 opus/48000/2
a=fmtp:96 minptime=10
a=rtcp-fb:96 transport-cc
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
m=video 9 UDP/TLS/RTP/SAVPF 98 99
a=mid:v
a=recvonly
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:98 VP8/90000
a=rtpmap:99 rtx/90000
a=fmtp:99 apt=98
a=rtcp-fb:98 nack
a=rtcp-fb:98 nack rpsi
a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:4 urn:something-else
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=mid:d
a=sctp-port:5000
"""

SMALL_ANSWER = """\
v=0
o=- 1234 1 IN IP4 192.0.2.1
s=-
t=0 0
a=ice-lite
a=group:BUNDLE a v
a=msid-semantic: WMS *
m=audio 4000 UDP/TLS/RTP/SAVPF 96
TRANSPORT
a=mid:a
a=recvonly
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
a=rtpmap:96 opus/48000/2
a=rtcp-fb:96 transport-cc
a=fmtp:96 minptime=10
m=video 4000 UDP/TLS/RTP/SAVPF 98 99
TRANSPORT
a=rtcp-rsize
a=mid:v
a=sendonly
a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid
a=rtpmap:98 VP8/90000
a=rtcp-fb:98 nack
a=rtpmap:99 rtx/90000
a=fmtp:99 apt=98
a=msid:alice alice-video
a=ssrc-group:FID 111 222
a=ssrc:111 cname:name
a=ssrc:111 msid:alice alice-video
a=ssrc:222 cname:name
a=ssrc:222 msid:alice alice-video
m=application 0 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=inactive
a=mid:d
"""

TRANSPORT = f"""\
c=IN IP4 192.0.2.1
a=rtcp-mux
a=rtcp-mux-only
a=ice-ufrag:ourufrag
a=ice-pwd:our-password-of-24-chars
a=fingerprint:sha-256 {FINGERPRINT}
a=setup:passive
a=candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host
a=end-of-candidates
"""


def test_an_answer_word_for_word():
    offer = parse_offer(SMALL_OFFER)
    answer = answer_to(offer, [section(m) for m in offer.media])
    assert answer == SMALL_ANSWER.replace("TRANSPORT\n", TRANSPORT).replace("\n", "\r\n")


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_another_parser_reads_the_answer_to_a_real_offer(name):
    offer = parse_offer(VECTORS[name])
    sections = [section(m) for m in offer.media]
    other = OtherSessionDescription.parse(answer_to(offer, sections))
    assert [m.kind for m in other.media] == [m.kind for m in offer.media]
    assert other.group[0].items == [s.offered.mid for s in sections if s.codec]
    for ours, theirs in zip(sections, other.media, strict=True):
        if ours.codec is None:
            assert theirs.port == 0
            continue
        assert (theirs.direction, theirs.rtp.muxId, theirs.port) == (ours.direction, ours.offered.mid, 4000)
        codecs = {c.payloadType: c.name for c in theirs.rtp.codecs}
        assert codecs.pop(ours.codec.payload_type) == ours.codec.name
        assert list(codecs) == ([] if ours.codec.rtx is None else [ours.codec.rtx])
        assert {e.uri: e.id for e in theirs.rtp.headerExtensions} == {
            uri: number for uri, number in ours.offered.extensions.items() if uri in EXTENSIONS
        }
        assert (theirs.ice.usernameFragment, theirs.ice.iceLite) == ("ourufrag", True)
        assert (theirs.rtcp_mux, theirs.ice_candidates_complete) == (True, True)
        assert theirs.dtls.role == offer.dtls_role, "which is ours"
        assert [(c.ip, c.port, c.type) for c in theirs.ice_candidates] == [("192.0.2.1", 4000, "host")]
        assert [s.ssrc for s in theirs.ssrc] == [n for n in (ours.ssrc, ours.rtx_ssrc) if n is not None]


def test_simulcast_is_not_accepted():
    offer = parse_offer(VECTORS["chromium-whip-simulcast"])
    answer = answer_to(offer, [section(m) for m in offer.media])
    assert "a=rid" not in answer and "a=simulcast" not in answer


def test_an_ipv6_host():
    offer = parse_offer(SMALL_OFFER)
    answer = answer_to(offer, [section(m) for m in offer.media], host="2001:db8::1")
    assert "c=IN IP6 2001:db8::1\r\n" in answer
    assert "udp 2130706431 2001:db8::1 4000 typ host" in answer


def test_all_rejected_leaves_no_bundle():
    offer = parse_offer(SMALL_OFFER)
    answer = answer_to(offer, [AnswerSection(m, "inactive") for m in offer.media])
    assert "BUNDLE" not in answer
    assert [line.split()[1] for line in answer.splitlines() if line.startswith("m=")] == ["0", "0", "0"]


def test_one_section_without_bundle_is_answered_without():
    text = SMALL_OFFER[: SMALL_OFFER.index("m=video")].replace("a=group:BUNDLE a v d\n", "")
    offer = parse_offer(text)
    assert "BUNDLE" not in answer_to(offer, [section(offer.media[0])])


def test_what_the_offer_does_not_allow_is_our_fault():
    offer = parse_offer(SMALL_OFFER)
    good = [section(m) for m in offer.media]
    wrong_way = AnswerSection(offer.media[0], "sendonly", good[0].codec)
    for sections in (good[:2], good[::-1], [wrong_way, *good[1:]]):
        with pytest.raises(AssertionError):
            answer_to(offer, sections)


def test_a_passive_offer_is_answered_actively():
    offer = parse_offer(SMALL_OFFER.replace("setup:actpass", "setup:passive"))
    answer = answer_to(offer, [section(m) for m in offer.media])
    assert answer.count("a=setup:active\r\n") == 2
    assert "a=setup:passive" not in answer
    offer = parse_offer(SMALL_OFFER.replace("setup:actpass", "setup:active"))
    assert answer_to(offer, [section(m) for m in offer.media]).count("a=setup:passive\r\n") == 2


def test_a_role_that_is_settled_stays():
    offer = parse_offer(SMALL_OFFER)
    answer = answer_to(offer, [section(m) for m in offer.media], dtls_role="client")
    assert answer.count("a=setup:active\r\n") == 2
    passive = parse_offer(SMALL_OFFER.replace("setup:actpass", "setup:passive"))
    with pytest.raises(AssertionError, match="role"):
        answer_to(passive, [section(m) for m in passive.media], dtls_role="server")


def test_every_advertised_address_is_a_candidate():
    offer = parse_offer(SMALL_OFFER)
    addresses = [("10.0.0.1", 4000), ("2001:db8::1", 4000), ("192.0.2.1", 4000)]
    answer = answer_to(offer, [section(m) for m in offer.media], further_addresses=addresses)
    assert answer.count("a=end-of-candidates") == 2
    candidates = [line for line in answer.splitlines() if line.startswith("a=candidate")]
    assert candidates[:3] == candidates[3:]
    assert candidates[:3] == [
        "a=candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host",
        "a=candidate:2 1 udp 2130706175 10.0.0.1 4000 typ host",
        "a=candidate:3 1 udp 2130705919 2001:db8::1 4000 typ host",
    ]
    other = OtherSessionDescription.parse(answer)
    assert [c.ip for c in other.media[0].ice_candidates] == ["192.0.2.1", "10.0.0.1", "2001:db8::1"]


def test_where_streams_are_taken_is_a_passive_candidate_below_all_datagrams():
    """RFC 6544 §4.5 has the line, §4.2 the priority: 90 · 2²⁴ + (4 · 2¹³ + 8191) · 2⁸ + 255, less places."""
    offer = parse_offer(SMALL_OFFER)
    addresses = [("10.0.0.1", 4000), stream_address("192.0.2.1", 4000), stream_address("2001:db8::1", 4000)]
    answer = answer_to(offer, [section(m) for m in offer.media], further_addresses=addresses)
    assert [line for line in answer.splitlines() if line.startswith("a=candidate")][:4] == [
        "a=candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host",
        "a=candidate:2 1 udp 2130706175 10.0.0.1 4000 typ host",
        "a=candidate:3 1 tcp 1520434687 192.0.2.1 4000 typ host tcptype passive",
        "a=candidate:4 1 tcp 1520434431 2001:db8::1 4000 typ host tcptype passive",
    ]
    other = OtherSessionDescription.parse(answer)
    assert [c.protocol for c in other.media[0].ice_candidates] == ["udp", "udp", "tcp", "tcp"]
    assert {c.tcpType for c in other.media[0].ice_candidates if c.protocol == "tcp"} == {"passive"}


def test_both_ways_in_one_section():
    offer = parse_offer(SMALL_OFFER.replace("a=mid:v\na=recvonly", "a=mid:v\na=sendrecv"))
    audio, video, data = (section(m) for m in offer.media)
    both = replace(video, direction="sendrecv", ssrc=111, stream_label="alice", track_label="t")
    answer = answer_to(offer, [audio, both, data])
    assert "a=mid:v\r\na=sendrecv\r\n" in answer
    assert "a=ssrc:111 cname:" in answer


def test_a_source_needs_a_direction():
    offer = parse_offer(SMALL_OFFER)
    audio, *others = (section(m) for m in offer.media)
    with pytest.raises(AssertionError, match="no source"):
        answer_to(offer, [replace(audio, ssrc=1), *others])


def test_more_than_one_codec():
    offer = parse_offer(VECTORS["chromium-whip"])
    audio, video = offer.media
    named = {codec.name: codec for codec in (*video.codecs, *audio.codecs)}
    sections = [
        AnswerSection(audio, "recvonly", named["red"], further_codecs=[named["opus"]]),
        AnswerSection(video, "recvonly", named["VP8"], further_codecs=[named["VP9"]], feedback=["nack"]),
    ]
    theirs = OtherSessionDescription.parse(answer_to(offer, sections)).media
    assert [c.name for c in theirs[0].rtp.codecs] == ["red", "opus"]
    assert [c.name for c in theirs[1].rtp.codecs] == ["VP8", "rtx", "VP9", "rtx"]
    assert all(c.rtcpFeedback for c in theirs[1].rtp.codecs if c.name != "rtx")


def test_mixed_extensions_are_allowed_when_offered():
    offer = parse_offer(VECTORS["chromium-whip"])
    assert answer_to(offer, [section(m) for m in offer.media]).count("a=extmap-allow-mixed") == 2
    offer = parse_offer(SMALL_OFFER)
    assert "a=extmap-allow-mixed" not in answer_to(offer, [section(m) for m in offer.media])


def test_a_data_channel_is_accepted_when_the_caller_says_so():
    offer = parse_offer(VECTORS["chromium-data"])
    sections = [section(m) for m in offer.media]
    data = AnswerSection(offer.media[2], "inactive", sctp_port=5001, max_message_bytes=1000)
    answer = answer_to(offer, [*sections[:2], data])
    other = OtherSessionDescription.parse(answer)
    theirs = other.media[2]
    assert (theirs.kind, theirs.port, theirs.profile) == ("application", 4000, "UDP/DTLS/SCTP")
    assert (theirs.sctp_port, theirs.sctpCapabilities.maxMessageSize) == (5001, 1000)
    assert (theirs.ice.usernameFragment, theirs.dtls.role) == ("ourufrag", "server")
    assert other.group[0].items == [m.mid for m in offer.media]
    assert "a=rtcp-mux" not in answer[answer.index("m=application") :]


def test_a_data_channel_that_was_not_offered_is_our_fault():
    offer = parse_offer(SMALL_OFFER)
    audio, *others = (section(m) for m in offer.media)
    with pytest.raises(AssertionError, match="was offered"):
        answer_to(offer, [replace(audio, codec=None, sctp_port=5000), *others])
