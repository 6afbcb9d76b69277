"""One encoding at a node: what is kept since its last keyframe, and what its takers are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from relaymesh.node.encodings import (
    KEPT_BYTES,
    KEPT_SINCE_KEYFRAME,
    OUTAGE,
    OUTAGE_PACKETS,
    YOUNG_PACKETS,
    Encoding,
    SinceKeyframe,
)
from relaymesh.node.publications import LocalPublication, RemotePublication
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.ids import TrackId
from tests.node.mesh import AUDIO, NAME, VIDEO, Recorder, video_frame

TRACK = TrackId(1, 2, 7)


def packet(
    sequence: int, *, keyframe: bool = False, picture: int | None = None, size: int = 100
) -> MediaFrame:
    stamp = (sequence if picture is None else picture) * 3000
    return MediaFrame(TRACK, 0, sequence, stamp, bytes(size), keyframe=keyframe)


def numbers(kept: SinceKeyframe) -> list[int]:
    return [frame.sequence for frame in kept.frames()]


# --- since the last keyframe ---------------------------------------------------------------------


def test_nothing_is_kept_before_the_first_keyframe_and_all_since_the_last_one() -> None:
    kept = SinceKeyframe()
    for sequence in range(1, 5):
        kept.add(packet(sequence), 0.0)
    assert kept.frames() == [] and kept.size_bytes == 0
    for sequence in range(5, 20):
        kept.add(packet(sequence, keyframe=sequence in (5, 12)), 0.1)
    assert numbers(kept) == list(range(12, 20))
    assert kept.size_bytes == 800
    assert kept.get(11) is None and kept.get(12) is not None


def test_a_keyframe_of_many_packets_begins_once() -> None:
    kept = SinceKeyframe()
    for sequence in (5, 6, 7):
        kept.add(packet(sequence, keyframe=True, picture=5), 0.0)
    assert numbers(kept) == [5, 6, 7]


def test_an_older_keyframe_that_comes_late_does_not_begin_anew() -> None:
    kept = SinceKeyframe()
    kept.add(packet(10, keyframe=True), 0.0)
    kept.add(packet(11), 0.0)
    kept.add(packet(3, keyframe=True), 0.1)
    kept.add(packet(9), 0.1)
    assert numbers(kept) == [10, 11]


def test_what_comes_late_is_put_in_its_place() -> None:
    kept = SinceKeyframe()
    for sequence in (10, 12, 13, 11):
        kept.add(packet(sequence, keyframe=sequence == 10), 0.0)
    assert numbers(kept) == [10, 11, 12, 13]


def test_a_hole_among_the_newest_may_still_be_repaired_and_an_old_one_is_for_good() -> None:
    kept = SinceKeyframe()
    kept.add(packet(10, keyframe=True), 0.0)
    for sequence in range(12, 12 + YOUNG_PACKETS):
        kept.add(packet(sequence), 0.0)
    assert numbers(kept) == [10, *range(12, 12 + YOUNG_PACKETS)]
    kept.add(packet(12 + YOUNG_PACKETS), 0.0)
    assert kept.frames() == [], "no decoder goes on behind it"
    kept.add(packet(11), 0.0)
    assert numbers(kept) == list(range(10, 13 + YOUNG_PACKETS)), "it came after all"


def test_what_was_left_out_by_intent_is_no_hole() -> None:
    kept = SinceKeyframe()
    kept.add(packet(10, keyframe=True), 0.0)
    for sequence in range(12, 200, 2):
        kept.skip(sequence - 1, 1, 1)
        kept.add(packet(sequence), 0.0)
    assert numbers(kept) == list(range(10, 200, 2))


def test_many_missing_beside_those_left_out_are_too_many() -> None:
    kept = SinceKeyframe()
    kept.add(packet(10, keyframe=True), 0.0)
    kept.skip(11, 1, 1)
    kept.add(packet(12 + YOUNG_PACKETS), 0.0)
    assert numbers(kept) == [10, 12 + YOUNG_PACKETS]
    kept.add(packet(13 + YOUNG_PACKETS), 0.0)
    assert kept.frames() == []


def test_more_bytes_than_fit_are_forgotten_until_the_next_keyframe() -> None:
    kept = SinceKeyframe()
    kept.add(packet(1, keyframe=True, size=1000), 0.0)
    for sequence in range(2, KEPT_BYTES // 1000 + 1):
        kept.add(packet(sequence, size=1000), 0.0)
    assert kept.size_bytes == KEPT_BYTES and len(kept.frames()) == KEPT_BYTES // 1000
    kept.add(packet(KEPT_BYTES // 1000 + 1, size=1000), 0.0)
    assert kept.frames() == [] and kept.size_bytes == 0
    kept.add(packet(5000, size=1000), 0.0)
    assert kept.frames() == []
    kept.add(packet(5001, keyframe=True), 0.0)
    assert numbers(kept) == [5001]


def test_a_keyframe_too_long_ago_is_forgotten() -> None:
    kept = SinceKeyframe()
    kept.add(packet(1, keyframe=True), 0.0)
    kept.add(packet(2), KEPT_SINCE_KEYFRAME)
    assert numbers(kept) == [1, 2]
    kept.add(packet(3), KEPT_SINCE_KEYFRAME + 0.1)
    assert kept.frames() == []


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.booleans(), st.integers(0, 400_000), st.floats(0.0, 2.0)),
        max_size=80,
    )
)
def test_whatever_comes_what_is_kept_is_bounded_and_begins_with_a_keyframe(arrivals) -> None:  # type: ignore[no-untyped-def]
    kept, now = SinceKeyframe(), 0.0
    for sequence, keyframe, size, wait in arrivals:
        now += wait
        if kept.get(sequence) is not None:
            continue  # its encoding drops what comes twice
        kept.add(packet(sequence, keyframe=keyframe, size=size), now)
        frames = kept.frames()
        assert kept.size_bytes <= KEPT_BYTES
        assert [f.sequence for f in frames] == sorted({f.sequence for f in frames})
        assert sum(len(f.payload) for f in frames) in (0, kept.size_bytes)
        if frames:
            assert frames[0].keyframe


# --- takers --------------------------------------------------------------------------------------


def remote() -> tuple[RemotePublication, Encoding]:
    publication = RemotePublication(NAME, 1, 0.0)
    publication.set_tracks((VIDEO, AUDIO))
    return publication, publication.tracks[VIDEO.track].encodings[0]


def test_what_takers_want_together_is_wanted() -> None:
    publication, encoding = remote()
    assert encoding.wanted_layers is None and publication.wanted() == {}
    touched: list[RemotePublication] = []
    publication.touch = touched.append
    tall, fast = Recorder(spatial=2, temporal=0), Recorder(spatial=0, temporal=1)
    encoding.add_taker(tall)
    assert encoding.wanted_layers == (2, 0)
    encoding.add_taker(fast)
    assert publication.wanted() == {(VIDEO.track, 0): (2, 1)}
    encoding.remove_taker(tall)
    assert publication.wanted() == {(VIDEO.track, 0): (0, 1)}
    encoding.remove_taker(fast)
    assert publication.wanted() == {}
    assert touched == [publication] * 4


def test_of_a_muted_or_ended_publication_nothing_is_wanted() -> None:
    publication, encoding = remote()
    encoding.add_taker(Recorder())
    publication.tracks[VIDEO.track].muted = True
    assert publication.wanted() == {}
    publication.tracks[VIDEO.track].muted = False
    publication.ended_at = 1.0
    assert publication.wanted() == {}


def test_takers_are_told_of_what_was_left_out_once() -> None:
    publication, encoding = remote()
    taker = Recorder()
    encoding.add_taker(taker)
    encoding.skip(5, 2, 1)
    assert taker.skips == [], "nothing came yet: there is nothing to close up"
    encoding.deliver(video_frame(publication, 10, keyframe=True), 0.0)
    encoding.skip(11, 3, 2)
    encoding.skip(11, 3, 2)
    encoding.deliver(video_frame(publication, 14), 0.1)
    assert taker.skips == [(11, 3, 2)]
    assert (encoding.skipped, encoding.lost) == (3, 0)
    assert [f.sequence for f in encoding.since_keyframe.frames()] == [10, 14]


def test_what_an_edge_kept_is_forgotten_with_its_last_taker() -> None:
    """Nothing comes any more: whoever takes it later would begin in the past, with a gap."""
    publication, encoding = remote()
    one, other = Recorder(), Recorder()
    encoding.add_taker(one)
    encoding.add_taker(other)
    for sequence in range(10, 15):
        encoding.deliver(video_frame(publication, sequence, keyframe=sequence == 10), 0.0)
    encoding.remove_taker(one)
    assert len(encoding.since_keyframe.frames()) == 5, "somebody still takes it"
    encoding.remove_taker(other)
    assert encoding.since_keyframe.frames() == []
    encoding.deliver(video_frame(publication, 15, keyframe=True), 0.0)
    assert encoding.since_keyframe.frames() == [], "nor what was still on its way"


def test_a_keyframe_is_not_asked_for_any_more_when_nobody_takes_the_encoding() -> None:
    """A player that changed its mind left its wish behind: never fulfilled, it was repeated for ever."""
    _, encoding = remote()
    one, other = Recorder(), Recorder()
    encoding.add_taker(one)
    encoding.add_taker(other)
    encoding.keyframe_wish.ask(0.0)
    encoding.remove_taker(one)
    assert encoding.keyframe_wish.due(0.0), "somebody still waits"
    encoding.remove_taker(other)
    assert encoding.keyframe_wish.next_timeout() is None


@pytest.mark.parametrize("late", [0, 1, 5, 50, 98, 99])
def test_what_the_ingress_sends_again_may_come_in_any_order(late: int) -> None:
    """Over a lossy link one of so many packets nearly always comes late, perhaps the keyframe itself."""
    publication, encoding = remote()
    taker = Recorder()
    encoding.add_taker(taker)
    frames = [video_frame(publication, 1000 + k, keyframe=k == 0) for k in range(100)]
    for k, frame in enumerate(frames):
        if k != late:
            encoding.collect(frame, k == 99, 0.0)
    encoding.deliver(video_frame(publication, 1100), 0.02)
    assert [f.sequence for f in taker.frames] == [1100], "not before all are here"
    encoding.collect(frames[late], late == 99, 0.03)
    assert [f.sequence for f in taker.frames[1:]] == list(range(1000, 1101)), "with what came meanwhile"
    assert (encoding.lost, encoding.received) == (0, 101)
    encoding.collect(frames[late], late == 99, 0.04)
    assert len(taker.frames) == 102, "once"


def test_a_hole_that_the_ingress_had_is_filled_by_what_comes_live() -> None:
    publication, encoding = remote()
    taker = Recorder()
    encoding.add_taker(taker)
    for sequence in (10, 11, 13):
        encoding.collect(video_frame(publication, sequence, keyframe=sequence == 10), sequence == 13, 0.0)
    assert taker.frames == []
    encoding.deliver(video_frame(publication, 12), 0.01)
    assert [f.sequence for f in taker.frames] == [12, 10, 11, 12, 13]


def test_a_packet_that_left_the_ring_is_still_found_since_the_keyframe() -> None:
    publication, encoding = remote()
    encoding.add_taker(Recorder())
    for sequence in range(3000):
        encoding.deliver(video_frame(publication, sequence, keyframe=sequence == 500), sequence / 1000)
    assert encoding.recent(500) is not None
    assert encoding.recent(499) is None


@pytest.mark.parametrize("is_remote", [True, False])
def test_an_outage_on_the_way_here_asks_for_a_keyframe(is_remote: bool) -> None:
    publication, encoding = remote()
    if not is_remote:
        local = LocalPublication(NAME)
        local.set_tracks((VIDEO,))
        encoding = local.tracks[VIDEO.track].encodings[0]
    frame = video_frame(publication, 1, keyframe=True)
    encoding.deliver(frame, 0.0)
    encoding.deliver(replace(frame, sequence=2 + OUTAGE_PACKETS, keyframe=False), OUTAGE / 2)
    assert not encoding.keyframe_wish.wanted
    encoding.deliver(replace(frame, sequence=4 + 2 * OUTAGE_PACKETS, keyframe=False), 2 * OUTAGE)
    assert encoding.keyframe_wish.wanted is is_remote, "a publisher's own losses are asked for again"


def test_of_audio_nothing_is_kept_since_a_keyframe() -> None:
    publication, _ = remote()
    encoding = publication.tracks[AUDIO.track].encodings[0]
    for sequence in range(5):
        encoding.deliver(MediaFrame(encoding.track.id, 0, sequence, 0, b"opus", keyframe=True), 0.0)
    assert encoding.since_keyframe.frames() == []
