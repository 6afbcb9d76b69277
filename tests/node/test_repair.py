from __future__ import annotations

from relaymesh.node.repair import LocalRepair
from relaymesh.node.tables import ForwardingTables
from relaymesh.protocol.bitstring import encode_set, set_of
from relaymesh.protocol.messages import Delta, Detour, Route, Snapshot

FAR = set_of([5, 6])


def held(generation: int = 1) -> ForwardingTables:
    tables = ForwardingTables()
    tables.install_snapshot(
        Snapshot(
            generation,
            (Route(2, encode_set(FAR)),),
            (Detour(2, (3, 4), encode_set(1 << 5)), Detour(2, (), encode_set(1 << 6))),
        )
    )
    tables.activate(generation)
    return tables


def test_destinations_with_a_detour_go_around_and_the_others_are_still_tried() -> None:
    repair = LocalRepair(held())
    assert not repair.active
    repair.handle_down(2)
    assert repair.active
    assert repair.ways(2, FAR, 1) == [(3, 1 << 5, (4,)), (2, 1 << 6, ())]
    assert repair.ways(3, FAR, 1) == [(3, FAR, ())]


def test_a_link_that_returns_is_taken_back_by_the_next_plan_only() -> None:
    tables = held()
    repair = LocalRepair(tables)
    repair.handle_down(2)
    repair.handle_up(2)
    assert repair.ways(2, 1 << 5, 1) == [(3, 1 << 5, (4,))]
    assert repair.waiting() == 1 << 2, "the controller is asked for a newer plan"
    assert tables.install_delta(Delta(2, 1))
    assert repair.ways(2, 1 << 5, 2) == [(2, 1 << 5, ())]
    assert repair.ways(2, 1 << 5, 1) == [(3, 1 << 5, (4,))], "frames of the older plan still go around"
    tables.activate(2)
    repair.handle_activate()
    assert not repair.active
    assert repair.waiting() == 0


def test_with_both_ways_down_the_one_that_returned_is_taken() -> None:
    repair = LocalRepair(held())
    repair.handle_down(2)
    repair.handle_down(3)
    assert repair.ways(2, 1 << 5, 1) == [(3, 1 << 5, (4,))]
    repair.handle_up(2)
    assert repair.ways(2, 1 << 5, 1) == [(2, 1 << 5, ())]


def test_a_neighbour_taken_away_is_forgotten_when_no_table_names_it() -> None:
    tables = held()
    repair = LocalRepair(tables)
    repair.handle_removed(2)
    assert repair.ways(2, 1 << 5, 1)[0][0] == 3
    tables.install_snapshot(Snapshot(2, (Route(3, encode_set(FAR)),)))
    tables.activate(2)
    repair.handle_activate()
    assert not repair.active


def test_a_delta_keeps_or_replaces_the_detours_of_its_base() -> None:
    tables = held()
    tables.install_delta(Delta(2, 1))
    assert list(tables.detours(2, 2)) == list(tables.detours(2, 1)) == [((3, 4), 1 << 5)]
    tables.install_delta(Delta(3, 2, detours=()))
    assert list(tables.detours(2, 3)) == []
