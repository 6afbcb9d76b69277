"""Whole simulated runs: what they measure, what faults do to them, what cannot be simulated."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relaymesh.netsim.metrics import METRICS, SERIES
from relaymesh.netsim.result import Result
from relaymesh.netsim.scenario.loader import load_scenario
from relaymesh.netsim.simulate import Simulation, replay_command, simulate

ROOT = Path(__file__).parent.parent.parent
SWARM = Path(__file__).parent / "scenarios" / "swarm.yaml"
HEAD = f"""
version: 1
name: small
topology: {ROOT}/topologies/square.yaml
duration_s: 12
warmup_s: 3
controller: {{at: a}}
traffic:
  rooms:
    - name: room
      participants:
        - {{name: alice, at: a, publish: [audio, {{kind: video, kbps: 200, fps: 15}}], play: none}}
        - {{name: bob, at: c, join_s: 0.5}}
"""


def run(tmp_path: Path, more: str = "", **overrides: str) -> Result:
    path = tmp_path / "small.yaml"
    path.write_text(HEAD + more)
    result = simulate(load_scenario(path, overrides))
    assert result.valid, result.invalid_reason
    return result


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(tmp_path_factory.mktemp("quiet"))


def test_a_quiet_run_loses_nothing_and_takes_the_best_path(quiet: Result) -> None:
    metrics = quiet.metrics
    assert metrics["streams_played"] == 1
    assert metrics["residual_loss"] == 0
    assert metrics["loops"] == metrics["duplicates"] == metrics["route_changes"] == 0
    assert metrics["path_stretch"] == pytest.approx(0.0, abs=1e-6)
    assert metrics["media_gap_ms"]["max"] < 1
    # alice's packets are 15/s video frames of a few packets and 50/s audio, for 9 measured seconds
    assert metrics["sent_packets"] == metrics["delivered_packets"] > 9 * 65
    assert [path.path for path in quiet.paths if path.path] == [["a", "t1", "c"]]


def test_the_added_delay_is_what_lies_beyond_links_and_access(quiet: Result) -> None:
    assert quiet.metrics["added_delay_ms"]["p50"] <= 0.1
    assert quiet.players[0].delay_ms["p50"] == pytest.approx(5 + 5 + 2 * 5, abs=0.2)
    # Bob asks before there are routes, is refused, and asks again half a second later.
    assert 20 < quiet.metrics["first_frame_ms"]["max"] < 1000


def test_round_trips_are_those_of_the_links(quiet: Result) -> None:
    rtts = quiet.metrics["rtt_ms"]
    assert rtts["a→t1"]["p50"] == pytest.approx(10.0, abs=0.2)
    assert rtts["t2→c"]["p50"] == pytest.approx(14.0, abs=0.2)
    assert len(rtts) == 8


def test_everything_that_is_promised_is_measured(quiet: Result) -> None:
    assert set(METRICS) <= set(quiet.metrics)
    assert set(quiet.series) <= set(SERIES)
    assert {"delay_p50_ms", "offered_mbps", "players", "residual_loss"} <= set(quiet.series)
    assert len(quiet.metrics["trace_sha256"]) == 64
    assert 0.1 < quiet.metrics["overhead"] < 1.5
    assert quiet.metrics["packets_per_cpu_s"] > 0


def test_a_cut_is_a_gap_and_a_new_path(tmp_path: Path) -> None:
    cut = "faults:\n  - {kind: link-cut, between: [t1, c], at_s: 5.1}\n"
    result = run(tmp_path, cut, **{"settings.hitless": "none"})
    assert 60 < result.metrics["media_gap_ms"]["max"] < 250  # silence, the detour
    assert result.metrics["residual_loss"] == 0, "what the link swallowed is sent again by the detour"
    assert [path.path for path in result.paths if path.path][-1] == ["a", "t2", "c"]
    assert result.metrics["path_stretch"] == pytest.approx(0.0, abs=0.01)  # the best there is by then
    assert [event.what for event in result.events if event.kind == "fault"] == ["link-cut t1 – c"]
    # All series tell of the second before a point: what began at 5.1 s shows at 6 s in each of them.
    for name in ("link_loss", "route_changes"):
        assert min(t for t, value in result.series[name] if t > 3 and value) == 6.0, name


def test_an_edge_that_crashes_is_played_from_again_after_its_restart(tmp_path: Path) -> None:
    result = run(tmp_path, "faults:\n  - {kind: node-crash, node: c, at_s: 4, restart_after_s: 1}\n")
    # The client finds out after 5 s without an answer, and asks anew.
    assert 4000 < result.metrics["media_gap_ms"]["max"] < 7500
    late = [lost for t, lost in result.series["residual_loss"] if t >= 12]
    assert late == [0.0] * len(late)


def test_the_ingress_that_crashes_loses_its_publisher_until_it_comes_back(tmp_path: Path) -> None:
    result = run(
        tmp_path, "faults:\n  - {kind: node-crash, node: a, at_s: 4, restart_after_s: 0.5}\n", duration_s="20"
    )
    assert result.metrics["media_gap_ms"]["max"] > 4000
    assert [lost for t, lost in result.series["residual_loss"] if t >= 19] == [0.0, 0.0]


def test_media_flows_on_without_a_controller(tmp_path: Path) -> None:
    result = run(tmp_path, "faults:\n  - {kind: controller-crash, at_s: 5, restart_after_s: 3}\n")
    assert result.metrics["residual_loss"] == 0
    assert result.metrics["media_gap_ms"]["max"] < 1


def test_a_partition_parts_and_heals(tmp_path: Path) -> None:
    result = run(tmp_path, "faults:\n  - {kind: partition, groups: [[a], [t1, t2]], at_s: 5, for_s: 2}\n")
    assert 2000 <= result.metrics["media_gap_ms"]["max"] < 4500
    assert result.metrics["streams_played"] == 1


def test_burst_loss_shows_on_the_links(tmp_path: Path) -> None:
    faults = "faults:\n" + "".join(
        f"  - {{kind: burst-loss, between: [{a}, {b}], loss: 0.1, mean_burst: 3, at_s: 4}}\n"
        for a, b in (("a", "t1"), ("a", "t2"))
    )
    result = run(tmp_path, faults)
    assert 0.01 < result.metrics["link_loss"] < 0.15
    assert result.metrics["residual_loss"] < 0.01  # the links repair it


def test_conditions_change_slowly(tmp_path: Path) -> None:
    change = "{kind: conditions, between: [a, t1], delay_ms: 5.5, at_s: 4, ramp_s: 2}"
    result = run(tmp_path, f"faults:\n  - {change}\n")
    series = dict(result.series["delay_p50_ms"])
    assert series[4.0] < series[6.0] < series[8.0] == pytest.approx(20.5, abs=0.2)
    assert result.metrics["added_delay_ms"]["p99"] < 1


def test_lost_control_messages_are_survived(tmp_path: Path) -> None:
    result = run(tmp_path, "faults:\n  - {kind: drop-control, fraction: 0.3, at_s: 4, for_s: 5}\n")
    assert result.metrics["residual_loss"] == 0
    assert result.metrics["route_changes"] == 0


@pytest.mark.parametrize("skew", ["offset_s: 100000, drift_ppm: 1000", "offset_s: -1000, drift_ppm: -1000"])
def test_wrong_clocks_cost_nothing_because_none_is_compared_to_another(
    tmp_path: Path, skew: str, quiet: Result
) -> None:
    """At the ingress, on the path and at the edge: from the start, and changing while media flows."""
    result = run(
        tmp_path,
        "faults:\n"
        f"  - {{kind: clock-skew, node: a, {skew}, at_s: 0}}\n"
        f"  - {{kind: clock-skew, node: c, {skew}, at_s: 4}}\n"
        "  - {kind: clock-skew, node: t1, offset_s: 0.05, at_s: 5}\n"
        "  - {kind: clock-skew, node: t1, offset_s: -0.05, drift_ppm: 500, at_s: 8}\n",
    )
    metrics = result.metrics
    assert metrics["streams_played"] == 1
    assert metrics["residual_loss"] == metrics["late_loss"] == 0
    assert metrics["loops"] == metrics["duplicates"] == metrics["route_changes"] == 0
    assert metrics["media_gap_ms"]["max"] < 1
    assert metrics["added_delay_ms"]["p99"] == quiet.metrics["added_delay_ms"]["p99"]
    # A node measures round trips by its own clock: as wrong as that goes, and no more.
    assert metrics["rtt_ms"]["a→t1"]["p50"] == pytest.approx(10.0, rel=0.03)
    assert [path.path for path in result.paths if path.path] == [["a", "t1", "c"]]


def test_a_cut_costs_audio_nothing_that_travels_twice(tmp_path: Path) -> None:
    result = run(tmp_path, "faults:\n  - {kind: link-cut, between: [t1, c], at_s: 5.1}\n")
    [audio] = [player for player in result.players if player.kind == "audio"]
    assert audio.lost == audio.late == 0
    assert audio.gaps_ms == [pytest.approx(3, abs=0.5)]  # by t2 it is so much farther
    assert result.metrics["duplicates"] == result.metrics["loops"] == 0


def test_a_node_with_a_wrong_clock_finds_a_dead_link_as_soon_as_others(tmp_path: Path) -> None:
    skew = "{kind: clock-skew, node: a, offset_s: 5000, drift_ppm: -1000, at_s: 0}"
    faults = f"faults:\n  - {skew}\n  - {{kind: link-cut, between: [t1, c], at_s: 5}}\n"
    result = run(tmp_path, faults, **{"settings.hitless": "none"})
    assert 60 < result.metrics["media_gap_ms"]["max"] < 600  # silence, the detour, a keyframe
    assert [path.path for path in result.paths if path.path][-1] == ["a", "t2", "c"]


def test_a_clock_is_the_machines_and_outlives_its_node(tmp_path: Path) -> None:
    faults = (
        "faults:\n"
        "  - {kind: clock-skew, node: c, offset_s: 300, at_s: 0}\n"
        "  - {kind: node-crash, node: c, at_s: 4, restart_after_s: 1}\n"
    )
    result = run(tmp_path, faults)
    assert 4000 < result.metrics["media_gap_ms"]["max"] < 7500


def test_wrong_clocks_lost_control_messages_and_a_partition_at_once() -> None:
    result = simulate(load_scenario(SWARM.parent / "wrong-clocks.yaml"))
    assert result.outcome == "passed", [check for check in result.checks if not check.passed]


def test_a_bug_in_a_process_makes_the_run_invalid(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(HEAD)
    scenario = load_scenario(path, {"duration_s": "4", "warmup_s": "1"})
    topology = tmp_path / "topology.yaml"
    topology.write_text(scenario.topology_text)
    run = Simulation(scenario, 1, topology)
    result = run.result(1.0, ["bug in the node; the input that woke it is dropped\nZeroDivisionError"])
    assert not result.valid
    assert result.outcome == "invalid"
    assert "ZeroDivisionError" in (result.invalid_reason or "")


def test_progress_is_told_in_virtual_seconds(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(HEAD)
    seen: list[float] = []
    simulate(load_scenario(path, {"duration_s": "4", "warmup_s": "1"}), on_progress=seen.append)
    assert seen == [1.0, 2.0, 3.0, 4.0]


def test_the_replay_command_repeats_seed_and_overrides() -> None:
    scenario = load_scenario(SWARM, {"settings.dead_after_ms": "700"})
    assert replay_command(scenario, 39) == (
        f"relaymesh simulate {SWARM} --seed 39 --set settings.dead_after_ms=700"
    )


def test_a_run_leaves_trio_as_it_was(quiet: Result) -> None:
    async def main() -> float:
        start = trio.current_time()
        await trio.sleep(0)
        return trio.current_time() - start

    assert trio.run(main) < 5
