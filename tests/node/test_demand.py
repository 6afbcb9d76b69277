"""Demand at its two ends: what an ingress keeps of what edges say, and when an edge says it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.demand import DEMAND_INTERVAL, DEMAND_KEPT, MAX_STRANGERS, DemandBook, Wishes
from relaymesh.protocol.bitstring import members, set_of
from relaymesh.protocol.frames import MAX_WISHES, DemandFrame, Wish
from relaymesh.protocol.ids import ParticipantId

OWNER = ParticipantId(1, 2)
TRACKS = {7: (0, 1, 2), 8: (0,)}  # track → encodings
LOW, HIGH, AUDIO = (7, 0), (7, 2), (8, 0)


def said(edge: int, serial: int, *wishes: tuple[int, ...]) -> DemandFrame:
    """*wishes*: (track, encoding) or (track, encoding, spatial, temporal)."""
    return DemandFrame(OWNER, edge, serial, tuple(Wish(*wish) for wish in wishes))


def test_demand_of_an_admitted_edge_moves_packets_and_is_new_once() -> None:
    book = DemandBook(set_of([4]))
    assert book.edges(7, 0, 0, 0) == 0
    assert book.handle(said(4, 1, LOW, AUDIO), TRACKS, 0.0) == [(4, LOW), (4, AUDIO)]
    assert book.audience(*LOW) == book.edges(7, 0, 0, 0) == book.audience(*AUDIO) == 1 << 4
    assert book.audience(*HIGH) == 0
    assert book.handle(said(4, 2, LOW, AUDIO), TRACKS, 1.0) == [], "a refresh is nothing new"
    assert book.handle(said(4, 3, LOW, HIGH), TRACKS, 1.1) == [(4, HIGH)]
    assert book.audience(*AUDIO) == 0
    assert book.handle(said(4, 4), TRACKS, 1.2) == []
    assert book.audience(*LOW) == book.audience(*HIGH) == 0


def test_demand_before_admission_is_kept_and_moves_nothing_until_then() -> None:
    book = DemandBook()
    assert book.handle(said(4, 1, LOW), TRACKS, 0.0) == []
    assert book.audience(*LOW) == book.edges(7, 0, 0, 0) == 0
    assert book.admit(set_of([4, 5])) == [(4, LOW)]
    assert book.audience(*LOW) == 1 << 4
    assert book.admit(set_of([4, 5])) == [], "it was wanted before"
    assert book.admit(set_of([5])) == []
    assert book.audience(*LOW) == 0, "who may not any more gets nothing any more, whatever it wants"
    assert book.admit(set_of([4])) == [(4, LOW)]


def test_layers_are_those_wanted_and_all_below() -> None:
    book = DemandBook(set_of([1, 2]))
    book.handle(said(1, 1, (7, 0, 2, 1)), TRACKS, 0.0)
    book.handle(said(2, 1, (7, 0, 0, 7)), TRACKS, 0.0)
    assert members(book.edges(7, 0, 0, 0)) == [1, 2]
    assert members(book.edges(7, 0, 2, 1)) == [1]
    assert members(book.edges(7, 0, 0, 2)) == [2]
    assert members(book.edges(7, 0, 3, 0)) == members(book.edges(7, 0, 1, 2)) == []
    assert members(book.audience(*LOW)) == [1, 2]
    book.handle(said(1, 2, (7, 0, 0, 0)), TRACKS, 0.1)
    assert members(book.edges(7, 0, 2, 1)) == [], "what was looked up before does not stay"


def test_what_is_not_refreshed_lapses() -> None:
    book = DemandBook(set_of([4, 5]))
    book.handle(said(4, 1, LOW), TRACKS, 0.0)
    book.handle(said(5, 1, LOW), TRACKS, 2.0)
    book.lapse(DEMAND_KEPT - 0.01)
    assert members(book.audience(*LOW)) == [4, 5]
    book.lapse(DEMAND_KEPT)
    assert members(book.audience(*LOW)) == [5]
    assert book.handle(said(4, 2, LOW), TRACKS, 4.0) == [(4, LOW)], "it is new again"


def test_two_refreshes_may_be_lost() -> None:
    assert 2 * DEMAND_INTERVAL < 3 * DEMAND_INTERVAL < DEMAND_KEPT


def test_what_comes_late_or_twice_changes_nothing() -> None:
    book = DemandBook(set_of([4]))
    book.handle(said(4, 0xFFFFFFFF, LOW), TRACKS, 0.0)
    book.handle(said(4, 0, HIGH), TRACKS, 0.1)  # the serial wraps
    for serial in (0, 0xFFFFFFFF, 0xFFFFFFF0):
        assert book.handle(said(4, serial, AUDIO), TRACKS, 0.2) is None
    assert (book.audience(*HIGH), book.audience(*AUDIO)) == (1 << 4, 0)
    book.lapse(0.1 + DEMAND_KEPT)
    assert book.audience(*HIGH) == 0, "nor does it last longer by that"


def test_an_edge_that_restarted_is_believed_though_its_serial_begins_anew() -> None:
    book = DemandBook(set_of([4]))
    book.handle(said(4, 5000, LOW), TRACKS, 0.0)
    assert book.handle(said(4, 1, HIGH), TRACKS, 0.1) == [(4, HIGH)]
    assert (book.audience(*LOW), book.audience(*HIGH)) == (0, 1 << 4)


def test_one_that_restarted_early_is_believed_once_its_old_demand_is_over() -> None:
    book = DemandBook(set_of([4]))
    book.handle(said(4, 5, LOW), TRACKS, 0.0)
    assert book.handle(said(4, 1, HIGH), TRACKS, 1.0) is None, "it could be a late one"
    assert book.handle(said(4, 2, HIGH), TRACKS, DEMAND_KEPT) == [(4, HIGH)]
    assert book.audience(*LOW) == 0


def test_unknown_tracks_and_encodings_are_not_wanted() -> None:
    book = DemandBook(set_of([4]))
    assert book.handle(said(4, 1, (9, 0), (7, 3), LOW), TRACKS, 0.0) == [(4, LOW)]
    assert book.audience(9, 0) == book.audience(7, 3) == 0
    assert book.debug_state() == {"4": {"7/0": (7, 7)}}


def test_strangers_are_bounded_and_take_no_place_of_the_admitted() -> None:
    book = DemandBook(set_of([2000]))
    for edge in range(MAX_STRANGERS + 50):
        assert (book.handle(said(edge, 1, LOW), TRACKS, 0.0) is None) is (edge >= MAX_STRANGERS)
    assert len(book.debug_state()) == MAX_STRANGERS
    assert book.handle(said(3, 2, HIGH), TRACKS, 0.1) == [], "one that is kept may say it again"
    assert book.handle(said(2000, 1, LOW), TRACKS, 0.2) == [(2000, LOW)]
    assert book.audience(*LOW) == 1 << 2000
    book.lapse(DEMAND_KEPT)  # all of the strangers but the one that said it again
    assert book.handle(said(MAX_STRANGERS + 1, 1, LOW), TRACKS, DEMAND_KEPT) == []


EDGES = st.integers(0, 5)
WISHES = st.lists(
    st.tuples(st.sampled_from([7, 8, 9]), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
    max_size=6,
    unique_by=lambda wish: wish[:2],
)
STEPS = st.one_of(
    st.tuples(st.just("said"), EDGES, WISHES),
    st.tuples(st.just("admit"), st.sets(EDGES)),
    st.tuples(st.just("wait"), st.floats(0.0, 4.0)),
)


@given(st.lists(STEPS, max_size=40))
def test_whatever_is_said_sets_are_those_of_the_newest_demand_of_admitted_edges(steps) -> None:  # type: ignore[no-untyped-def]
    book, now, serial = DemandBook(), 0.0, 0
    admitted: set[int] = set()
    newest: dict[int, tuple[float, dict[tuple[int, int], tuple[int, int]]]] = {}
    for step in steps:
        before = {(edge, key) for edge in admitted & newest.keys() for key in newest[edge][1]}
        new: list[tuple[int, tuple[int, int]]] = []
        if step[0] == "wait":
            now += step[1]
            book.lapse(now)
            newest = {edge: asked for edge, asked in newest.items() if asked[0] > now}
            continue
        if step[0] == "admit":
            admitted = set(step[1])
            new = book.admit(set_of(admitted))
        else:
            serial += 1
            _, edge, wishes = step
            taken = {(k, e): (s, t) for k, e, s, t in wishes if e in TRACKS.get(k, ())}
            found = book.handle(said(edge, serial, *wishes), TRACKS, now)
            assert found is not None
            new, newest[edge] = found, (now + DEMAND_KEPT, taken)
        after = {(edge, key) for edge in admitted & newest.keys() for key in newest[edge][1]}
        assert len(new) == len(set(new)) and set(new) == after - before
        for track, encodings in TRACKS.items():
            for encoding in encodings:
                wanting = {
                    edge: asked[1][track, encoding]
                    for edge, asked in newest.items()
                    if edge in admitted and (track, encoding) in asked[1]
                }
                assert set(members(book.audience(track, encoding))) == wanting.keys()
                for spatial, temporal in ((0, 0), (1, 0), (0, 2), (3, 3)):
                    expected = {e for e, (s, t) in wanting.items() if spatial <= s and temporal <= t}
                    assert set(members(book.edges(track, encoding, spatial, temporal))) == expected


# --- an edge's own wishes ------------------------------------------------------------------------


def test_nothing_is_said_while_nothing_was_ever_wanted() -> None:
    wishes = Wishes()
    assert wishes.poll({}, 0.0) is None
    assert wishes.next_timeout() is None


def test_a_change_is_said_at_once_and_what_holds_is_said_again() -> None:
    wishes = Wishes()
    assert wishes.poll({LOW: (7, 7)}, 0.0) == (1, (Wish(7, 0, 7, 7),))
    assert wishes.next_timeout() == DEMAND_INTERVAL
    assert wishes.poll({LOW: (7, 7)}, DEMAND_INTERVAL - 0.01) is None
    assert wishes.poll({LOW: (7, 7)}, DEMAND_INTERVAL) == (2, (Wish(7, 0, 7, 7),))
    assert wishes.poll({LOW: (7, 1)}, DEMAND_INTERVAL + 0.01) == (3, (Wish(7, 0, 7, 1),)), "other layers"
    assert wishes.poll({LOW: (7, 1), AUDIO: (7, 7)}, 1.02) == (4, (Wish(7, 0, 7, 1), Wish(8, 0, 7, 7)))


def test_that_nothing_is_wanted_any_more_is_said_once() -> None:
    wishes = Wishes(0xFFFFFFFE)
    assert wishes.poll({LOW: (7, 7)}, 0.0) == (0xFFFFFFFF, (Wish(7, 0, 7, 7),))
    assert wishes.poll({}, 0.1) == (0, ())
    assert wishes.next_timeout() is None
    assert wishes.poll({}, 100.0) is None, "if it is lost, the demand lapses"


def test_another_ingress_is_told_at_once() -> None:
    wishes = Wishes()
    wishes.poll({LOW: (7, 7)}, 0.0)
    wishes.repeat()
    assert wishes.poll({LOW: (7, 7)}, 0.01) == (2, (Wish(7, 0, 7, 7),))
    wishes.poll({}, 0.02)
    wishes.repeat()
    assert wishes.poll({}, 0.03) is None, "it never heard of us"


def test_a_frame_is_never_too_long() -> None:
    said_now = Wishes().poll({(track, 0): (7, 7) for track in range(100)}, 0.0)
    assert said_now is not None
    assert len(said_now[1]) == MAX_WISHES
