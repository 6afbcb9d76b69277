from __future__ import annotations

import random
from collections.abc import Iterable

from relaymesh.controller.adjacency import Adjacency, Told
from relaymesh.controller.parts import at_once
from relaymesh.controller.policy import OpenMesh, Placed
from relaymesh.controller.registry import Member
from relaymesh.protocol.messages import Address, LinkConfig


class NoPeeringAcross(OpenMesh):
    """fra and ams may not peer; everybody else may."""

    def may_peer(self, one: Placed, other: Placed) -> bool:
        return {one.region, other.region} != {"fra", "ams"}


def adjacency(rotation_s: float = 3600.0) -> Adjacency:
    return Adjacency(NoPeeringAcross(), random.Random(1).randbytes, rotation_s)


def member(index: int, region: str = "lon") -> Member:
    return Member(
        index=index,
        name=f"n{index}",
        region=region,
        boot_id="boot-one",
        address=Address("10.0.0.1", 5000 + index),
        http_url="",
        conn_id=index,
        joined_at=0.0,
        last_seen=0.0,
    )


def join(adj: Adjacency, who: Member, *, fresh: bool = True, moved: bool = False, now: float = 0.0) -> Told:
    return adj.handle_join(who, fresh=fresh, moved=moved, departed=[], now=now)


def configs(told: Told) -> dict[tuple[int, int], LinkConfig]:
    """(who is told, peer) → what it is told; the last word counts."""
    return {(index, config.peer): config for index, links in told for config in links.set}


def assert_ends_agree(held: dict[tuple[int, int], LinkConfig], pairs: Iterable[tuple[int, int]]) -> None:
    for a, b in pairs:
        one, other = held[a, b], held[b, a]
        assert one.epoch == other.epoch
        assert one.send_key == other.receive_key and one.receive_key == other.send_key
        assert one.send_key != one.receive_key


def test_both_ends_get_the_same_two_keys() -> None:
    adj = adjacency()
    held: dict[tuple[int, int], LinkConfig] = {}
    for index in (2, 0, 1):
        held |= configs(join(adj, member(index)))
    assert_ends_agree(held, [(0, 1), (0, 2), (1, 2)])
    assert held[0, 2].address == Address("10.0.0.1", 5002) and held[0, 2].name == "n2"
    assert len({config.send_key for config in held.values()}) == 6


def test_only_pairs_the_policy_allows_are_neighbours() -> None:
    adj = adjacency()
    told = [
        adj_told for who in (member(0, "fra"), member(1, "ams"), member(2)) for adj_told in join(adj, who)
    ]
    assert set(configs(told)) == {(0, 2), (2, 0), (1, 2), (2, 1)}
    assert adj.neighbours(2) == [0, 1]
    assert not adj.are_neighbours(0, 1) and not adj.are_neighbours(0, 9)


def test_a_new_boot_gets_new_keys_and_the_same_boot_the_same() -> None:
    adj = adjacency()
    first = configs(join(adj, member(0)) + join(adj, member(1)))
    resumed = join(adj, member(1), fresh=False)
    assert [index for index, _ in resumed] == [1]  # its neighbour hears nothing
    assert configs(resumed)[1, 0] == first[1, 0]
    rebooted = configs(join(adj, member(1)))
    assert_ends_agree(rebooted, [(0, 1)])
    assert rebooted[0, 1].epoch == (first[0, 1].epoch + 1) % 256
    assert rebooted[0, 1].send_key not in (first[0, 1].send_key, first[0, 1].receive_key)


def test_a_node_that_comes_back_elsewhere_keeps_its_keys_and_its_neighbours_learn_where() -> None:
    adj = adjacency()
    first = configs(join(adj, member(0)) + join(adj, member(1)))
    moved = member(1)
    moved.address = Address("10.0.0.9", 9)
    told = configs(join(adj, moved, fresh=False, moved=True))
    assert told[0, 1].address == Address("10.0.0.9", 9)
    assert told[0, 1].send_key == first[0, 1].send_key


def test_a_new_boot_in_another_region_loses_neighbours_it_may_not_have() -> None:
    adj = adjacency()
    join(adj, member(0, "fra"))
    join(adj, member(1, "lon"))
    told = join(adj, member(1, "ams"))
    assert [(index, links.remove) for index, links in told if links.remove] == [(0, (1,))]
    assert adj.neighbours(0) == []


def test_who_is_gone_is_forgotten_by_its_neighbours_and_named_to_who_comes_back() -> None:
    adj = adjacency()
    for index in range(3):
        join(adj, member(index))
    assert [(index, links.remove) for index, links in adj.handle_gone(1)] == [(0, (1,)), (2, (1,))]
    (last,) = adj.handle_join(member(0), fresh=False, moved=False, departed=[1], now=0.0)
    assert last[1].remove == (1,) and [config.peer for config in last[1].set] == [2]


def test_keys_rotate_on_time_and_only_while_both_ends_can_be_told() -> None:
    adj = adjacency(rotation_s=100.0)
    members = [member(index) for index in range(3)]
    held: dict[tuple[int, int], LinkConfig] = {}
    for who in members:
        held |= configs(join(adj, who))
    assert adj.handle_timeout(99.9) == []
    assert adj.next_timeout() == 100.0
    members[2].conn_id = None
    rotated = configs(adj.handle_timeout(100.0))
    assert set(rotated) == {(0, 1), (1, 0)}
    assert_ends_agree(rotated, [(0, 1)])
    assert rotated[0, 1].epoch == (held[0, 1].epoch + 1) % 256
    retry = adj.next_timeout()
    assert retry is not None and 100.0 < retry <= 110.0
    members[2].conn_id = 2
    assert set(configs(adj.handle_timeout(retry))) == {(0, 2), (2, 0), (1, 2), (2, 1)}
    assert adj.next_timeout() == 200.0
    assert "key" not in repr(at_once(adj.debug_state()))


def test_keys_of_many_links_that_are_due_together_are_rotated_some_at_a_time() -> None:
    adj = adjacency(rotation_s=100.0)
    for index in range(100):
        join(adj, member(index))
    pairs, rotated, calls = set(adj.pairs()), set[tuple[int, int]](), 0
    while adj.next_timeout() == 100.0:
        told = configs(adj.handle_timeout(100.0))
        new = {(index, peer) for index, peer in told if index < peer}
        assert 0 < len(new) <= 256 and not new & rotated
        rotated |= new
        calls += 1
    assert rotated == pairs and calls > 1
    assert adj.next_timeout() == 200.0
