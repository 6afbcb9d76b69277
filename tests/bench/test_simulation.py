"""`bench simulate`, small: the same packets every time, and figures that belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.bench import simulation, virtual_network

SQUARE = simulation.CHECKOUT / "topologies" / "square.yaml"


def test_the_whole_stack_carries_the_same_packets_every_time() -> None:
    scenario = simulation.rate_scenario(SQUARE, 3.0, publishers=1, kbps=200)
    rate = simulation.stack_rate(scenario, 3.0, rounds=1)
    cost = simulation.scenario_cost(scenario, seed=1, rounds=1)
    assert rate.packets == cost.packets > 100
    assert rate.packets_per_cpu_s > 0
    assert rate.ratio == pytest.approx(1e6 / rate.packets_per_cpu_s / rate.aes_gcm_us)
    assert len(cost.trace_hash) == 64
    assert cost.packets_per_cpu_s == pytest.approx(cost.packets / cost.cpu_s)


def test_the_room_stands_in_the_ten_regions_that_earlier_figures_are_of() -> None:
    scenario = simulation.rate_scenario(simulation.TOPOLOGY, 3.0, publishers=2, kbps=200)
    (room,) = scenario.file.traffic.rooms
    assert len(room.participants) == 3
    assert scenario.topology.name == "ibm-cloud"


def test_the_network_alone_carries_packets_each_way() -> None:
    rate = virtual_network.measure(2000, hosts=4)
    assert min(rate.bare_heap, rate.tasks, rate.tasks_coarse, rate.handlers) > 0


def test_where_time_goes_names_functions(tmp_path: Path) -> None:
    scenario = simulation.rate_scenario(SQUARE, 3.0, publishers=1, kbps=100)
    assert "tottime" in simulation.where_time_goes(scenario)
