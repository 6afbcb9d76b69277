"""What a node does with snapshots and deltas, for tests: the receiving half of plan.py."""

from __future__ import annotations

from relaymesh.protocol.bitstring import decode_set, members
from relaymesh.protocol.messages import Delta, Snapshot

Table = dict[int, int]  # destination → next hop


def from_snapshot(snapshot: Snapshot) -> Table:
    return {d: route.next_hop for route in snapshot.routes for d in members(decode_set(route.destinations))}


def with_delta(table: Table, delta: Delta) -> Table:
    lost = members(decode_set(delta.lost))
    changed = {d: r.next_hop for r in delta.moved for d in members(decode_set(r.destinations))}
    assert all(destination in table for destination in lost)
    assert not set(lost) & set(changed)
    return {d: hop for d, hop in (table | changed).items() if d not in lost}
