"""Participants behind access links of their own, in whole simulated runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.netsim.result import PlayerTrack
from relaymesh.netsim.scenario import parse_scenario, timeline
from relaymesh.netsim.scenario.loader import ScenarioError, load_scenario
from relaymesh.netsim.scenario.timeline import SetAccess
from relaymesh.netsim.sim_links import SimLinks
from relaymesh.netsim.simulate import simulate

ROOT = Path(__file__).parent.parent.parent
HEAD = f"""
version: 1
name: access
topology: {ROOT}/topologies/square.yaml
duration_s: 12
warmup_s: 2
controller: {{at: a}}
traffic:
  rooms:
    - name: room
      participants:
"""
ALICE = "        - {name: alice, at: a, publish: [{kind: video, kbps: 800%s}], play: none}\n"


def players(tmp_path: Path, *lines: str) -> dict[str, PlayerTrack]:
    path = tmp_path / "access.yaml"
    path.write_text(HEAD + "".join(lines))
    result = simulate(load_scenario(path))
    assert result.valid, result.invalid_reason
    return {track.player: track for track in result.players}


def test_a_rate_and_its_steps_hold_in_both_directions_for_that_participant_only() -> None:
    text = HEAD + ALICE % "" + "        - {name: bob, at: c, access: {delay_ms: 20, rate_kbps: 800}}\n"
    scenario = parse_scenario(text)
    alice, bob = scenario.participants
    links = SimLinks(scenario, 1, {})
    links.add_client("alice's", "node a's", alice)
    links.add_client("bob's", "node c's", bob)
    assert links.find("alice's", "node c's") is None
    for pair in (("bob's", "node c's"), ("node c's", "bob's")):
        link = links.find(*pair)
        assert link is not None
        [first], [second] = link.due(1.0, 1000), link.due(1.0, 1000)
        assert (first, second) == (pytest.approx(1.03), pytest.approx(1.04))
        links.set_access("bob's", 80_000.0, 2.0)
        [third] = link.due(2.0, 1000)
        assert third == pytest.approx(2.12)
        links.set_access("bob's", 800_000.0, 2.0)
    wide = links.find("alice's", "node a's")
    assert wide is not None
    assert [wide.due(1.0, 1000), wide.due(1.0, 1000)] == [(1.005,), (1.005,)]


def test_a_step_before_the_first_packet_holds_for_it() -> None:
    text = HEAD + ALICE % "" + "        - {name: bob, at: c, access: {rate_kbps: 800}}\n"
    scenario = parse_scenario(text)
    links = SimLinks(scenario, 1, {})
    links.add_client("bob's", "node c's", scenario.participants[1])
    links.set_access("bob's", 80_000.0, 0.5)
    link = links.find("node c's", "bob's")
    assert link is not None
    assert link.due(1.0, 1000) == (pytest.approx(1.105),)


def test_a_run_tells_which_encoding_each_player_had_and_when_its_picture_stood_still(tmp_path: Path) -> None:
    found = players(
        tmp_path,
        ALICE % ", layers: 3",
        "        - {name: wide, at: c, access: {delay_ms: 20}}\n",
        "        - {name: narrow, at: c, access: {rate_kbps: 5000, steps: [{at_s: 5, rate_kbps: 120}]}}\n",
    )
    wide, narrow = found["wide"], found["narrow"]
    assert wide.lost == 0
    assert wide.freezes == []
    assert wide.layers[-1][1:] == (2, 0)
    assert wide.delay_ms["p50"] == pytest.approx(10 + 5 + 20, abs=1)
    assert wide.added_delay_ms["p50"] == pytest.approx(0.0, abs=0.2)
    assert [encoding for at, encoding, _ in narrow.layers if at < 5][-1] == 2
    assert narrow.freezes, "800 kbit/s do not fit into 120"
    assert all(5 < start < end for start, end in narrow.freezes)


def test_the_access_of_one_is_that_of_everybody_but_for_what_it_says() -> None:
    text = (
        HEAD
        + ALICE % ""
        + "        - {name: wide, at: c}\n        - {name: limited, at: t1, access: {rate_kbps: 3000}}\n"
    )
    scenario = parse_scenario(text)
    assert [one.is_limited for one in scenario.participants] == [False, False, True]
    assert scenario.access_of(scenario.participants[2]) == {**scenario.access, "rate_bps": 3e6}
    assert scenario.access_of(scenario.participants[1]) == scenario.access


def test_access_for_everybody_with_a_rate_limits_everybody() -> None:
    text = HEAD + ALICE % "" + "        - {name: bob, at: c}\naccess: {rate_mbps: 2}\n"
    assert all(one.is_limited for one in parse_scenario(text).participants)


def test_a_player_without_limits_has_the_highest_encoding(tmp_path: Path) -> None:
    found = players(tmp_path, ALICE % ", layers: 3", "        - {name: bob, at: c}\n")
    bob = found["bob"]
    assert bob.lost == 0
    assert bob.layers[-1][1:] == (2, 0)
    packets = 800e3 / 8 / 1100 * 10  # of the highest encoding, in the measured time
    assert bob.sent == pytest.approx(packets, rel=0.25)
    assert bob.freezes == []


def test_steps_are_changes_in_order() -> None:
    text = HEAD + ALICE % "" + "        - {name: bob, at: c, access: {steps: [{at_s: 3, rate_kbps: 100}]}}\n"
    [step] = [action for action in timeline(parse_scenario(text)) if isinstance(action, SetAccess)]
    assert (step.at_s, step.participant.name, step.rate_bps) == (3.0, "bob", 100_000.0)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("access: {steps: [{at_s: 12, rate_kbps: 1}]}", "12 s is not before the end of the run"),
        ("access: {steps: [{at_s: 5, rate_kbps: 1}, {at_s: 4, rate_kbps: 1}]}", "is before the step above"),
        ("access: {steps: [{at_s: 5, rate_kpbs: 1}]}", "unknown key 'rate_kpbs' (did you mean 'rate_kbps'?)"),
        ("access: {rate_kbps: 0}", "rate_kbps"),
        ("publish: [{kind: video, ignores_pli: true}]", "without keyframe_s"),
        ("publish: [{kind: video, layers: 2, spatial_layers: 2}]", "either simulcast layers or spatial"),
    ],
)
def test_what_cannot_be_is_refused(entry: str, why: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(HEAD + ALICE % "" + f"        - {{name: bob, at: c, {entry}}}\n")
    assert why in str(caught.value)
