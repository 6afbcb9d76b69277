"""What a run is judged by, and what cannot be emulated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relaymesh.netsim.emulate.cleanup import ProcessId, RunState
from relaymesh.netsim.emulate.measure import rtt_excess_ms
from relaymesh.netsim.emulate.netem import choose_backend
from relaymesh.netsim.emulate.plan import EmulationPlan, clients_host
from relaymesh.netsim.emulate.runner import cannot_emulate, keep_logs, replay, why_invalid
from relaymesh.netsim.emulate.visit import CannotVisit, environment, find_run, namespace_of
from relaymesh.netsim.scenario.loader import load_scenario
from tests.netsim.emulate.kernel import NO_NETEM

SCENARIOS = Path(__file__).parents[3] / "simulations"


def stats(p99_ms: float = 0.2, overflowed: int = 0) -> dict[str, Any]:
    return {"lateness_ms": {"p99": p99_ms}, "overflowed": overflowed}


def test_a_late_emulator_makes_a_run_invalid() -> None:
    assert why_invalid(stats(1.0), fifo=True) is None
    late = why_invalid(stats(1.01), fifo=True)
    assert late is not None and "1.01 ms at p99" in late and "root" not in late
    advised = why_invalid(stats(3), fifo=False)
    assert advised is not None and "run as root" in advised


def test_lost_packets_of_this_machine_make_a_run_invalid() -> None:
    reason = why_invalid(stats(overflowed=3), fifo=True)
    assert reason is not None and reason.startswith("3 packets were lost")


def test_what_is_inside_tls_or_the_clock_cannot_be_emulated() -> None:
    faults = (
        "[{kind: drop-control, at_s: 1, fraction: 0.5}, {kind: controller-crash, at_s: 2},"
        " {kind: clock-skew, node: a, at_s: 1, offset_s: 5}]"
    )
    scenario = load_scenario(SCENARIOS / "two-hops.yaml", {"faults": faults})
    problems = cannot_emulate(scenario)
    assert [text.split(": ")[1:3] for text in problems] == [
        ["faults[0]", "drop-control cannot be emulated"],
        ["faults[2]", "clock-skew cannot be emulated"],
    ]


def test_logs_are_kept_where_one_asks(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("words")
    (tmp_path / "key.pem").write_text("secret")
    keep_logs(tmp_path, tmp_path / "kept" / "here")
    assert [(p.name, p.read_text()) for p in (tmp_path / "kept" / "here").iterdir()] == [("a.log", "words")]


@pytest.fixture
def state(tmp_path: Path) -> RunState:
    return RunState(
        tmp_path,
        ProcessId(1, 1),
        namespaces={"controller": 5, "paris": 6, "lon-1": 7, clients_host("paris"): 8},
        urls={"paris": "http://10.77.1.0:7700", "lon-1": "http://10.77.1.1:7700"},
    )


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("paris", clients_host("paris")),
        ("node:paris", "paris"),
        ("lon-1", "lon-1"),
        ("controller", "controller"),
    ],
)
def test_a_region_goes_before_a_node_of_its_name(state: RunState, place: str, name: str) -> None:
    assert namespace_of(state, place) == name


@pytest.mark.parametrize("place", ["rome", "node:rome", ""])
def test_a_place_that_is_not_there_is_told_with_those_that_are(state: RunState, place: str) -> None:
    with pytest.raises(CannotVisit, match="there are: paris, node:paris, node:lon-1, controller"):
        namespace_of(state, place)


def test_a_command_is_told_where_the_nodes_are(state: RunState) -> None:
    assert environment(state, "paris") == {
        "RELAYMESH_PLACE": "paris",
        "RELAYMESH_URL_PARIS": "http://10.77.1.0:7700",
        "RELAYMESH_URL_LON_1": "http://10.77.1.1:7700",
    }


def test_without_a_run_there_is_nothing_to_visit(tmp_path: Path) -> None:
    with pytest.raises(CannotVisit, match="no emulation is running"):
        find_run(tmp_path)


def test_a_backend_that_is_not_there_says_why() -> None:
    assert choose_backend("tun") is None
    assert choose_backend("netem") == NO_NETEM


def test_a_backend_without_lateness_is_judged_by_round_trips() -> None:
    unknown = {"lateness_ms": None, "overflowed": 0}
    assert why_invalid(unknown, fifo=False) is None
    assert why_invalid(unknown, fifo=False, excess_ms=1.0) is None
    reason = why_invalid(unknown, fifo=False, excess_ms=1.2)
    assert reason is not None and "1.2 ms more than their links" in reason


def test_round_trips_are_compared_with_links_that_do_not_change() -> None:
    links = "[{between: [a, t1], jitter_ms: 0, delay_ms: 5}, {between: [a, t2], jitter_ms: 1.6, delay_ms: 5}]"
    fault = "[{kind: link-cut, between: [t1, c], at_s: 40}]"
    plan = EmulationPlan(load_scenario(SCENARIOS / "two-hops.yaml", {"links": links, "faults": fault}), 1)
    rtts = {"a→t1": {"p10": 10.2}, "t1→a": {"p10": 10.5}, "t1→c": {"p10": 99.0}, "a→t2": {"p10": 12.4}}
    assert rtt_excess_ms(plan, rtts) == 0.5
    assert rtt_excess_ms(plan, {}) is None


def test_a_run_is_repeated_with_its_backend() -> None:
    scenario = load_scenario(SCENARIOS / "two-hops.yaml")
    assert replay(scenario, 3, "netem").endswith(" --backend netem")
    assert "--backend" not in replay(scenario, 3, "tun")
