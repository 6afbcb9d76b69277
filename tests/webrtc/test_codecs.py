"""Codec choice: what a publisher is asked for, and what a player gets it under."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.codecs import (
    VIDEO,
    Codec,
    audio_within,
    carries,
    choose_codec,
    explain_choice,
    explain_mismatch,
    match_codec,
    parameters,
    prefers_redundancy,
    redundant_audio,
)
from relaymesh.webrtc.h264_profiles import profile as h264_profile


def h264(payload_type: int, profile: str, mode: int | None = 1) -> Codec:
    fmtp = f"level-asymmetry-allowed=1;profile-level-id={profile}"
    return Codec(
        payload_type, "H264", 90_000, fmtp=fmtp if mode is None else f"{fmtp};packetization-mode={mode}"
    )


OPUS = Codec(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1")
VP8 = Codec(96, "VP8", 90_000, feedback=("nack", "nack pli"), rtx=97)
VP9 = Codec(98, "VP9", 90_000, fmtp="profile-id=0")
VP9_2 = Codec(100, "VP9", 90_000, fmtp="profile-id=2")
AV1 = Codec(45, "AV1", 90_000, fmtp="level-idx=5;profile=0;tier=0")
AV1_HIGH = Codec(47, "AV1", 90_000, fmtp="profile=1")
H265 = Codec(49, "H265", 90_000, fmtp="level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST")
H265_10 = Codec(50, "H265", 90_000, fmtp="profile-id=2")
RED = Codec(63, "red", 48_000, 2, "111/111")
# What players offer in the field that list no more than WebRTC demands, in another order.
WEBRTC_H264 = [h264(1, "42e01f"), h264(2, "4d001f"), h264(3, "640c1f")]
# The H264 variants of a current Chromium, in its order.
H264 = [
    h264(102, "42001f"),
    h264(104, "42001f", 0),
    h264(108, "42e01f"),
    h264(114, "42e01f", 0),
    h264(116, "4d001f"),
    h264(39, "4d001f", 0),
    h264(41, "f4001f"),
    h264(43, "f4001f", 0),
]


@pytest.mark.parametrize(
    ("kind", "codecs", "prefer", "payload_type"),
    [
        ("audio", [Codec(0, "PCMU", 8000), OPUS], ("VP8", "H264"), 111),
        ("audio", [Codec(0, "PCMU", 8000)], ("VP8", "H264"), None),
        ("audio", [Codec(96, "OPUS", 48_000, 2)], (), 96),
        ("video", [*H264, VP8, VP9], ("VP8", "H264"), 96),
        ("video", [*H264, VP8, VP9], ("H264", "VP8"), 108),
        ("video", [VP8, h264(1, "4d001f"), h264(2, "42001f")], ("h264",), 2),
        ("video", [h264(1, "640c1f"), h264(2, "4d001f")], ("VP8", "H264"), 1),
        ("video", [h264(1, "42e01f", 0), h264(2, "42e01f", None)], ("VP8", "H264"), 1),
        ("video", [h264(1, "42e01f", 0), h264(2, "640c1f", 1)], ("VP8", "H264"), 2),
        ("video", [h264(1, "42e01f", 2)], ("VP8", "H264"), None),
        ("video", [Codec(96, "H264", 90_000)], ("VP8", "H264"), 96),  # case 2: no fmtp
        ("video", [h264(1, "f4001f"), h264(2, "6e001f"), h264(3, "7a001f")], ("H264",), None),
        ("VIDEO", [VP9, VP8], ("VP9", "VP8"), 98),
        ("video", [VP9_2, VP9], ("vp9",), 98),
        ("video", [VP9_2], ("VP9",), 100),
        ("video", [VP9, AV1, H265], (), None),
        ("video", [H265, AV1, VP9], ("AV1", "VP9"), 45),
        ("video", [H265], VIDEO, 49),
        ("video", [], ("VP8", "H264"), None),
        ("application", [VP8, OPUS], ("VP8", "H264"), None),
    ],
)
def test_what_a_publisher_is_asked_for(kind, codecs, prefer, payload_type):
    chosen = choose_codec(kind, codecs, prefer)
    assert (chosen and chosen.payload_type) == payload_type


@pytest.mark.parametrize(
    ("codecs", "name", "fmtp", "payload_type"),
    [
        ([*H264, VP8], "vp8", "", 96),
        (H264, "VP8", "", None),
        (H264, "H264", "packetization-mode=1;profile-level-id=42e01f", 108),
        (H264, "H264", "packetization-mode=1;profile-level-id=42c01e", 108),  # as GStreamer offers
        (H264, "H264", "packetization-mode=1;profile-level-id=42001f", 102),
        (H264, "H264", "packetization-mode=1;profile-level-id=4D001F", 116),
        (H264, "H264", "packetization-mode=0;profile-level-id=42e01f", 114),
        (H264, "H264", "profile-level-id=42e01f", 108),  # case 2: no mode is, in fact, often mode 1
        (H264, "H264", "", 108),
        (H264, "H264", "packetization-mode=1", 108),
        # case 3: nobody lists High, and every browser decodes it
        (H264, "H264", "packetization-mode=1;profile-level-id=640028", 116),
        (H264, "H264", "packetization-mode=1;profile-level-id=640c1f", 116),
        (WEBRTC_H264, "H264", "packetization-mode=1;profile-level-id=640028", 3),
        (WEBRTC_H264, "H264", "PROFILE-LEVEL-ID=4d0028; Packetization-Mode=1", 2),
        (WEBRTC_H264[:2], "H264", "packetization-mode=1;profile-level-id=58001f", 2),
        ([h264(5, "42e01f", 0)], "h264", "packetization-mode=1;profile-level-id=640028", 5),
        ([h264(5, "42e01f", 2)], "h264", "packetization-mode=1;profile-level-id=42e01f", None),
        (WEBRTC_H264, "H264", "packetization-mode=1;profile-level-id=6e0028", None),
        (WEBRTC_H264, "H264", "packetization-mode=1;profile-level-id=7a0028", None),
        (WEBRTC_H264, "H264", "packetization-mode=1;profile-level-id=f40028", None),
        ([h264(5, "f4001f")], "H264", "packetization-mode=1;profile-level-id=42e01f", None),
        (H264, "H264", "packetization-mode=1;profile-level-id=f4001f", 41),
        ([h264(7, "42001f")], "H264", "packetization-mode=1;profile-level-id=42e01f", 7),
        ([h264(8, "42e01f")], "H264", "packetization-mode=1;profile-level-id=42001f", 8),
        ([h264(9, "640c1f")], "H264", "packetization-mode=1;profile-level-id=42e034", 9),
        ([h264(9, "42e01f")], "H264", "packetization-mode=1;profile-level-id=4d001f", 9),
        ([VP9_2, VP9], "vp9", "", 98),
        ([VP9_2, VP9], "VP9", "profile-id=2", 100),
        ([VP9], "VP9", "profile-id=2", None),
        ([VP9], "VP9", "profile-id=x", None),
        ([AV1], "AV1", "", 45),
        ([AV1], "AV1", "profile=0;level-idx=13;tier=1", 45),
        ([AV1], "AV1", "profile=1", None),
        ([AV1_HIGH, AV1], "av1", "tier=0;profile=0", 45),
        ([AV1_HIGH], "AV1", "profile=0", 47),
        ([H265], "H265", "", 49),
        ([H265], "H265", "profile-id=2", None),
        ([H265_10], "H265", "profile-id=1", 50),
        ([H265_10], "H265", "profile-id=2;level-id=120", 50),
        ([H265_10], "H265", "profile-id=3", None),
    ],
)
def test_what_a_player_gets_a_stream_under(codecs, name, fmtp, payload_type):
    matched = match_codec("video", codecs, name, fmtp)
    assert (matched and matched.payload_type) == payload_type


@pytest.mark.parametrize(
    ("codecs", "name", "fmtp", "said"),
    [
        (WEBRTC_H264, "H264", "packetization-mode=1;profile-level-id=6e0028", "High 10"),
        (WEBRTC_H264, "H264", "packetization-mode=1;profile-level-id=7a0028", "High 4:2:2"),
        (WEBRTC_H264, "H264", "packetization-mode=1;profile-level-id=f40028", "High 4:4:4"),
        (WEBRTC_H264, "H264", "packetization-mode=2", "packetization-mode=2"),
        ([VP8, VP9], "H264", "", "offers VP8, VP9"),
        ([], "H264", "", "offers nothing"),
        ([VP9], "VP9", "profile-id=2", "profile-id=2"),
    ],
)
def test_a_player_is_told_what_is_amiss(codecs, name, fmtp, said):
    assert match_codec("video", codecs, name, fmtp) is None
    assert said in explain_mismatch("video", codecs, name, fmtp)


@pytest.mark.parametrize(
    ("kind", "codecs", "said"),
    [
        ("video", [h264(1, "f4001f")], "High 4:4:4"),
        ("video", [Codec(1, "theora", 90_000)], "theora"),
        ("audio", [Codec(0, "PCMU", 8000)], "PCMU"),
        ("text", [], "text"),
    ],
)
def test_a_publisher_is_told_what_is_amiss(kind, codecs, said):
    assert choose_codec(kind, codecs) is None
    assert said in explain_choice(kind, codecs)


def test_redundant_audio_is_its_own_format_where_both_sides_have_it():
    assert choose_codec("audio", [RED, OPUS]) is OPUS
    assert choose_codec("audio", [OPUS, RED], redundant=True) is RED
    assert choose_codec("audio", [OPUS], redundant=True) is OPUS
    assert choose_codec("audio", [RED], redundant=True) is None
    assert match_codec("audio", [OPUS, RED], "RED", "111/111") is RED
    assert match_codec("audio", [OPUS], "red", "111/111") is OPUS
    assert match_codec("audio", [OPUS, RED], "opus", "") is OPUS
    assert redundant_audio([Codec(63, "red", 48_000, 2, "96/96")], OPUS) is None
    assert redundant_audio([Codec(118, "red", 90_000)], OPUS) is None


def test_redundancy_is_preferred_by_its_place():
    assert prefers_redundancy([RED, OPUS])
    assert not prefers_redundancy([OPUS, RED])
    assert not prefers_redundancy([RED]) and not prefers_redundancy([OPUS]) and not prefers_redundancy([])


def test_red_and_what_is_in_it_go_on_for_each_other():
    assert audio_within([OPUS, RED], RED) is OPUS
    assert audio_within([OPUS, RED], OPUS) is None
    assert carries("red", "OPUS") and carries("opus", "RED") and carries("vp8", "VP8")
    assert not carries("VP8", "red") and not carries("VP8", "H264")


def test_audio_is_matched_by_name():
    assert match_codec("audio", [VP8, OPUS], "OPUS", "") is OPUS
    assert match_codec("application", [OPUS], "opus", "") is None


@pytest.mark.parametrize(
    ("profile_level_id", "profile"),
    [
        ("42e01f", "constrained-baseline"),
        ("42C01E", "constrained-baseline"),
        ("4d801f", "constrained-baseline"),
        ("58c01f", "constrained-baseline"),
        ("42001f", "baseline"),
        ("58801f", "baseline"),
        ("4d001f", "main"),
        ("58001f", "extended"),
        ("64001f", "high"),
        ("640c1f", "constrained-high"),
        ("f4001f", "f400"),
        ("zz", "zz"),
        ("", ""),
    ],
)
def test_profiles_of_rfc_6184(profile_level_id, profile):
    assert h264_profile(profile_level_id) == profile


def test_parameters_are_split():
    assert parameters("A=1; b ;c=d=e;;a=2") == {"a": "1", "b": "", "c": "d=e"}
    assert parameters("") == {}


@given(st.text(max_size=60), st.text(max_size=8))
def test_whatever_a_peer_writes_is_taken(fmtp, name):
    codecs = [Codec(96, name, 90_000, fmtp=fmtp), Codec(97, "H264", 90_000, fmtp=fmtp)]
    for kind in ("audio", "video", name):
        assert choose_codec(kind, codecs) in (None, *codecs)
        assert explain_choice(kind, codecs)
        for wanted in ("H264", "VP9", "AV1", "H265", "red", name):
            assert match_codec(kind, codecs, wanted, fmtp) in (None, *codecs)
            assert explain_mismatch(kind, codecs, wanted, f"profile-level-id={name}")
