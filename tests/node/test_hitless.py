"""Marked tracks travel twice: which copy goes where, and what the far edge makes of them."""

from __future__ import annotations

import pytest

from relaymesh.node.hitless import GENERATIONS_KEPT, WayTable
from relaymesh.protocol.bitstring import encode_set, set_of
from relaymesh.protocol.frames import HOP_LIMIT, MediaFrame
from relaymesh.protocol.messages import HitlessWays, TrackInfo, Way, Welcome
from tests.node.mesh import NAME, VIDEO, Mesh, Recorder, make_core, video_frame, video_of

MARKED = TrackInfo(8, "audio", "opus", 48_000, 2, hitless=True)
# 1 to 4 by 2; beside that by 3. 5 hangs on 4.
LINKS = [(1, 2), (2, 4), (1, 3), (3, 4), (4, 5)]
TABLES = {
    1: {2: {2, 4, 5}, 3: {3}},
    2: {1: {1, 3}, 4: {4, 5}},
    3: {1: {1, 2}, 4: {4, 5}},
    4: {2: {1, 2}, 3: {3}, 5: {5}},
    5: {4: {1, 2, 3, 4}},
}


def edges(*indexes: int) -> bytes:
    return encode_set(set_of(indexes))


def second(*ways: Way, generation: int = 1) -> HitlessWays:
    return HitlessWays(generation, ways)


class Audience:
    """A marked track from node 1, heard at 4 and 5."""

    def __init__(self, ways: HitlessWays | None) -> None:
        self.mesh = Mesh(5, LINKS)
        self.mesh.routes(1, TABLES)
        self.mesh.run(1.0)
        self.publication = self.mesh.publish(1, 4, 5, tracks=(VIDEO, MARKED))
        self.heard: dict[int, Recorder] = {}
        self.seen: dict[int, Recorder] = {}
        for edge in (4, 5):
            held = self.mesh.hold(edge, 1, (VIDEO, MARKED))
            self.heard[edge], self.seen[edge] = Recorder(), Recorder()
            held.tracks[MARKED.track].encodings[0].add_taker(self.heard[edge])
            held.tracks[VIDEO.track].encodings[0].add_taker(self.seen[edge])
        self.track = self.publication.tracks[MARKED.track]
        if ways is not None:
            self.mesh.cores[1].handle_message(ways, self.mesh.now)
        self.sequence = 0

    def speak(self, count: int) -> list[int]:
        first = self.sequence
        for self.sequence in range(first, first + count):
            frame = MediaFrame(
                self.track.id, 0, self.sequence, 0, b"opus", audio=True,
                hop_limit=HOP_LIMIT,
            )  # fmt: skip
            self.mesh.cores[1].forwarder.originate(self.track, frame, self.mesh.now)
            assert not frame.copy, "takers here keep it"
            self.mesh.run(0.02)
        self.sequence += 1
        self.mesh.run(0.05)
        return list(range(first, self.sequence))

    def sequences(self, edge: int) -> list[int]:
        return [frame.sequence for frame in self.heard[edge].frames]

    def counts(self, edge: int) -> tuple[int, int]:
        held = self.mesh.cores[edge].publications.get(NAME)
        assert held is not None
        encoding = held.tracks[MARKED.track].encodings[0]
        return encoding.merged, encoding.duplicates


def test_two_copies_go_their_ways_and_one_is_heard() -> None:
    # From 4 on the second copy goes by the table.
    audience = Audience(second(Way((3, 4), edges(4, 5))))
    said = audience.speak(20)
    assert audience.sequences(4) == audience.sequences(5) == said
    assert audience.counts(4) == audience.counts(5) == (20, 0)
    forwarder = audience.mesh.cores[1].forwarder
    assert (forwarder.originated, forwarder.second_copies) == (40, 20)
    assert audience.mesh.media(2) == audience.mesh.media(3) == 20
    assert audience.mesh.cores[4].forwarder.merged == 20


