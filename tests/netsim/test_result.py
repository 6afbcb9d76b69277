from __future__ import annotations

import json

import pytest

from relaymesh.netsim.judge import judge
from relaymesh.netsim.player_metrics import (
    affected,
    count_route_changes,
    drift,
    player_metrics,
    relay_mbps,
    reroute_times_ms,
)
from relaymesh.netsim.result import FaultWindow, PathChange, PlayerTrack, result_from_json
from relaymesh.netsim.scenario.expectations import Expectation, Scope
from tests.netsim.synthetic_result import make_result


def player(**changes: object) -> PlayerTrack:
    known: dict[str, object] = {
        "room": "r", "publisher": "p", "player": "q", "kind": "video", "ingress": "a", "edge": "c",
        "sent": 100, "lost": 0, "gaps_ms": [10.0], "first_frame_ms": 50.0,
    }  # fmt: skip
    return PlayerTrack(**{**known, **changes})  # type: ignore[arg-type]


def window(fault: int = 0, start: float = 10, end: float = 20, **broken: object) -> FaultWindow:
    return FaultWindow(
        fault=fault, kind="link-cut", what="cut", start_s=start, end_s=end, until_s=end + 5, **broken  # type: ignore[arg-type]
    )  # fmt: skip


def way(t: float, *path: str, edge: str = "c") -> PathChange:
    return PathChange(t=t, stream="r/p", edge=edge, path=list(path))


def test_the_json_has_what_is_promised() -> None:
    result = make_result()
    data = json.loads(result.to_json())
    assert {
        "scenario",
        "mode",
        "seed",
        "passed",
        "valid",
        "expected_fail",
        "checks",
        "metrics",
    } <= data.keys()
    assert {"series", "events", "paths", "topology"} <= data.keys()
    assert set(data["checks"][0]) >= {"name", "value", "bound", "passed"}
    assert data["metrics"].keys() >= {
        "trace_sha256", "media_gap_ms", "residual_loss", "added_delay_ms", "overhead", "route_changes",
        "loops", "duplicates", "path_stretch", "rtt_ms", "delivered_packets", "sent_packets",
        "packets_per_cpu_s", "first_frame_ms", "frozen_ms",
    }  # fmt: skip
    assert data["metrics"]["media_gap_ms"].keys() == {"p50", "p99", "max"}
    assert data["metrics"]["added_delay_ms"].keys() == {"p50", "p99", "p999"}
    assert result_from_json(result.to_json(indent=2)) == result


@pytest.mark.parametrize(
    ("bounds", "value", "holds", "text"),
    [
        ({"max": 5}, 5.0, True, "≤ 5"),
        ({"max": 5}, 5.1, False, "≤ 5"),
        ({"min": 1, "max": 2}, 0.5, False, "≤ 2 and ≥ 1"),
        ({"equals": 0}, 0, True, "= 0"),
        ({"equals": 0}, 1, False, "= 0"),
        ({"max": 5}, None, False, "≤ 5"),
    ],
)
def test_a_bound_holds_or_not(bounds: dict[str, float], value: float | None, holds: bool, text: str) -> None:
    check = judge(Expectation.model_validate({"metric": "loops", **bounds}), {"loops": value})
    assert (check.passed, check.bound, check.value) == (holds, text, value)


def test_what_was_not_measured_does_not_hold() -> None:
    assert not judge(Expectation(metric="media_gap_ms.p99", max=9), {"media_gap_ms": {"p99": None}}).passed
    assert not judge(Expectation(metric="loops", equals=0), {}).passed


def test_players_are_put_together() -> None:
    players = [
        player(lost=1, gaps_ms=[10.0, None], frozen_ms=5.0),
        player(kind="audio", lost=3, late=2, gaps_ms=[30.0, 700.0], first_frame_ms=None, frozen_ms=0.0),
    ]
    metrics = player_metrics(players, [window(0), window(1)])
    assert metrics["media_gap_ms"] == {"p50": 30, "p99": 700, "max": 700}
    assert (metrics["residual_loss"], metrics["late_loss"], metrics["streams_played"]) == (0.02, 0.01, 0.5)
    assert metrics["first_frame_ms"] == {"p50": 50, "p95": 50, "p99": 50, "max": 50}
    assert metrics["frozen_ms"] == {"p50": 5, "p99": 5, "max": 5}
    assert player_metrics([], [])["residual_loss"] is None


def test_a_scope_chooses_players_faults_and_those_who_were_hit() -> None:
    found = [window(0, links=[("a", "b")]), window(1, start=30, end=40, links=[("x", "c")])]
    players = [
        player(kind="audio", gaps_ms=[1.0, 2.0], added_delay_ms={"p99": 3.0}),
        player(gaps_ms=[4.0, 8.0], added_delay_ms={"p99": 7.0}),
        player(edge="d", gaps_ms=[16.0, 32.0]),
    ]
    paths = [way(1, "a", "b", "c"), way(1, "a", "d", edge="d"), way(11, "a", "x", "c")]

    def longest(**scope: object) -> float:
        return player_metrics(players, found, paths, Scope.model_validate(scope))["media_gap_ms"]["max"]

    assert affected(paths, found) == [{("r/p", "c")}, {("r/p", "c")}]
    assert longest() == 32
    assert longest(kind="audio") == 2
    assert longest(fault=0) == 16
    assert longest(fault=0, affected=True) == 4
    assert longest(affected=True) == 8
    scoped = player_metrics(players, found, paths, Scope(kind="video"))
    assert scoped["added_delay_ms"]["p99"] == 7
    assert player_metrics(players, found, paths, Scope(room="other"))["streams_played"] is None


