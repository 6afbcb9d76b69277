"""Participants behind access links of their own, in whole simulated runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.netsim.result import PlayerTrack
from relaymesh.netsim.scenario import parse_scenario, timeline
from relaymesh.netsim.scenario.loader import ScenarioError, load_scenario
from relaymesh.netsim.scenario.timeline import SetAccess
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


def test_a_link_that_is_too_narrow_loses_what_does_not_fit_and_only_while_it_is(tmp_path: Path) -> None:
    found = players(
        tmp_path,
        ALICE % "",
        "        - {name: wide, at: c, access: {delay_ms: 20}}\n",
        "        - {name: narrow, at: c, access: {rate_kbps: 5000, queue_ms: 80, "
        "steps: [{at_s: 4, rate_kbps: 400}, {at_s: 7, rate_kbps: 5000}]}}\n",
    )
    wide, narrow = found["wide"], found["narrow"]
    assert wide.lost == 0
    assert wide.freezes == []
    assert wide.delay_ms["p50"] == pytest.approx(10 + 5 + 20, abs=1)
    assert narrow.lost / narrow.sent == pytest.approx(0.5 * 3 / 10, abs=0.08), "half of three seconds in ten"
    assert all(3.9 < start < 7.5 for start, _ in narrow.freezes)
    assert narrow.freezes
    assert wide.added_delay_ms["p50"] == pytest.approx(0.0, abs=0.2)


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
