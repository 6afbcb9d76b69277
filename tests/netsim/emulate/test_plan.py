"""What an emulation consists of."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.netsim.emulate.plan import EmulationPlan, clients_host
from relaymesh.netsim.scenario.loader import load_scenario

SCENARIOS = Path(__file__).parents[3] / "simulations"


@pytest.fixture(scope="module")
def plan() -> EmulationPlan:
    return EmulationPlan(load_scenario(SCENARIOS / "two-hops.yaml"), 7)


def test_every_node_region_and_the_controller_has_a_host(plan: EmulationPlan) -> None:
    names = [host.name for host in plan.hosts]
    assert names == ["controller", "a", "t1", "t2", "c", *(clients_host(n) for n in ("a", "t1", "t2", "c"))]
    addresses = [address for host in plan.hosts for address in host.addresses]
    assert len(set(addresses)) == len(addresses) == 9 + 3


def test_participants_have_addresses_of_their_own_at_their_region(plan: EmulationPlan) -> None:
    at = {host.name: host.addresses for host in plan.hosts}
    assert len(at[clients_host("a")]) == 3
    assert plan.client_address["square", "far"] in at[clients_host("c")]


def test_links_are_those_of_the_scenario_with_the_seeds_of_the_simulation(plan: EmulationPlan) -> None:
    wires = {(wire.source, wire.target): wire for wire in plan.wires()}
    assert len(wires) == len(plan.wires())
    a, t1, c = (plan.node_address[name] for name in ("a", "t1", "c"))
    assert wires[a, t1].conditions.delay_ms == 5
    assert wires[a, t1].conditions.jitter_ms == 1
    assert wires[a, t1].seed == "7:a:t1"
    assert (a, c) not in wires
    alice = plan.client_address["square", "alice"]
    assert wires[alice, a].conditions.delay_ms == 5.0
    assert (alice, c) not in wires


def test_a_visitor_reaches_every_node_along_the_shortest_way(plan: EmulationPlan) -> None:
    wires = {(wire.source, wire.target): wire for wire in plan.wires()}
    there = wires[plan.region_address["c"], plan.node_address["a"]]
    assert there.conditions.delay_ms == pytest.approx(5 + 10)


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_scenario_has_a_plan(path: Path) -> None:
    plan = EmulationPlan(load_scenario(path), 1)
    known = {address for host in plan.hosts for address in host.addresses}
    assert all(wire.source in known and wire.target in known for wire in plan.wires())


def test_commands_carry_secrets_in_the_environment_only(plan: EmulationPlan, tmp_path: Path) -> None:
    controller = plan.controller_command(tmp_path, "a-secret-of-the-mesh")
    node = plan.node_command("t1", tmp_path, "a-token")
    assert "a-secret-of-the-mesh" not in " ".join(controller.arguments) + repr(controller)
    assert "a-token" not in " ".join(node.arguments) + repr(node)
    assert f"{plan.node_address['t1']}:7500" in node.arguments
    assert "--open-rooms" in node.arguments  # its clients come from other hosts, and bring no tokens