def test_without_faults_the_whole_run_is_one_window() -> None:
    players = [player(gaps_ms=[7.0])]
    assert player_metrics(players, [])["media_gap_ms"]["max"] == 7
    assert player_metrics(players, [], (), Scope(affected=True))["media_gap_ms"]["max"] is None


def test_first_ways_are_no_changes() -> None:
    paths = [
        way(1, "a", "c"),
        way(8, "a", "b", "c"),
        way(9, "a", "b", "c"),
        way(12, "a", "c"),
        way(2, "a", edge="a"),
    ]
    assert count_route_changes(paths, 5) == 2
    assert count_route_changes(paths, 10) == 1


def test_rerouting_takes_until_the_path_avoids_what_broke() -> None:
    cut = [window(links=[("a", "b"), ("b", "a")])]
    assert reroute_times_ms([way(1, "a", "b", "c"), way(10.6, "a", "x", "c")], cut) == [pytest.approx(600)]
    assert reroute_times_ms([way(1, "a", "b", "c"), way(10.2), way(11, "a", "x", "c")], cut) == [1000]
    assert reroute_times_ms([way(1, "a", "b", "c")], cut) == [10_000]  # never: as long as it lasted
    assert reroute_times_ms([way(1, "a", "x", "c"), way(10.6, "a", "c")], cut) == []
    crash = [window(nodes=["b", "c"])]
    assert reroute_times_ms([way(1, "a", "b", "c"), way(10.5, "a", "c")], crash) == [500]


def test_drift_is_between_the_first_and_the_last_tenth() -> None:
    steady = [(float(t), 5.0) for t in range(100)]
    assert drift(steady, 10) == 0
    assert drift([(t, v + t / 100) for t, v in steady], 0) == pytest.approx(0.9)
    assert drift(steady[:9], 0) is None


def test_the_outcome_tells_known_failures_from_others() -> None:
    known = make_result()
    assert known.outcome == "expected-fail"
    assert not known.passed
    assert known.expected_fail
    assert {check.name.split(" ")[0].split(".")[0] for check in known.checks if not check.passed} == {
        "excess_gap_ms"
    }
    assert make_result(overrides={"expect[1].max": "-1", "expect[1].equals": "7"}).outcome == "failed"
    lenient = {f"expect[{index}].max": "9999" for index in (3, 4, 5)}
    assert make_result(overrides=lenient).outcome == "unexpected-pass"


def test_a_gap_beyond_the_longer_way_is_less_by_what_the_way_is_longer() -> None:
    players = [player(gaps_ms=[100.0], longer_ms=[30.0]), player(gaps_ms=[20.0], longer_ms=[30.0])]
    assert player_metrics(players, [window()])["excess_gap_ms"] == {"p50": 0, "p99": 70, "max": 70}


def test_how_much_longer_the_way_around_is_follows_from_the_scenario() -> None:
    result = make_result()
    [cut] = result.windows
    # Dallas – Washington – London takes 53.5 ms, the direct way 56.5 ms. Not every stream has a path.
    assert cut.links[0] == ("washington-dc", "london")
    longer = {p.longer_ms[0] for p in result.players if (p.ingress, p.edge) == ("dallas", "london")}
    assert longer == {0.0, 3.0}
    assert {p.longer_ms[0] for p in result.players if (p.ingress, p.edge) == ("dallas", "tokyo")} == {0.0}


def test_a_player_settles_in_each_stretch_of_its_stay() -> None:
    changes = [(3.1, 0, 0), (4.5, 1, 0), (15.6, 0, 0), (25.4, 1, 0)]
    stay = [(3.0, 15.0), (15.0, 25.0), (25.0, 40.0)]
    players = [player(player="bob", layers=changes, stretches=stay), player(player="group-1")]

    def settled(**scope: object) -> tuple[float, float]:
        metrics = player_metrics(players, [], (), Scope.model_validate(scope))
        return metrics["settle_ms"]["max"], metrics["settled_layer"]["max"]

    assert settled(player="bob", step=0) == (pytest.approx(1500), 1)
    assert settled(player="bob", step=1) == (pytest.approx(600), 0)
    assert settled(player="bob", step=2) == (pytest.approx(400), 1)
    assert settled(player="group") == (None, None)


def test_switches_are_told_of_each_stretch_of_a_stay() -> None:
    stay = [(3.0, 15.0), (15.0, 25.0)]
    players = [
        player(player="bob", switches=[(4.0, 70.0), (15.0, 300.0)], stretches=stay),
        player(player="carol", switches=[(5.0, 90.0)], stretches=stay),
    ]

    def told(**scope: object) -> tuple[float, float]:
        metrics = player_metrics(players, [], (), Scope.model_validate(scope))
        return metrics["switch_ms"]["max"], metrics["switches"]

    assert told() == (300.0, 3)
    assert told(step=0) == (90.0, 2)
    assert told(step=1, player="bob") == (300.0, 1)
    assert told(step=1, player="carol") == (None, 0)


def test_the_rate_of_relay_links_is_told_of_whole_seconds() -> None:
    points = [(1.0, 9.0), (2.0, 4.0), (3.0, 5.0), (4.0, 1.0)]
    assert relay_mbps(points, Scope(from_s=1, to_s=3)) == {"min": 4.0, "p50": 4.0, "max": 5.0}
    assert relay_mbps(points)["min"] == 1.0
