from __future__ import annotations

from relaymesh.netsim.scenario import timeline, windows
from relaymesh.netsim.scenario.conditions import BurstByMean
from relaymesh.netsim.scenario.timeline import (
    CrashController,
    CrashNode,
    DropControlFrames,
    SetLink,
    SkewClock,
    StartController,
    StartNode,
)
from tests.netsim.scenario.test_loader import scenario

BASE = {"delay_ms": 5.0, "jitter_ms": 0.0, "loss": 0.0}


def faults(*entries: str, more: str = "") -> str:
    return f"{more}faults: [{', '.join(entries)}]\n"


def links(text: str, source: str, target: str) -> list[tuple[float, dict[str, object]]]:
    """What becomes of one directed link: times and what differs from what it was at first."""
    actions = [action for action in timeline(scenario(text)) if isinstance(action, SetLink)]
    return [
        (a.at_s, {k: v for k, v in a.conditions.items() if {**BASE, "down": False}.get(k) != v})
        for a in actions
        if (a.source, a.target) == (source, target)
    ]


def test_a_cut_ends_when_it_says_so() -> None:
    text = faults("{kind: link-cut, between: [a, t1], at_s: 10, for_s: 5}")
    assert links(text, "a", "t1") == links(text, "t1", "a") == [(10, {"down": True}), (15, {})]
    assert links(text, "t1", "c") == []


def test_one_direction_is_left_alone() -> None:
    text = faults("{kind: link-cut, between: [a, t1], direction: backward, at_s: 10}")
    assert links(text, "a", "t1") == []
    assert links(text, "t1", "a") == [(10, {"down": True})]


def test_a_flap_goes_down_and_up() -> None:
    text = faults("{kind: flap, between: [a, t1], at_s: 10, period_s: 4, down_s: 1, until_s: 18.5}")
    down: dict[str, object] = {"down": True}
    assert links(text, "a", "t1") == [(10, down), (11, {}), (14, down), (15, {}), (18, down), (18.5, {})]


def test_faults_on_one_link_lie_over_each_other() -> None:
    text = faults(
        "{kind: conditions, between: [a, t1], at_s: 5, for_s: 10, loss: 0.5, delay_ms: 9}",
        "{kind: burst-loss, between: [a, t1], at_s: 10, for_s: 10, loss: 0.1, mean_burst: 2}",
    )
    burst = BurstByMean(loss=0.1, mean_burst=2)
    assert links(text, "a", "t1") == [
        (5, {"loss": 0.5, "delay_ms": 9}),
        (10, {"loss": 0.5, "delay_ms": 9, "burst": burst}),
        (15, {"burst": burst}),
        (20, {}),
    ]


def test_a_ramp_is_a_stair() -> None:
    text = faults("{kind: conditions, between: [a, t1], at_s: 5, for_s: 3, ramp_s: 0.4, delay_ms: 9.0}")
    steps = links(text, "a", "t1")
    assert [round(at, 3) for at, _ in steps] == [5, 5.1, 5.2, 5.3, 8]
    assert [change.get("delay_ms") for _, change in steps] == [6, 7, 8, 9, None]


def test_a_brown_out_takes_a_part_of_the_links_own_rate() -> None:
    text = faults(
        "{kind: brown-out, between: [a, t1], at_s: 5, for_s: 5, factor: 0.25}",
        more="links: [{between: [t1, a], rate_mbps: 8}]\n",
    )
    assert links(text, "a", "t1") == [(5, {"rate_bps": 2e6}), (10, {"rate_bps": 8e6})]


def test_a_partition_cuts_between_groups_only() -> None:
    text = faults("{kind: partition, groups: [[a, t1], [c, controller]], at_s: 5, for_s: 5}")
    assert links(text, "t1", "c") == links(text, "c", "t1") == [(5, {"down": True}), (10, {})]
    assert links(text, "a", "t1") == links(text, "a", "c") == links(text, "c", "controller") == []
    assert [(at, change["down"]) for at, change in links(text, "a", "controller") if change] == [(5, True)]


def test_processes_die_and_return() -> None:
    text = faults(
        "{kind: node-crash, node: t1, at_s: 5, restart_after_s: 2}",
        "{kind: controller-crash, at_s: 6, restart_after_s: 3}",
        "{kind: node-crash, node: t2, at_s: 8}",
        "{kind: clock-skew, node: a, at_s: 1, offset_s: 2, drift_ppm: 50}",
        "{kind: drop-control, fraction: 0.5, at_s: 10, for_s: 5}",
    )
    assert timeline(scenario(text)) == (
        SkewClock(1, "a", 2, 50, "clock-skew a"),
        CrashNode(5, "t1", "node-crash t1"),
        CrashController(6, "controller-crash"),
        StartNode(7, "t1", "t1 starts again"),
        CrashNode(8, "t2", "node-crash t2"),
        StartController(9, "controller starts again"),
        DropControlFrames(10, ("a", "t1", "t2", "c"), 0.5, "drop-control 50%"),
        DropControlFrames(15, ("a", "t1", "t2", "c"), 0.0, "drop-control 50% ends"),
    )


def test_a_window_lasts_a_while_longer_than_its_fault() -> None:
    text = faults(
        "{kind: link-cut, between: [a, t1], at_s: 10, for_s: 5}",
        "{kind: link-cut, between: [a, t2], at_s: 12}",
        "{kind: clock-skew, node: a, at_s: 1}",
        "{kind: flap, between: [a, t1], at_s: 20, period_s: 2, down_s: 1, until_s: 28}",
    )
    assert [(w.fault, w.start_s, w.end_s, w.until_s) for w in windows(scenario(text))] == [
        (0, 10, 15, 20),
        (1, 12, 30, 22),
        (3, 20, 28, 30),
    ]


def test_only_the_first_link_of_a_fault_speaks_for_it() -> None:
    text = faults("{kind: link-cut, between: [a, t1], at_s: 10, for_s: 5}")
    spoken = [action.what for action in timeline(scenario(text)) if action.what]
    assert spoken == ["link-cut a – t1", "link-cut a – t1 ends"]
