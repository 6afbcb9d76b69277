"""The files in simulations/: valid, current, and those that are promised."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from relaymesh.netsim.metrics import METRICS
from relaymesh.netsim.scenario import json_schema, load_scenario, timeline, windows

SIMULATIONS = Path(__file__).parents[3] / "simulations"
FILES = sorted(SIMULATIONS.glob("*.yaml"))
PROMISED = {
    "atlantic-cut",
    "lossy-transpacific",
    "flapping-link",
    "node-crash",
    "controller-outage",
    "flash-join",
    "brown-out",
    "steady-state",
    "two-hops",
    "hitless",
}


def test_the_published_schema_is_current() -> None:
    """If this fails: write what is expected here to the file."""
    published = (SIMULATIONS / "scenario.schema.json").read_text(encoding="utf-8")
    assert published == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def test_what_is_promised_is_there() -> None:
    assert {file.stem for file in FILES} >= PROMISED


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_is_valid(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=scenario.schema.json\n")
    scenario = load_scenario(file)
    assert scenario.name == file.stem
    assert scenario.file.title
    assert scenario.file.description
    assert scenario.expect
    for action in timeline(scenario):
        assert 0 <= action.at_s < scenario.duration_s
    for window in windows(scenario):
        assert window.start_s >= scenario.warmup_s


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_fits_the_schema(file: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema)


@pytest.mark.parametrize(
    "change", [{"colour": 1}, {"version": 2}, {"faults": [{"kind": "rain", "at_s": 1}]}, {"duration_s": "1"}]
)
def test_the_schema_refuses_what_the_loader_refuses(change: dict[str, object]) -> None:
    data = yaml.safe_load((SIMULATIONS / "two-hops.yaml").read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**data, **change}, json_schema())


def test_the_readme_speaks_of_every_file_and_every_metric() -> None:
    readme = (SIMULATIONS / "README.md").read_text(encoding="utf-8")
    assert [file.name for file in FILES if f"({file.name})" not in readme] == []
    assert [name for name in METRICS if f"| `{name}` |" not in readme] == []
    assert [name for name, metric in METRICS.items() if metric.meaning not in readme] == []
