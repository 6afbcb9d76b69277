"""What was kept reaches a player whose path is short: at a rate, in order, stamped as it is sent."""

from __future__ import annotations

from itertools import pairwise
from math import inf

from relaymesh.node.backlog import MAX_CREDIT, PACKET_BYTES, Backlog, in_order
from relaymesh.node.publications import LocalPublication
from relaymesh.protocol.frames import MediaFrame
from tests.node.mesh import NAME, VIDEO, video_frame

STEP = 90  # a millisecond of video


def pictures(count: int, *, first: int = 0, stamp: int = 0xFFFFF000, size: int = 500) -> list[MediaFrame]:
    """A keyframe and what follows it, 30 a second, each one packet; the timestamps wrap."""
    publication = LocalPublication(NAME)
    publication.set_tracks((VIDEO,))
    return [
        video_frame(
            publication,
            first + k,
            keyframe=k == 0,
            payload=bytes(size),
            timestamp=(stamp + k * 3000) & 0xFFFFFFFF,
        )
        for k in range(count)
    ]


def drain(backlog: Backlog, start: float, end: float) -> list[tuple[float, MediaFrame, int]]:
    """(when, packet, its timestamp) of all that goes, looked at each 10 ms."""
    went = []
    for tick in range(round((end - start) * 100)):
        now = start + tick / 100
        while (entry := backlog.pop(now)) is not None:
            if isinstance(entry, MediaFrame):
                backlog.spend(len(entry.payload), now)
                went.append((now, entry, entry.timestamp + backlog.stamp(entry) & 0xFFFFFFFF))
    return went


def test_frames_and_what_was_left_out_among_them_are_one_row() -> None:
    one, two, three = pictures(3, first=10)
    assert in_order([one, two, three], [(9, 1, 1), (13, 2, 1)]) == [(9, 1, 1), one, two, three, (13, 2, 1)]


def test_no_more_goes_than_the_rate_in_any_time() -> None:
    went = drain(Backlog(pictures(200), 200_000.0, STEP, 5.0), 5.0, 10.0)
    assert [frame.sequence for _, frame, _ in went] == list(range(200))
    size = (500 + PACKET_BYTES) * 8
    for begin in range(0, 200, 10):
        for end in range(begin + 1, 200, 7):
            took = went[end][0] - went[begin][0]
            assert (end - begin) * size <= 200_000 * (took + MAX_CREDIT) + size


def test_without_a_rate_all_goes_at_once_and_the_newest_keeps_its_time() -> None:
    kept = pictures(5)
    went = drain(Backlog(kept, inf, STEP, 1.0), 1.0, 1.01)
    assert [stamp for _, _, stamp in went] == [
        kept[-1].timestamp - k * STEP & 0xFFFFFFFF for k in (4, 3, 2, 1, 0)
    ]


def test_timestamps_follow_the_time_of_sending_until_live_pictures_have_their_own() -> None:
    every = pictures(400)
    backlog = Backlog(every[:200], 400_000.0, STEP, 0.0)
    live, went = every[200:], []
    for tick in range(600):
        now = tick / 100
        if tick % 10 in (0, 3, 6) and live:
            backlog.add(live.pop(0))
        went += drain(backlog, now, now + 0.01)
    out = [(stamp - every[0].timestamp) & 0xFFFFFFFF for _, _, stamp in went]
    assert all(other > one for one, other in pairwise(out))
    for (sent, _, _), stamp in zip(went, out, strict=True):
        newest = 3000 * (200 + 30 * sent)  # what has been filmed by then
        assert newest - 200 * STEP - 6000 <= stamp <= newest + 3000
    assert went[-1][2] == went[-1][1].timestamp, "it has caught up"
    assert not backlog


def test_a_later_keyframe_is_told_from_packets_of_the_one_it_began_with() -> None:
    kept = pictures(10, first=100)
    backlog = Backlog(kept, 100_000.0, STEP, 0.0)
    again, later = (
        pictures(1, first=101),
        pictures(1, first=110, stamp=kept[-1].timestamp + 3000 & 0xFFFFFFFF),
    )
    before = pictures(1, first=90, stamp=kept[0].timestamp - 90_000 & 0xFFFFFFFF)
    assert [backlog.is_followed_by(one) for [one] in (again, later, before)] == [False, True, False]
    assert not backlog.is_followed_by(kept[5])
