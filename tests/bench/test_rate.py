from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from relaymesh.bench import rate, rate_report
from relaymesh.cli.main import main


@pytest.fixture(scope="module")
def narrow() -> rate.Brownout:
    return rate.brownout(60.0)


def test_a_path_that_gets_narrow_costs_enhancement_layers_and_nothing_else(narrow: rate.Brownout) -> None:
    assert narrow.audio_loss == 0
    assert narrow.base_loss <= rate_report.BASE_LOSS
    assert narrow.unexplained_loss <= 0.002, "what is left out is told"
    assert narrow.queue_back_s <= rate_report.QUEUE_BACK_S
    assert narrow.recovered_s <= rate_report.RECOVERED_S
    before = [arrived for at, _, arrived, _ in narrow.series if 5.0 <= at < 10.0]
    assert sum(before) / len(before) == pytest.approx(narrow.offered_mbps, rel=0.05), "nothing before"


def test_the_checks_can_fail(narrow: rate.Brownout) -> None:
    good = rate.Fairness((60.0, 60.0), 10.0, (4.0, 4.0), 1.0, 20.0, 0.0)
    bad = rate.Fairness((60.0, 60.0), 10.0, (8.0, 1.0), 0.6, 20.0, 0.1)
    assert all(check.passed for check in rate_report.checks([narrow], [good]))
    assert [check.passed for check in rate_report.checks([], [bad])] == [False, False]
    told = json.loads(rate_report.to_json([narrow], [bad], rate_report.checks([narrow], [bad])))
    assert told["passed"] is False
    assert "<svg" in rate_report.page([narrow], [good], [])


def test_the_command_is_there() -> None:
    done = CliRunner().invoke(main, ["bench", "rate", "--help"])
    assert done.exit_code == 0
    assert "gets narrow" in done.output
