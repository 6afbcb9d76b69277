"""The files in topologies/: valid, current, and saying what their comments say."""

from __future__ import annotations

import csv
import json
import runpy
from itertools import permutations
from pathlib import Path

import jsonschema
import pytest
import yaml

from relaymesh.topology import best_paths_from, json_schema, load_topology

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
FILES = sorted(TOPOLOGIES.glob("*.yaml"))
TABLE = TOPOLOGIES / "data" / "ibm-cloud-rtt-2024-09-15.csv"


def measured() -> dict[tuple[str, str], float]:
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    header, *table = csv.reader(rows)
    return {
        (row[0], header[column]): float(row[column])
        for row in table
        for column in range(1, len(header))
        if row[column]
    }


def test_the_published_schema_is_current() -> None:
    """If this fails: write what is expected here to the file."""
    published = (TOPOLOGIES / "topology.schema.json").read_text(encoding="utf-8")
    assert published == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_is_valid_and_whole(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith(
        "# yaml-language-server: $schema=topology.schema.json\n"
    )
    topology = load_topology(file)
    assert topology.name == file.stem and not topology.warnings
    assert all(region.latitude is not None for region in topology.regions)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_fits_the_schema(file: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema)


@pytest.mark.parametrize(
    "change",
    [
        {"colour": 1},
        {"version": 2},
        {"links": [{"between": ["a"]}]},
        {"links": [{"between": ["a", "c"], "delay_ms": -1}]},
        {"links": [{"between": ["a", "c"], "delay_ms": {"forward": 1}}]},
        {"links": [{"between": ["a", "c"], "delay_ms": None}]},
        {"regions": []},
    ],
)
def test_the_schema_refuses(change: dict[str, object]) -> None:
    data = yaml.safe_load((TOPOLOGIES / "square.yaml").read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**data, **change}, json_schema())


@pytest.mark.parametrize("name", ["three-regions", "ibm-cloud"])
def test_delays_are_halves_of_the_measured_round_trips(name: str) -> None:
    topology, rtt = load_topology(TOPOLOGIES / f"{name}.yaml"), measured()
    for a, b in permutations([region.name for region in topology.regions], 2):
        link = topology.link(a, b)
        assert link is not None
        assert link.delay_ms == rtt[a, b] / 2


def test_ibm_cloud_is_what_its_script_makes() -> None:
    script = runpy.run_path(str(TOPOLOGIES / "data" / "make_ibm_cloud.py"))
    made = script["ibm_cloud"](TABLE.read_text(encoding="utf-8"))
    assert made == (TOPOLOGIES / "ibm-cloud.yaml").read_text(encoding="utf-8")
    assert len(load_topology(TOPOLOGIES / "ibm-cloud.yaml").pairs) == 45


def test_three_regions_tells_the_story_of_its_comments() -> None:
    topology = load_topology(TOPOLOGIES / "three-regions.yaml")
    there, back = best_paths_from(topology, "dallas")["london"], best_paths_from(topology, "london")["dallas"]
    assert there.nodes == ("dallas", "washington-dc", "london") and back.nodes == there.nodes[::-1]
    assert there.cost_ms + back.cost_ms == 107.0
    direct = topology.link("dallas", "london")
    assert direct is not None
    assert (direct.rtt_ms, direct.peering, direct.extra_cost_ms) == (113.0, "public", 10.0)


def test_square_has_two_ways_and_no_direct_one() -> None:
    topology = load_topology(TOPOLOGIES / "square.yaml")
    assert not topology.may_peer("a", "c") and not topology.may_peer("t1", "t2")
    assert best_paths_from(topology, "a")["c"].nodes == ("a", "t1", "c")
