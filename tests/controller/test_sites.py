"""Workers of one site: who they are let in as, which links they have, and where traffic crosses."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from relaymesh.controller.adjacency import Adjacency
from relaymesh.controller.metric import HOP_MS
from relaymesh.controller.placement import Client
from relaymesh.controller.policy import MeshPolicy, OpenMesh, TopologyPolicy
from relaymesh.controller.refusal import JoinRefused
from relaymesh.controller.registry import Member, Registry
from relaymesh.controller.sites import CROSSING_STEP_MS, crossing_ms, same_site
from relaymesh.controller.sparse import FULL_MESH
from relaymesh.controller.tokens import make_join_token, verify_join_token
from relaymesh.protocol.messages import CONTROL_VERSION, Address, Join, LinkConfig, Report, SiteInfo
from relaymesh.topology import parse_topology
from tests.controller.fake_mesh import FakeMesh

SECRET = "s" * 32
FILE = """
version: 1
name: two-hosts
regions: [{name: fra}, {name: ams}]
nodes:
  - {name: fra-1, region: fra, roles: [relay]}
  - {name: ams-1, region: ams}
  - {name: ams-2, region: ams}
  - {name: ams-3.1, region: ams}
  - {name: ams-3.2, region: ams}
peering: listed
links:
  - {between: [fra-1, ams-1], delay_ms: 4, extra_cost_ms: 5}
  - {between: [ams-1, ams-2], peering: never}
  - {between: [ams-3.1, ams-3.2], peering: never}
