"""Senders and tracks find each other again when what is published changes."""

from __future__ import annotations

from collections.abc import Sequence

from relaymesh.node.egress import Sender
from relaymesh.node.egress_rows import EgressNumbers
from relaymesh.node.pairing import pair
from relaymesh.node.publications import LocalPublication, Track
from relaymesh.protocol.messages import TrackInfo
from relaymesh.webrtc.codecs import Codec
from tests.node.mesh import NAME

H264_HIGH = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f"


def sender(name: str, fmtp: str = "") -> Sender:
    """One that was answered with this codec."""
    audio = name == "opus"
    codec = Codec(111 if audio else 96, name, 48_000 if audio else 90_000, 2 if audio else 1, fmtp)
    return Sender("0", codec, EgressNumbers(1, None, 0, 0, None, {}), cname="c", send=lambda row, now: None)


def published(*codecs: str | tuple[str, str]) -> list[Track]:
    publication = LocalPublication(NAME)
    infos = []
    for number, codec in enumerate(codecs):
        name, fmtp = codec if isinstance(codec, tuple) else (codec, "")
        kind = "audio" if name == "opus" else "video"
        rate = 48_000 if name == "opus" else 90_000
        infos.append(TrackInfo(number, kind, name, rate, fmtp=fmtp))  # type: ignore[arg-type]
    publication.set_tracks(tuple(infos))
    return list(publication.tracks.values())


def places(senders: Sequence[Sender], tracks: Sequence[Track]) -> tuple[list[int | None], str | None]:
    """(for each sender the track's number, why the session is over)."""
    pairs, why = pair(senders, tracks)
    return [pairs[one].number if one in pairs else None for one in senders], why


def test_each_takes_the_first_track_it_can_carry_in_whatever_order_they_were_negotiated() -> None:
    senders = [sender("opus"), sender("h264"), sender("VP8")]
    assert places(senders, published("VP8", "H264", "opus")) == ([2, 1, 0], None)


def test_what_a_sender_has_it_keeps_though_another_one_comes_before_it() -> None:
    tracks = published("VP8", "VP8")
    one, other = sender("VP8"), sender("VP8")
    one.attach(tracks[1])
    assert places([other, one], tracks) == ([0, 1], None)
    assert places([one], tracks) == ([1], None)


def test_another_profile_is_carried_where_decoders_take_it_and_not_where_they_do_not() -> None:
    assert places([sender("H264", "profile-level-id=42e01f")], published(("H264", H264_HIGH))) == ([0], None)
    found, why = places([sender("VP9", "profile-id=0")], published(("VP9", "profile-id=2")))
    assert found == [None]
    assert why is not None


def test_a_video_that_no_idle_sender_can_carry_has_to_be_negotiated_anew() -> None:
    found, why = places([sender("opus"), sender("VP8")], published("opus", "H264"))
    assert found == [0, None]
    assert why is not None and "H264" in why and "VP8" in why


def test_nothing_is_wrong_where_nobody_is_idle_or_nothing_is_left() -> None:
    assert places([sender("opus"), sender("VP8")], published("opus")) == ([0, None], None)
    assert places([sender("opus")], published("opus", "H264")) == ([0], None)
    assert places([sender("VP8")], published("VP8", "H264")) == ([0], None)
    assert places([sender("VP8")], []) == ([None], None)
