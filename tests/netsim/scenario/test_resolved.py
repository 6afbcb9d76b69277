from __future__ import annotations

import pytest

from relaymesh.netsim.scenario import Scenario, parse_scenario
from relaymesh.netsim.scenario.traffic import AudioTrack, VideoTrack
from tests.netsim.scenario.test_loader import HEAD, scenario

MESH = (
    "version: 1\nname: t\nduration_s: 30\n"
    "topology: {version: 1, name: t, regions: [{name: north}, {name: south}], nodes: ["
    "{name: n1, region: north}, {name: n2, region: north}, {name: n3, region: north, roles: [relay]}, "
    "{name: s1, region: south}], links: [{between: [north, south], delay_ms: 10}]}\n"
)


def rooms(*participants: str, head: str = HEAD) -> Scenario:
    return parse_scenario(
        f"{head}traffic: {{rooms: [{{name: r, participants: [{', '.join(participants)}]}}]}}\n"
    )


def test_participants_come_with_their_tracks_and_whom_they_play() -> None:
    alice, bob, carol = rooms(
        "{name: alice, at: a, publish: [audio, {kind: video, kbps: 300}], leave_s: 9}",
        "{name: bob, at: c, publish: [audio], play: [alice]}",
        "{name: carol, at: t1, join_s: 2}",
    ).participants
    assert alice.publish == (AudioTrack(kind="audio"), VideoTrack(kind="video", kbps=300))
    assert (alice.play, bob.play, carol.play) == (("bob",), ("alice",), ("alice", "bob"))
    assert (alice.join_s, alice.leave_s, carol.join_s, carol.leave_s) == (0, 9, 2, None)


def test_a_group_comes_one_after_the_other_to_edges_in_turns() -> None:
    found = rooms(
        "{name: x, at: a, publish: [audio]}", "{prefix: v, count: 4, at: [a, c], join: {from_s: 2, to_s: 4}}"
    )
    assert [(p.name, p.node, p.join_s, p.play) for p in found.participants[1:]] == [
        ("v-1", "a", 2.0, ("x",)),
        ("v-2", "c", 2.5, ("x",)),
        ("v-3", "a", 3.0, ("x",)),
        ("v-4", "c", 3.5, ("x",)),
    ]


def test_a_region_is_all_its_edges_in_turns() -> None:
    found = rooms("{prefix: v, count: 4, at: [north]}", "{name: w, at: n3x}".replace("n3x", "n2"), head=MESH)
    assert [p.node for p in found.participants] == ["n1", "n2", "n1", "n2", "n2"]
    assert found.nodes_at("north") == ("n1", "n2", "n3")
    assert len(found.directed(["north", "south"])) == 6
    assert found.directed(["n1", "s1"], "backward") == [("s1", "n1")]


def test_conditions_are_the_topologys_and_then_the_files() -> None:
    found = scenario(
        "links: [{between: [t1, a], direction: forward, loss: 0.1, rate_mbps: 2}]\naccess: {jitter_ms: 1}\n"
    )
    assert found.conditions("a", "t1") == {"delay_ms": 5.0, "jitter_ms": 0.0, "loss": 0.0}
    assert found.conditions("t1", "a") == {"delay_ms": 5.0, "jitter_ms": 0.0, "loss": 0.1, "rate_bps": 2e6}
    assert found.conditions("a", "c") is None
    assert found.access == {"delay_ms": 5.0, "jitter_ms": 1.0}


def test_the_controller_stands_somewhere_and_is_as_far_as_the_best_path() -> None:
    found = scenario("controller: {at: t2}\n")
    assert found.controller_node == "t2"
    assert found.controller_delay_ms("t2") == 0.25
    assert found.controller_delay_ms("a") == pytest.approx(6.25)
    assert scenario().controller_node == "a"
