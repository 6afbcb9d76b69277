import json
import random

from click.testing import CliRunner

from relaymesh.bench import routing
from relaymesh.cli.bench import command

SMALL = routing.Size(70, 300, changes=2, rooms=20, tracks=200, joins=50, quality_nodes=(20,))


def test_everything_is_measured_and_said() -> None:
    findings = routing.measure(SMALL)
    assert [check.name.split(":")[0] for check in findings.checks] == [
        "full plan",
        "one link dies or slows",
        "longest wait for the loop",
        "topology edited",
        "paths over the offline optimum, mean",
        "join to forward command, p99",
    ]
    metrics = findings.metrics
    assert metrics["directory_tracks"] == 200 and metrics["directory_joins"] > 20
    assert metrics["full_plan_delta_bytes"] > metrics["dies_tables_delta_bytes"] > 0
    assert metrics["full_detours_delta_bytes"] > 0, "beyond 64 nodes detours follow"
    said = json.loads(routing.to_json(findings))
    assert said["passed"] == all(check["passed"] for check in said["checks"])
    assert len(routing.table(findings).splitlines()) == 7 + len(metrics)


def test_a_bound_that_is_missed_fails() -> None:
    findings = routing.Findings([routing.Check("it", 3.0, 2.0, "ms")])
    assert not findings.passed
    assert routing.table(findings).startswith("FAIL")


def test_the_same_seed_draws_the_same_mesh() -> None:
    one, other = (routing.draw_mesh(50, 200, random.Random(3)) for _ in range(2))
    assert one == other and len(one) == 200


def test_more_links_than_pairs_are_refused() -> None:
    assert CliRunner().invoke(command, ["routing", "--nodes", "10", "--links", "46"]).exit_code == 2
