"""Encodings in offers and answers: rids, their streams and alternatives, SSRC groups, and bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc import rtp
from relaymesh.webrtc.answer import AnswerSection, build_answer
from relaymesh.webrtc.errors import SdpError
from relaymesh.webrtc.sdp import MAX_BYTES, parse_offer
from relaymesh.webrtc.sdp_simulcast import MAX_RIDS, Alternative, Rid

DIRECTORY = Path(__file__).parents[1] / "vectors" / "sdp"

OFFER = """\
v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=ice-ufrag:abcd
a=ice-pwd:0123456789abcdefghijkl
a=fingerprint:sha-1 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33
m=video 9 UDP/TLS/RTP/SAVPF 96 97 98
a=mid:v
a=sendonly
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:98 H264/90000
"""


def video(lines: str = ""):
    return parse_offer(OFFER + lines).media[0]


def answer(lines: str, rids: tuple[str, ...], codec: int = 0) -> list[str]:
    offer = parse_offer(OFFER + lines)
    (section,) = offer.media
    text = build_answer(
        offer,
        [AnswerSection(section, "recvonly", section.codecs[codec], (rtp.MID,), rids=rids)],
        ufrag="ourufrag",
        password="our-password-of-24-chars",
        fingerprint="AA:BB",
        host="192.0.2.1",
        port=4000,
        session_id=1,
    )
    return [line for line in text.split("\r\n") if line.startswith(("a=rid", "a=simulcast"))]


def rid_lines(*names: str) -> str:
    return "".join(f"a=rid:{name} send\n" for name in names)


def test_chromium_offers_three_encodings_and_is_answered_with_them():
    offer = parse_offer((DIRECTORY / "chromium-whip-simulcast.sdp").read_bytes().decode())
    section = offer.media[1]
    assert section.simulcast == ((Alternative("q"),), (Alternative("h"),), (Alternative("f"),))
    lines = answer(rid_lines("q", "h", "f") + "a=simulcast:send q;h;f\n", section.rids)
    assert lines == ["a=rid:q recv", "a=rid:h recv", "a=rid:f recv", "a=simulcast:recv q;h;f"]


def test_the_order_is_that_of_the_streams_and_not_of_the_lines():
    section = video(rid_lines("a", "b", "c") + "a=simulcast:send c;a,~b\n")
    assert section.rids == ("c", "a", "b")
    assert section.simulcast == ((Alternative("c"),), (Alternative("a"), Alternative("b", paused=True)))
    assert section.rid_lines == (Rid("a"), Rid("b"), Rid("c"))


def test_alternatives_are_answered_in_their_streams():
    offered = rid_lines("q", "h", "f") + "a=simulcast:send q;h,~f\n"
    assert answer(offered, ("q", "h", "f"))[-1] == "a=simulcast:recv q;h,f"
    assert answer(offered, ("f",)) == ["a=rid:f recv", "a=simulcast:recv f"]
    assert answer(offered, ("unheard-of",)) == []
    assert answer(offered, ()) == []


@pytest.mark.parametrize(
    "value", ["send rid=q;h", " send rid=q;h", "recv x send q;h", "send q;h recv x", "send q;h;unknown"]
)
def test_older_and_longer_forms_of_the_same(value):
    section = video(rid_lines("q", "h") + f"a=rid:x recv\na=simulcast:{value}\n")
    assert section.rids == ("q", "h")
    assert [stream[0].rid for stream in section.simulcast] == ["q", "h"]


def test_rids_without_a_simulcast_line_are_told_too():
    section = video(rid_lines("hi", "lo"))
    assert (section.rids, section.simulcast) == (("hi", "lo"), ())
    assert answer(rid_lines("hi", "lo"), ("hi",)) == ["a=rid:hi recv"]


def test_restrictions_are_kept_and_follow_the_answered_formats():
    offered = "a=rid:1 send pt=98,96;max-width=1280;max-fps=30\na=rid:2 send pt=98\na=rid:3 send pt=1\n"
    section = video(offered)
    assert section.rid_lines == (
        Rid("1", (98, 96), ("max-width=1280", "max-fps=30")),
        Rid("2", (98,)),
    )  # nothing is left for 3
    assert answer(offered, ("1", "2")) == ["a=rid:1 recv pt=96;max-width=1280;max-fps=30"]
    assert answer(offered, ("1", "2"), codec=1) == [
        "a=rid:1 recv pt=98;max-width=1280;max-fps=30",
        "a=rid:2 recv pt=98",
    ]


def test_layers_by_ssrc():
    sources = "".join(f"a=ssrc:{ssrc} cname:x\n" for ssrc in (1, 2, 3, 11, 12, 13))
    groups = "a=ssrc-group:SIM 1 2 3\n" + "".join(f"a=ssrc-group:FID {n} {n + 10}\n" for n in (1, 2, 3))
    section = video(groups + sources)
    assert section.layer_ssrcs == (1, 2, 3)
    assert section.ssrcs == ((1, 11), (2, 12), (3, 13))
    assert video(sources).layer_ssrcs == ()


@pytest.mark.parametrize(
    "lines",
    [
        rid_lines("r" * 5000),
        rid_lines("r" * 65),
        rid_lines(*(f"r{i}" for i in range(64))),
        rid_lines(*(f"r{i}" for i in range(MAX_RIDS + 1))),
        rid_lines("q") + "a=simulcast:send\n",
        rid_lines("q") + "a=simulcast:sideways q\n",
        rid_lines("q") + "a=simulcast:send q;q\n",
        rid_lines("q") + "a=simulcast:send q,~q\n",
        rid_lines("q") + "a=simulcast:send ~~q\n",
        rid_lines("q") + "a=simulcast:send " + "q" * 5000 + "\n",
        rid_lines("q") + "a=simulcast:send q" + ";x" * 64 + "\n",
        "a=rid:q send pt=x\n",
        "a=rid:q send pt=200\n",
        "a=rid:q send " + ";".join(["max-fps=1"] * 17) + "\n",
        "a=rid:q send max-fps=" + "1" * 100 + "\n",
        "a=rid:q send max-fps=\N{LATIN SMALL LETTER E WITH ACUTE}\n",
        "a=ssrc-group:SIM one\n",
        "a=ssrc-group:SIM " + " ".join(map(str, range(9))) + "\n",
    ],
)
def test_too_much_or_malformed_is_refused(lines):
    with pytest.raises(SdpError):
        video(lines)


def test_eight_rids_are_not_too_many():
    names = [f"r{i}" for i in range(MAX_RIDS)]
    section = video(rid_lines(*names) + f"a=simulcast:send {';'.join(names)}\n")
    assert section.rids == tuple(names)


def test_an_offer_of_two_hundred_sections_is_refused():
    more = "".join(f"m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:{i}\na=rtcp-mux\n" for i in range(200))
    with pytest.raises(SdpError, match="more than 32 sections"):
        parse_offer(OFFER + more)


@pytest.mark.parametrize(
    "line", ["a=rid:q send", "a=rid:q recv", "a=ssrc-group:SIM 1", "a=extmap:1 u", "a=x"]
)
def test_a_description_full_of_one_line_is_read_or_refused(line):
    text = OFFER + (line + "\n") * ((MAX_BYTES - len(OFFER)) // (len(line) + 1))
    assert len(parse_offer(text).media) == 1


words = st.sampled_from(["send", "recv", "q", "h;f", "~q", "rid=q", ",", ";", "pt=96", "max-fps=30"])
values = st.lists(words | st.text(max_size=4), max_size=5).map(" ".join)
odd_lines = st.builds("a={}:{}\n".format, st.sampled_from(["rid", "simulcast", "ssrc-group", "ssrc"]), values)


@given(st.lists(odd_lines, max_size=5))
def test_odd_lines_raise_only_sdp_error_and_what_is_read_can_be_answered(lines):
    text = rid_lines("q", "h") + "".join(lines)
    try:
        section = video(text)
    except SdpError:
        return
    assert {a.rid for stream in section.simulcast for a in stream} <= set(section.rids)
    assert {rid.name for rid in section.rid_lines} == set(section.rids)
    assert len(section.rids) <= MAX_RIDS
    assert len(answer(text, section.rids)) <= len(section.rids) + 1