@pytest.mark.parametrize("broken", [(1, 2), (2, 4), (1, 3), (3, 4)])
def test_a_cut_costs_nothing_before_anybody_knows_of_it(broken: tuple[int, int]) -> None:
    audience = Audience(second(Way((3, 4), edges(4, 5))))
    audience.speak(5)
    audience.mesh.cut |= {broken, broken[::-1]}
    said = audience.speak(50)
    assert audience.sequences(4)[5:] == audience.sequences(5)[5:] == said
    assert audience.counts(4)[1] == 0


def test_first_copies_may_have_a_path_of_their_own() -> None:
    audience = Audience(HitlessWays(1, (Way((2, 4), edges(4)),), (Way((3, 4), edges(4)),)))
    said = audience.speak(10)
    assert audience.sequences(4) == audience.sequences(5) == said
    assert audience.counts(4) == (10, 0)
    assert audience.counts(5) == (0, 0), "it has one way, by the tables"
    # 1 sends a first and a second copy for 4 and one for 5.
    # 2 carries first copies for 5 and second ones for 4, 3 the first ones for 4; 4 passes on what is for 5.
    sent = {index: audience.mesh.media(index) for index in audience.mesh.cores}
    assert sent == {1: 30, 2: 20, 3: 10, 4: 10, 5: 0}


def test_tracks_that_are_not_marked_travel_once() -> None:
    audience = Audience(second(Way((3, 4), edges(4, 5))))
    audience.mesh.cores[1].forwarder.originate(
        video_of(audience.publication), video_frame(audience.publication, 7), audience.mesh.now
    )
    audience.mesh.run(0.1)
    assert audience.mesh.cores[1].forwarder.second_copies == 0
    assert audience.mesh.cores[4].forwarder.delivered == 1
    for edge in (4, 5):
        assert [f.sequence for f in audience.seen[edge].frames] == [7]


def test_only_copies_may_come_twice() -> None:
    audience = Audience(None)
    held = audience.mesh.cores[4].publications.get(NAME)
    assert held is not None
    encoding = held.tracks[MARKED.track].encodings[0]
    for sequence, copies in ((7, (False, True)), (8, (True, False)), (9, (False, False))):
        for copy in copies:
            encoding.deliver(MediaFrame(encoding.track.id, 0, sequence, 0, b"opus", copy=copy), 0.0)
    assert (encoding.received, encoding.merged, encoding.duplicates) == (3, 2, 1)


def test_ways_of_another_generation_serve_second_copies_only() -> None:
    table = WayTable()
    assert table.split(0b11000, 1) == (0b11000, [], [])
    table.install(HitlessWays(5, (Way((3, 4), edges(3, 4)),), (Way((2, 4), edges(4)),)))
    assert table.split(0b11000, 5) == (0b01000, [(2, 0b10000, (4,))], [(3, 0b11000, (4,))])
    assert table.split(0b11000, 6) == (0b11000, [], [(3, 0b11000, (4,))])
    assert table.split(0b11000, 4) == (0b11000, [], []), "made for what is to come"
    table.clear()
    assert table.split(0b11000, 5) == (0b11000, [], [])


def test_ways_are_bounded_and_no_destination_gets_a_third_copy() -> None:
    table = WayTable()
    for generation in range(1, 20):
        table.install(
            second(Way((), edges(1)), Way((3,), edges(4)), Way((2,), edges(4)), generation=generation)
        )
    assert table.debug_state()["generations"] == list(range(20 - GENERATIONS_KEPT, 20))
    assert table.split(0b10010, 19) == (0b10010, [], [(3, 0b10000, ())])


def test_another_index_forgets_the_ways() -> None:
    core = make_core(1)
    core.handle_message(Welcome(1, 100.0, 600.0, 1000.0), 0.0)
    core.handle_message(second(Way((3, 4), edges(4, 5))), 0.0)
    core.handle_message(Welcome(1, 100.0, 600.0, 1000.0), 1.0)
    assert core.forwarder.ways.split(1 << 4, 1)[2] == [(3, 1 << 4, (4,))]
    core.handle_message(Welcome(2, 100.0, 600.0, 1000.0), 2.0)
    assert core.forwarder.ways.split(1 << 4, 1)[2] == []
    assert core.forwarder.debug_state()["ways"] == {"generations": [], "second": 0, "first": 0}
