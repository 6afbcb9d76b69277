"""Codec choice: what a publisher is asked for, and what a player gets it under."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.codecs import Codec, choose_codec, h264_profile, match_codec, parameters


def h264(payload_type: int, profile: str, mode: int | None = 1) -> Codec:
    fmtp = f"level-asymmetry-allowed=1;profile-level-id={profile}"
    return Codec(
        payload_type, "H264", 90_000, fmtp=fmtp if mode is None else f"{fmtp};packetization-mode={mode}"
    )


OPUS = Codec(111, "opus", 48_000, 2, "minptime=10;useinbandfec=1")
VP8 = Codec(96, "VP8", 90_000, feedback=("nack", "nack pli"), rtx=97)
VP9 = Codec(98, "VP9", 90_000, fmtp="profile-id=0")
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
        ("video", [h264(1, "42e01f", 0), h264(2, "42e01f", None)], ("VP8", "H264"), None),
        ("video", [VP9, VP8], ("VP9", "VP8"), 96),
        ("video", [VP9], ("VP9",), None),
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
        (H264, "H264", "profile-level-id=42e01f", 114),
        (H264, "H264", "packetization-mode=1", 108),
        (H264, "H264", "packetization-mode=1;profile-level-id=640c1f", None),
        (H264, "H264", "packetization-mode=1;profile-level-id=f4001f", 41),
        ([h264(7, "42001f")], "H264", "packetization-mode=1;profile-level-id=42e01f", 7),
        ([h264(8, "42e01f")], "H264", "packetization-mode=1;profile-level-id=42001f", 8),
        ([h264(9, "640c1f")], "H264", "packetization-mode=1;profile-level-id=42e034", 9),
        ([h264(9, "42e01f")], "H264", "packetization-mode=1;profile-level-id=4d001f", None),
    ],
)
def test_what_a_player_gets_a_stream_under(codecs, name, fmtp, payload_type):
    matched = match_codec("video", codecs, name, fmtp)
    assert (matched and matched.payload_type) == payload_type


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
    assert h264_profile(f"a=b; profile-level-id={profile_level_id}") == profile


def test_parameters_are_split():
    assert parameters("A=1; b ;c=d=e;;a=2") == {"a": "1", "b": "", "c": "d=e"}
    assert parameters("") == {}


@given(st.text(max_size=60), st.text(max_size=8))
def test_whatever_a_peer_writes_is_taken(fmtp, name):
    codecs = [Codec(96, name, 90_000, fmtp=fmtp), Codec(97, "H264", 90_000, fmtp=fmtp)]
    choose_codec("video", codecs)
    match_codec("video", codecs, "H264", fmtp)
    match_codec("video", codecs, "H264", f"profile-level-id={name}")
