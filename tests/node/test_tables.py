from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.tables import GENERATIONS_KEPT, ForwardingTables
from relaymesh.protocol.bitstring import encode_set, set_of
from relaymesh.protocol.messages import Delta, Route, Snapshot


def snapshot(generation: int, table: dict[int, set[int]]) -> Snapshot:
    return Snapshot(generation, tuple(Route(hop, encode_set(set_of(d))) for hop, d in table.items()))


def test_a_packet_is_split_by_the_table_of_its_generation():
    tables = ForwardingTables()
    tables.install_snapshot(snapshot(1, {2: {2, 3}, 4: {4}}))
    tables.install_snapshot(snapshot(2, {4: {2, 3, 4}}))
    wanted = set_of({2, 3, 4, 9})
    parts, unrouted = tables.split(wanted, 1)
    assert parts == [(2, set_of({2, 3}), ()), (4, set_of({4}), ())]
    assert unrouted == set_of({9})
    assert tables.split(wanted, 2)[0] == [(4, set_of({2, 3, 4}), ())]


def test_a_generation_not_held_is_forwarded_by_the_newest_and_counted():
    tables = ForwardingTables()
    assert tables.split(0b10, 5) == ([], 0b10)
    tables.install_snapshot(snapshot(1, {2: {1}}))
    assert tables.split(0b10, 5) == ([(2, 0b10, ())], 0)
    assert tables.unknown_generations == 2


def test_only_a_held_generation_can_be_activated_and_the_active_one_is_never_dropped():
    tables = ForwardingTables()
    assert not tables.activate(1)
    tables.install_snapshot(snapshot(1, {2: {1}}))
    assert tables.activate(1)
    for generation in range(2, 2 + 3 * GENERATIONS_KEPT):
        tables.install_snapshot(snapshot(generation, {3: {1}}))
    assert tables.active == 1
    assert tables.split(0b10, 1) == ([(2, 0b10, ())], 0)
    assert tables.unknown_generations == 0


def test_a_delta_on_an_unknown_base_changes_nothing():
    tables = ForwardingTables()
    tables.install_snapshot(snapshot(1, {2: {1}}))
    before = tables.debug_state()
    assert not tables.install_delta(Delta(9, 8, (Route(3, encode_set(0b10)),)))
    assert tables.debug_state() == before


TABLE = st.dictionaries(st.integers(1, 12), st.integers(1, 6), max_size=12)  # destination → next hop


@given(TABLE, TABLE)
def test_snapshot_plus_delta_is_the_new_table(old, new):
    tables = ForwardingTables()
    by_hop = lambda table: {h: {d for d, hop in table.items() if hop == h} for h in set(table.values())}  # noqa: E731
    tables.install_snapshot(snapshot(1, by_hop(old)))
    moved = {d: hop for d, hop in new.items() if old.get(d) != hop}
    lost = set(old) - set(new)
    delta = Delta(
        2,
        1,
        tuple(Route(h, encode_set(set_of(d))) for h, d in by_hop(moved).items()),
        encode_set(set_of(lost)),
    )
    assert tables.install_delta(delta)
    for destination in range(1, 13):
        parts, unrouted = tables.split(1 << destination, 2)
        assert [hop for hop, _, _ in parts] == ([new[destination]] if destination in new else [])
        assert bool(unrouted) == (destination not in new)