"""


def site(name: str, number: int, workers: int = 4) -> SiteInfo:
    return SiteInfo(name, number, workers, Address("127.0.0.1", 7500 + number - 1))


@dataclass(frozen=True)
class Worker:
    name: str
    region: str
    site: SiteInfo | None = None


def worker(name: str, number: int, workers: int = 4, region: str = "fra") -> Worker:
    return Worker(f"{name}.{number}", region, site(name, number, workers))


def member(index: int, at: Worker) -> Member:
    address = Address("198.51.100.7", 5000 + index)
    return Member(index, at.name, at.region, "boot", address, "", index, 0.0, 0.0, site=at.site)


def join(at: Worker, **changes: object) -> Join:
    named = {"boot_id": "boot-of-it", "relay": Address("198.51.100.7", 7500), "http_url": "", "site": at.site}
    return Join(version=CONTROL_VERSION, name=at.name, region=at.region, token="t", **(named | changes))  # type: ignore[arg-type]


def links(*members: Member, policy: MeshPolicy | None = None) -> dict[tuple[int, int], LinkConfig]:
    """(who is told, peer) → what it is told, after all have joined."""
    adjacency = Adjacency(policy or OpenMesh(), random.Random(1).randbytes, 3600.0)
    told = [
        one
        for who in members
        for one in adjacency.handle_join(who, fresh=True, moved=False, departed=[], now=0)
    ]
    return {(index, config.peer): config for index, links in told for config in links.set}


# --- who they are ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fra-1.3", site("fra-1", 2)),
        ("fra-1", site("fra-1", 1)),
        ("ams-1.2", site("fra-1", 2)),
        ("fra-1.02", site("fra-1", 2)),
        ("fra-1.5", site("fra-1", 5)),
    ],
)
def test_a_name_that_is_not_the_sites_is_refused(name: str, said: SiteInfo) -> None:
    registry = Registry(OpenMesh())
    with pytest.raises(JoinRefused, match=r"of the site 'fra-1'") as caught:
        registry.join(join(Worker(name, "fra", said)), 1, 0.0)
    assert caught.value.code == "malformed" and registry.members() == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "fe80::1%eth0"])
def test_an_address_within_the_site_that_nobody_can_send_to_is_refused(host: str) -> None:
    said = SiteInfo("fra-1", 1, 2, Address(host, 7500))
    with pytest.raises(JoinRefused, match="nobody can send"):
        Registry(OpenMesh()).join(join(Worker("fra-1.1", "fra", said)), 1, 0.0)


def test_a_worker_whose_address_within_the_site_is_another_has_moved() -> None:
    registry, at = Registry(OpenMesh()), worker("fra-1", 1)
    registry.join(join(at), 1, 0.0)
    moved = SiteInfo("fra-1", 1, 4, Address("127.0.0.1", 9999))
    assert not registry.join(join(at), 2, 1.0).moved
    admission = registry.join(join(replace(at, site=moved)), 3, 2.0)
    assert admission.moved and admission.member.site == moved


def test_a_token_for_the_site_lets_its_workers_in_and_nobody_else() -> None:
    token = make_join_token(SECRET, name="fra-1")

    def verify(name: str, site: str | None) -> None:
        verify_join_token(SECRET, token, name=name, region="fra", unix_time=0.0, site=site)

    verify("fra-1.2", "fra-1")
    for name, said in (("fra-1.2", None), ("fra-2.1", "fra-2"), ("fra-11", "fra-1"), ("fra-2", "fra-1")):
        with pytest.raises(JoinRefused, match="join token is for the node 'fra-1'"):
            verify(name, said)


# --- links -------------------------------------------------------------------------------------


def test_workers_reach_each_other_on_their_host_and_others_from_outside() -> None:
    one, two, far = (
        member(0, worker("fra-1", 1)),
        member(1, worker("fra-1", 2)),
        member(2, Worker("x", "fra")),
    )
    told = links(one, two, far)
    assert told[0, 1].address == Address("127.0.0.1", 7501)
    assert told[1, 0].address == Address("127.0.0.1", 7500)
    assert told[2, 1].address == two.address and told[1, 2].address == far.address


def test_sites_of_one_name_in_two_regions_are_two() -> None:
    one, two = worker("fra-1", 1), worker("fra-1", 2, region="ams")
    assert not same_site(one, two) and same_site(one, worker("fra-1", 2))
    assert links(member(0, one), member(1, two))[0, 1].address == Address("198.51.100.7", 5001)


def test_workers_are_neighbours_whatever_the_topology_says() -> None:
    policy = TopologyPolicy(parse_topology(FILE))
    two = [worker("ams-3", number, region="ams") for number in (1, 2)]
    assert not policy.may_peer(*(Worker(at.name, "ams") for at in two)), "but for their site"
    told = links(*(member(at.site.number, at) for at in two if at.site), policy=policy)
    assert set(told) == {(1, 2), (2, 1)}


def test_workers_are_neighbours_in_a_mesh_that_is_too_big_for_all_to_be() -> None:
    crowd = [member(index, Worker(f"n{index}", "fra")) for index in range(3 * FULL_MESH)]
    first, last = member(100, worker("fra-1", 1)), member(500, worker("fra-1", 2))
    told = links(first, *crowd, last)
    assert (100, 500) in told and len([peer for index, peer in told if index == 500]) < FULL_MESH


def test_what_the_topology_says_of_a_site_holds_for_its_workers() -> None:
    policy = TopologyPolicy(parse_topology(FILE))
    fra, ams, other = worker("fra-1", 2), worker("ams-1", 1, region="ams"), worker("ams-2", 1, region="ams")
    assert policy.may_peer(fra, ams) and policy.extra_cost_ms(fra, ams) == 5.0
    assert not policy.may_peer(fra, other)
    assert policy.stands_at(fra, "fra-1") and policy.stands_at(fra, "fra-1.2")
    assert not policy.stands_at(fra, "fra-1.1")
    assert not policy.is_edge(fra) and policy.is_edge(ams)
    with pytest.raises(JoinRefused, match="'fra-1' in region 'fra'"):
        Registry(policy).join(join(replace(fra, region="ams")), 1, 0.0)


# --- where traffic crosses ---------------------------------------------------------------------


def test_one_pair_of_workers_crosses_between_two_sites_and_the_others_are_dearer_step_by_step() -> None:
    here = [worker("fra-1", number) for number in range(1, 5)]
    there = [worker("ams-1", number, 3) for number in range(1, 4)]
    costs = sorted(crossing_ms(a, b) for a in here for b in there)
    assert costs[:2] == [0.0, CROSSING_STEP_MS] and costs.count(0.0) == 1
    assert all(crossing_ms(a, b) == crossing_ms(b, a) for a in here for b in there)
    assert all(crossing_ms(a, b) == 0.0 for a in here for b in here)
    alone = [crossing_ms(a, Worker("x", "x")) for a in here]
    assert sorted(alone) == [step * CROSSING_STEP_MS for step in range(4)]
    assert crossing_ms(Worker("y", "y"), Worker("x", "x")) == 0.0


def test_who_crosses_differs_from_one_far_site_to_the_next() -> None:
    here = [worker("fra-1", number) for number in range(1, 5)]
    crossing = []
    for far in (Worker(f"far-{n}", "x") for n in range(40)):
        crossing += [at.name for at in here if crossing_ms(at, far) == 0.0]
    assert len(crossing) == 40
    assert all(5 <= crossing.count(at.name) <= 16 for at in here), "about ten each"


# --- in a mesh ---------------------------------------------------------------------------------


def two_sites(workers: int = 3) -> FakeMesh:
    """fra-1 and ams-1, 20 ms apart, with links between all; the two hosts' own are noisy."""
    mesh = FakeMesh()
    for name in ("fra-1", "ams-1"):
        for number in range(1, workers + 1):
            mesh.add(f"{name}.{number}", name[:3], site=site(name, number, workers))
    names = sorted(mesh.nodes)
    for one in names:
        for other in names:
            if one < other:
                mesh.wire(
                    one, other, 0.3 + 3 * random.Random(one + other).random() if one[:3] == other[:3] else 20
                )
    mesh.run(5.0)
    return mesh


