"""Offers: of real clients, of hand-made ones, cut and mutated; what is missing, and bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiortc.sdp import SessionDescription as OtherSessionDescription
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc import rtp
from relaymesh.webrtc.errors import SdpError
from relaymesh.webrtc.sdp import MAX_BYTES, MAX_SECTIONS, parse_offer

DIRECTORY = Path(__file__).parents[1] / "vectors" / "sdp"
VECTORS = {path.stem: path.read_bytes().decode() for path in DIRECTORY.glob("*.sdp")}


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_agrees_with_another_parser(name):
    offer = parse_offer(VECTORS[name])
    other = OtherSessionDescription.parse(VECTORS[name])
    assert [m.kind for m in offer.media] == [m.kind for m in other.media]
    for ours, theirs in zip(offer.media, other.media, strict=True):
        assert (ours.mid, ours.port, ours.protocol) == (theirs.rtp.muxId, theirs.port, theirs.profile)
        if ours.kind == "application":
            continue
        assert ours.direction == (theirs.direction or "sendrecv")
        assert ours.extensions == {e.uri: e.id for e in theirs.rtp.headerExtensions if e.id <= 14}
        named = {c.payloadType: c for c in theirs.rtp.codecs if c.name.lower() != "rtx"}
        assert [c.payload_type for c in ours.codecs] == list(named)
        for codec in ours.codecs:
            their_codec = named[codec.payload_type]
            assert codec.name == their_codec.mimeType.partition("/")[2]
            assert (codec.clock_rate, codec.channels) == (their_codec.clockRate, their_codec.channels or 1)
            assert set(codec.feedback) == {
                f"{fb.type} {fb.parameter}" if fb.parameter else fb.type for fb in their_codec.rtcpFeedback
            }
    dtls = other.media[0].dtls
    assert (offer.ice_ufrag, offer.ice_password) == (
        other.media[0].ice.usernameFragment,
        other.media[0].ice.password,
    )
    assert set(offer.fingerprints) == {(f.algorithm, f.value) for f in dtls.fingerprints}


def test_a_chromium_publisher():
    offer = parse_offer(VECTORS["chromium-whip"])
    audio, video = offer.media
    assert (offer.setup, offer.bundle) == ("actpass", ("0", "1"))
    assert (audio.kind, audio.direction, audio.rejected, audio.bundle_only) == (
        "audio",
        "sendonly",
        False,
        False,
    )
    assert [(c.payload_type, c.name, c.channels, c.rtx) for c in audio.codecs[:1]] == [(111, "opus", 2, None)]
    assert audio.codecs[0].fmtp == "minptime=10;useinbandfec=1"
    vp8 = video.codecs[0]
    assert (vp8.payload_type, vp8.name, vp8.clock_rate, vp8.rtx) == (96, "VP8", 90_000, 97)
    assert vp8.feedback == ("goog-remb", "transport-cc", "ccm fir", "nack", "nack pli")
    assert not any(c.name == "rtx" for c in video.codecs)
    assert video.extensions[rtp.TRANSPORT_CC] == audio.extensions[rtp.TRANSPORT_CC] == 3
    [(media, rtx)] = video.ssrcs
    assert rtx is not None and media != rtx
    assert video.rids == ()


def test_a_simulcasting_publisher_names_rids_and_no_sources():
    video = parse_offer(VECTORS["chromium-whip-simulcast"]).media[1]
    assert (video.rids, video.ssrcs) == (("q", "h", "f"), ())
    assert ("simulcast", "send q;h;f") in video.attributes


def test_a_player_and_a_data_channel():
    assert [m.direction for m in parse_offer(VECTORS["chromium-whep"]).media] == ["recvonly", "recvonly"]
    data = parse_offer(VECTORS["chromium-data"]).media[2]
    assert (data.kind, data.formats, data.codecs) == ("application", ("webrtc-datachannel",), ())


def test_firefox_says_much_for_the_whole_session():
    offer = parse_offer(VECTORS["firefox-whip"])
    audio, video = offer.media
    assert [algorithm for algorithm, _ in offer.fingerprints] == ["sha-256"]
    assert audio.direction == "sendonly"
    assert audio.extensions["urn:ietf:params:rtp-hdrext:csrc-audio-level"] == 2
    assert [(c.payload_type, c.name, c.rtx) for c in video.codecs][:3] == [
        (120, "VP8", 124),
        (121, "VP9", 125),
        (126, "H264", 127),
    ]
    assert video.ssrcs == ((2918374650, 887162534),)


def test_gstreamer_bundles_a_section_at_port_zero():
    video, audio = parse_offer(VECTORS["gstreamer-whip-vp8"]).media
    assert (audio.port, audio.bundle_only, audio.rejected) == (0, True, False)
    assert (video.bundle_only, video.codecs[0].rtx) == (False, 97)


# One line of this offer at a time is changed or left out below.
SMALL = """\
v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE a v
a=ice-ufrag:abcd
a=ice-pwd:0123456789abcdefghijkl
a=setup:actpass
a=fingerprint:SHA-256 00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:TWICE
m=audio 9 UDP/TLS/RTP/SAVPF 0 96 97
a=mid:a
a=rtcp-mux
a=rtpmap:96 opus/48000/2
a=rtpmap:97 red/48000/2
m=video 9 UDP/TLS/RTP/SAVPF 98 99 70
a=mid:v
a=recvonly
a=rtcp-mux
a=rtpmap:98 VP8/90000
a=rtpmap:99 RTX/90000
a=rtpmap:70 H264/90000
a=fmtp:99 apt=98;rtx-time=200
a=rtcp-fb:98 nack
a=rtcp-fb:98 nack pli
a=rtcp-fb:* transport-cc
a=rtcp-fb:98 nack
a=extmap:1 urn:one
a=extmap:2/sendonly urn:two
a=extmap:15 urn:too-high
a=extmap:1 urn:taken
a=rid:hi send
a=rid:back recv pt=98
a=ssrc-group:FID 1 2
a=ssrc:1 cname:x
a=ssrc:2 cname:x
a=ssrc:3
""".replace("TWICE", "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff")


def test_a_small_offer():
    offer = parse_offer(SMALL)
    audio, video = offer.media
    assert (offer.ice_ufrag, offer.ice_password) == ("abcd", "0123456789abcdefghijkl")
    assert offer.fingerprints == (
        ("sha-256", ":".join(["00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"] * 2)),
    )
    assert (audio.direction, video.direction) == ("sendrecv", "recvonly")
    assert [c.payload_type for c in audio.codecs] == [96, 97]  # 0 has no rtpmap
    [vp8] = video.codecs  # 70 looks like RTCP
    assert (vp8.rtx, vp8.feedback) == (99, ("nack", "nack pli", "transport-cc"))
    assert video.extensions == {"urn:one": 1, "urn:two": 2}
    assert video.rids == ("hi",)
    assert video.ssrcs == ((1, 2), (3, None))
    assert parse_offer(SMALL.replace("\n", "\r\n") + "\r\n\r\n") == offer


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v=0\n", ""),
        ("v=0", "v=1"),
        ("s=-", "s"),
        ("s=-", "s=\x00"),
        ("s=-", "s=one\rtwo"),
        ("a=group:BUNDLE a v\n", ""),
        ("a=group:BUNDLE a v", "a=group:BUNDLE a"),
        ("a=group:BUNDLE a v", "a=group:"),
        ("a=ice-ufrag:abcd\n", ""),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:abc"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:ab:cd"),
        ("a=ice-pwd:0123456789abcdefghijkl\n", ""),
        ("a=ice-pwd:0123456789abcdefghijkl", "a=ice-pwd:short"),
        ("a=ice-pwd:0123456789abcdefghijkl", "a=ice-pwd:" + "x" * 257),
        ("a=fingerprint:SHA-256 ", "a=fingerprintless:"),
        ("a=fingerprint:SHA-256 00:", "a=fingerprint:SHA-256 0:"),
        ("a=fingerprint:SHA-256 ", "a=fingerprint:"),
        ("a=setup:actpass", "a=setup:holdconn"),
        ("a=setup:actpass", "a=setup:"),
        ("m=audio 9", "m=audio x"),
        ("m=audio 9", "m=audio 65536"),
        ("m=audio 9", "m=audío 9"),
        ("m=audio 9", "m=audio ٣"),
        ("m=audio 9 UDP/TLS/RTP/SAVPF 0 96 97", "m=audio 9 UDP/TLS/RTP/SAVPF"),
        ("SAVPF 0 96 97", "SAVPF 0 96 x"),
        ("SAVPF 0 96 97", "SAVPF 0 96 128"),
        ("a=mid:a\n", ""),
        ("a=mid:a", "a=mid:a b"),
        ("a=mid:a", "a=mid:v"),
        ("a=mid:a", "a=mid:" + "m" * 65),
        ("a=rtcp-mux\n", ""),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96"),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:x opus/48000/2"),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96 opus"),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96 opus/0"),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96 opus/48000/0"),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96 opus/48000000"),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96 o pus/48000"),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96 " + "o" * 33 + "/48000"),
        ("a=rtpmap:96 opus/48000/2", "a=rtpmap:96 opus/" + "9" * 5000),
        ("a=fmtp:99 apt=98;rtx-time=200", "a=fmtp:98 " + "x" * 513),
        ("a=fmtp:99 apt=98;rtx-time=200", "a=fmtp:98 \N{LATIN SMALL LETTER U WITH DIAERESIS}"),
        ("a=rtcp-fb:98 nack pli", "a=rtcp-fb:98"),
        ("a=rtcp-fb:98 nack pli", "a=rtcp-fb:x nack"),
        ("a=rtcp-fb:98 nack pli", "\n".join(f"a=rtcp-fb:* kind-{i}" for i in range(40))),
        ("a=extmap:1 urn:one", "a=extmap:1"),
        ("a=extmap:1 urn:one", "a=extmap:one urn:one"),
        ("a=rid:hi send", "a=rid:hi"),
        ("a=rid:hi send", "a=rid:h;i send"),
        ("a=rid:hi send", "\n".join(f"a=rid:{i} send" for i in range(100))),
        ("a=ssrc:3", "a=ssrc:"),
        ("a=ssrc:3", "a=ssrc:-1"),
        ("a=ssrc:3", "a=ssrc:4294967296"),
        ("a=ssrc:3", "\n".join(f"a=ssrc:{i}" for i in range(100))),
        ("a=ssrc-group:FID 1 2", "a=ssrc-group:FID 1 two"),
    ],
)
def test_a_fault_is_an_sdp_error(old, new):
    assert old in SMALL
    with pytest.raises(SdpError):
        parse_offer(SMALL.replace(old, new, 1))


def test_whoever_waits_for_our_hello_makes_us_the_dtls_client():
    offer = parse_offer(SMALL.replace("a=setup:actpass", "a=setup:passive"))
    assert (offer.setup, offer.dtls_role) == ("passive", "client")
    assert parse_offer(SMALL).dtls_role == "server"
    assert parse_offer(SMALL.replace("a=setup:actpass", "a=setup:active")).dtls_role == "server"
    assert parse_offer(SMALL.replace("a=setup:actpass\n", "")).dtls_role == "server"


def test_an_ice_lite_agent_is_told_why_not():
    with pytest.raises(SdpError, match="nobody would make checks"):
        parse_offer(SMALL.replace("t=0 0\n", "t=0 0\na=ice-lite\n"))


def test_letter_case_and_the_order_of_parameters_do_not_matter():
    offer = parse_offer(
        SMALL.replace("m=video", "m=Video")
        .replace("VP8/90000", "vP8/90000")
        .replace("apt=98;rtx-time=200", "rtx-time=200; APT=98")
        .replace("setup:actpass", "setup:ActPass")
    )
    video = offer.media[1]
    assert (video.kind, offer.setup) == ("video", "actpass")
    assert [(c.name, c.rtx) for c in video.codecs] == [("vP8", 99)]


def test_extensions_of_the_session_hold_for_its_sections():
    text = SMALL.replace("t=0 0\n", "t=0 0\na=extmap:1 urn:session\na=extmap:7 urn:both\n")
    audio, video = parse_offer(text.replace("a=extmap:2/sendonly urn:two", "a=extmap:2 urn:both")).media
    assert audio.extensions == {"urn:session": 1, "urn:both": 7}
    assert video.extensions == {"urn:one": 1, "urn:both": 2}  # a section's own goes first


@pytest.mark.parametrize(
    ("before", "expected"),
    [("t=0 0\n", [True, True]), ("a=mid:v\n", [False, True]), ("a=mid:none\n", [False, False])],
)
def test_mixed_extensions_are_allowed_for_the_session_or_a_section(before, expected):
    media = parse_offer(SMALL.replace(before, before + "a=extmap-allow-mixed\n")).media
    assert [section.mixes_extensions for section in media] == expected


def test_a_data_channel_says_where_and_how_much():
    data = parse_offer(VECTORS["chromium-data"]).media[2]
    assert (data.sctp_port, data.max_message_bytes) == (5000, 262144)
    alone = SMALL[: SMALL.index("m=audio")].replace("a=group:BUNDLE a v\n", "")
    section = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:d\n"
    assert parse_offer(alone + section).media[0].sctp_port is None
    assert parse_offer(alone + section + "a=sctp-port:1\n").media[0].max_message_bytes == 65536


def test_bounds():
    with pytest.raises(SdpError):
        parse_offer(SMALL + "a=x:" + "y" * MAX_BYTES)
    with pytest.raises(SdpError):
        parse_offer(SMALL + "i=" + "ü" * (MAX_BYTES // 2))
    rejected = "m=audio 0 UDP/TLS/RTP/SAVPF 0\n"
    assert len(parse_offer(SMALL + rejected * (MAX_SECTIONS - 2)).media) == MAX_SECTIONS
    with pytest.raises(SdpError):
        parse_offer(SMALL + rejected * (MAX_SECTIONS - 1))


def test_rejected_sections_need_nothing_but_something_must_be_offered():
    offer = parse_offer(SMALL.replace("m=audio 9", "m=audio 0").replace("a=mid:a\na=rtcp-mux\n", "", 1))
    assert (offer.media[0].rejected, offer.media[0].mid) == (True, "")
    with pytest.raises(SdpError):
        parse_offer(SMALL.replace("m=audio 9", "m=audio 0").replace("m=video 9", "m=video 0"))


def test_one_section_needs_no_bundle():
    offer = parse_offer(SMALL[: SMALL.index("m=video")].replace("a=group:BUNDLE a v\n", ""))
    assert offer.bundle == ()


def test_the_first_section_of_the_bundle_speaks_for_all():
    own = "a=mid:v\na=ice-ufrag:wxyz\na=setup:active"
    text = SMALL.replace("a=mid:v", own)
    assert (parse_offer(text).ice_ufrag, parse_offer(text).setup) == ("abcd", "actpass")
    text = text.replace("BUNDLE a v", "BUNDLE v a")
    assert (parse_offer(text).ice_ufrag, parse_offer(text).setup) == ("wxyz", "active")


@given(st.one_of(st.text(max_size=200), st.text(max_size=200).map(lambda text: "v=0\n" + text)))
def test_whatever_the_text_only_sdp_error(text):
    with pytest.raises(SdpError):
        parse_offer(text)


# Every attribute this module reads, with values from plausible to absurd.
names = st.sampled_from(
    ["mid", "rtpmap", "fmtp", "rtcp-fb", "extmap", "ssrc", "ssrc-group", "rid", "simulcast", "sctp-port"]
) | st.sampled_from(
    [
        "max-message-size",
        "extmap-allow-mixed",
        "ice-lite",
        "group",
        "ice-ufrag",
        "ice-pwd",
        "fingerprint",
        "setup",
        "rtcp-mux",
    ]
)
words = st.sampled_from(
    ["96", "98", "*", "-1", "99999", "opus/48000/2", "VP8/x", "apt=98", "send", "FID", "BUNDLE", "a"]
)
values = st.lists(words | st.text(max_size=5), max_size=4).map(" ".join)
attributes = st.builds("a={}:{}".format, names, values)


@given(st.lists(attributes, max_size=4), st.data())
def test_odd_attributes_raise_only_sdp_error(odd, data):
    lines = SMALL.split("\n")
    for line in odd:
        lines.insert(data.draw(st.integers(1, len(lines))), line)
    try:
        parse_offer("\n".join(lines))
    except SdpError:
        pass


@given(st.sampled_from(sorted(VECTORS)), st.data())
def test_mutated_offers_raise_only_sdp_error(name, data):
    text = VECTORS[name]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 40)) :]
    try:
        parse_offer(text)
    except SdpError:
        pass
