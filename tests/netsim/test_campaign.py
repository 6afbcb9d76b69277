from __future__ import annotations

from relaymesh.netsim.campaign import summary
from relaymesh.netsim.result import Check, Result


def run(seed: int, gap: float, played: float, **changes: object) -> Result:
    known: dict[str, object] = {
        "scenario": "cut",
        "seed": seed,
        "checks": [
            Check(
                name="media_gap_ms.p99 (affected)", value=gap, bound="≤ 250", passed=gap <= 250, may_fail=True
            ),
            Check(name="streams_played", value=played, bound="= 1", passed=played == 1),
        ],
    }
    return Result(**{**known, **changes})  # type: ignore[arg-type]


def test_each_bound_is_one_row_with_its_worst_seed() -> None:
    lines = summary([run(2, 300.0, 1.0), run(1, 100.0, 0.5), run(3, 120.0, 1.0)]).splitlines()
    assert lines[2] == "| cut | 1–3 | media_gap_ms.p99 (affected) | ≤ 250 ms | 120 | 300 | 2/3 (known) |"
    assert lines[3] == "|  |  | streams_played | = 1 | 1 | 0.5 | 2/3 |"
    assert len(lines) == 4


def test_other_settings_are_another_scenario_and_what_was_not_measured_shows() -> None:
    odd = run(7, 1.0, 1.0, overrides={"duration_s": "9"})
    odd.checks[0].value = None
    table = summary([run(1, 1.0, 1.0), odd])
    assert "| cut | 1 | media_gap_ms.p99" in table
    assert "| cut duration_s=9 | 7 | media_gap_ms.p99 (affected) | ≤ 250 ms | – | – | 2" not in table
    assert "| cut duration_s=9 | 7 | media_gap_ms.p99 (affected) | ≤ 250 ms | – | – | 1/1 |" in table


def test_of_runs_the_machine_could_not_carry_only_their_seeds_are_told() -> None:
    late = run(3, 900.0, 0.0, valid=False, passed=False)
    lines = summary([run(1, 100.0, 1.0), run(2, 120.0, 1.0), late]).splitlines()
    assert lines[2] == "| cut | 1–2; invalid: 3 | media_gap_ms.p99 (affected) | ≤ 250 ms | 100 | 120 | 2/2 |"
    assert summary([late]).splitlines()[2:] == ["| cut | 3 | all runs invalid | | | | |"]
