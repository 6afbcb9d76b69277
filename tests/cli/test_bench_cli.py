import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relaymesh.cli.bench import command


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        command, ["link", "--quick", "--seconds", "1", "--processes", "1", *arguments]
    )
    return result.exit_code, result.output


def test_a_table_and_a_page(tmp_path: Path) -> None:
    page = tmp_path / "link.html"
    code, output = invoke("--policy", "adaptive", "--policy", "arq", "--html", str(page))
    assert code == ("DOES NOT HOLD" in output)
    assert len([line for line in output.splitlines() if line.startswith("    40 ")]) == 6
    assert "checks of adaptive hold" in output
    assert "<svg" in page.read_text()


def test_json() -> None:
    code, output = invoke("--json", "--policy", "adaptive", "--loss", "5", "--burst", "8", "--rtt", "40")
    told = json.loads(output)
    (result,) = told["metrics"]
    assert code == (not told["passed"])
    assert told["passed"] == all(check["passed"] for check in told["checks"])
    assert len(told["checks"]) == 4
    assert (result["rtt_ms"], result["loss"], result["burst"], result["bound_ms"]) == (40.0, 0.05, 8, 80.0)


def test_cells_that_are_not_there() -> None:
    assert invoke("--policy", "magic")[0] == 2
    assert invoke("--rtt", "a lot")[0] == 2


@pytest.mark.parametrize("cell", ["80:5", "80:50:1", "fast"])
def test_links_that_srt_cannot_be_compared_over(cell: str) -> None:
    result = CliRunner().invoke(command, ["srt", "--cell", cell])
    assert result.exit_code == 2
    assert cell in result.output