def crossings(mesh: FakeMesh, start: str) -> set[tuple[str, str]]:
    """The links over which packets from *start* reach the workers of the other site."""
    found = set()
    for end in mesh.nodes:
        if end[:3] != start[:3] and mesh.nodes[end].running:
            path = mesh.route(start, end)
            assert path is not None, f"{start} reaches {end}"
            found |= {(a, b) for a, b in pairwise(path) if a[:3] != b[:3]}
    return found


def test_one_copy_crosses_to_a_far_site_however_many_of_its_workers_want_it() -> None:
    mesh = two_sites()
    ways = [crossings(mesh, start) for start in mesh.nodes]
    assert all(len(way) == 1 for way in ways)
    assert len({frozenset(link) for way in ways for link in way}) == 1, "the same line both ways"


def test_another_worker_crosses_when_the_one_that_did_is_gone() -> None:
    mesh = two_sites()
    ((before, after),) = crossings(mesh, "fra-1.1")
    mesh.kill(before)
    mesh.run(15.0)
    left = next(name for name in mesh.nodes if name.startswith("fra") and name != before)
    ((instead, there),) = crossings(mesh, left)
    assert instead != before and there == after


def members_after(mesh: FakeMesh, seconds: float) -> set[str]:
    mesh.run(seconds)
    state: Any = mesh.core.state()
    return {node["name"] for node in state["nodes"]}


def test_a_site_that_is_gone_is_given_up_like_one_node() -> None:
    mesh = two_sites()
    for name in ("fra-1.1", "fra-1.2", "fra-1.3"):
        mesh.kill(name)
    assert len(members_after(mesh, 9.0)) == 6
    assert members_after(mesh, 6.0) == {"ams-1.1", "ams-1.2", "ams-1.3"}


def test_a_site_that_only_the_controller_lost_is_kept() -> None:
    mesh = two_sites()
    for name in ("fra-1.1", "fra-1.2", "fra-1.3"):
        mesh.disconnect(name)
    assert len(members_after(mesh, 30.0)) == 6


def test_what_is_measured_within_a_site_does_not_count() -> None:
    state: Any = two_sites().core.state()
    within = [link["cost_ms"] for link in state["links"] if link["from"][:3] == link["to"][:3]]
    assert len(within) == 12 and set(within) == {HOP_MS}


def test_clients_are_spread_over_the_workers_of_a_site_by_load() -> None:
    mesh = two_sites()
    sessions = Counter({"fra-1.1": 40})
    mesh.tell("fra-1.1", Report((), sessions=40))
    for _ in range(60):
        (best,) = mesh.core.view.edges("demo", Client(region="fra"), 1, mesh.now)
        sessions[str(best["name"])] += 1
        assert best["url"] == f"http://{best['name']}.example:8000"
    assert sessions["fra-1.2"] == sessions["fra-1.3"] == 30
