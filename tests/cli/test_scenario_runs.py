"""What simulate and emulate share."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from relaymesh.cli import emulate, simulate
from relaymesh.cli.scenario_runs import GOOD, is_good, print_json, save_report, scenario_files, tell
from relaymesh.netsim.batch import Done, Job
from relaymesh.netsim.result import Result

JOB = Job(Path("s.yaml"), (), 7)


def done(outcome: str, **more: object) -> Done:
    return Done(JOB, Result(scenario="s", outcome=outcome, **more))  # type: ignore[arg-type]


def test_both_commands_read_their_options_alike() -> None:
    shared = {"--seeds", "--set", "--compare", "--json", "--report", "--strict"}
    ways = []
    for command in (simulate.command, emulate.run):
        found = {option.opts[-1]: option for option in command.params if isinstance(option, click.Option)}
        assert shared <= found.keys()
        ways.append({name: found[name].callback for name in shared})
    assert ways[0] == ways[1]


@pytest.mark.parametrize("outcome", ["passed", "expected-fail", "unexpected-pass", "failed", "invalid"])
def test_what_is_good_enough(outcome: str) -> None:
    assert is_good(done(outcome), strict=False) == (outcome in GOOD)
    assert is_good(done(outcome), strict=True) == (outcome == "passed")
    assert not is_good(Done(JOB, None, "it broke"), strict=False)


def test_a_run_is_told_in_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    tell(done("expected-fail", seed=7, overrides={"duration_s": "3"}, expected_fail="later"))
    tell(Done(JOB, None, "it broke"))
    assert capsys.readouterr().out.splitlines() == [
        "s  seed 7 duration_s=3  expected-fail",
        "  known: later",
        "s  seed 7: ended without a result",
        "it broke",
    ]


def test_json_is_a_list_only_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(scenario="s")
    print_json([result], several=False)
    print_json([result], several=True)
    print_json([], several=False)
    one, many = capsys.readouterr().out.splitlines()
    assert one.startswith("{")
    assert many.startswith("[{")


def test_files_and_pages_that_cannot_be_are_told(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").touch()
    (tmp_path / "a.yaml").touch()
    assert [path.name for path in scenario_files((tmp_path, Path("c.yaml")))] == [
        "a.yaml",
        "b.yaml",
        "c.yaml",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(click.UsageError, match="no scenario"):
        scenario_files((tmp_path / "empty",))
    with pytest.raises(click.ClickException, match="Is a directory"):
        save_report([Result(scenario="s")], tmp_path / "empty")
