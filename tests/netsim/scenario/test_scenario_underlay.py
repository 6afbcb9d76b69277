"""A scenario whose topology lies over a graph of routers."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.netsim.scenario import Scenario, ScenarioError, load_scenario, parse_scenario
from relaymesh.topology import parse_topology

SQUARE = Path(__file__).parents[3] / "topologies" / "square.yaml"
GRAPH = """<graphml><graph edgedefault="undirected">
<node id="a"/><node id="core"/><node id="c"/>
<edge source="a" target="core"><data key="delay_ms">3</data><data key="LinkSpeedRaw">1e8</data></edge>
<edge source="core" target="c"><data key="delay_ms">4</data><data key="loss">0.1</data></edge>
</graph></graphml>"""
HEAD = f"""version: 1
name: laid
topology: {SQUARE}
duration_s: 30
traffic: {{rooms: [{{name: r, participants: [{{name: x, at: a, publish: [audio]}}, {{name: y, at: c}}]}}]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "zoo.graphml").write_text(GRAPH)
    return tmp_path


def load(folder: Path, underlay: str) -> Scenario:
    file = folder / "laid.yaml"
    file.write_text(HEAD + f"underlay: {underlay}\n")
    return load_scenario(file)


def test_links_become_the_underlays_paths(folder: Path) -> None:
    scenario = load(folder, "{file: zoo.graphml, places: {t1: core, t2: core}}")
    assert scenario.conditions("a", "t1") == {
        "delay_ms": 3,
        "jitter_ms": 0,
        "loss": 0,
        "rate_bps": pytest.approx(1e8),
    }
    assert scenario.conditions("t2", "c") == {"delay_ms": 4, "jitter_ms": 0, "loss": pytest.approx(0.1)}
    assert scenario.conditions("a", "c") is None  # who may not peer still may not
    # What real processes are given is the same.
    assert parse_topology(scenario.topology_text).link("a", "t1") == scenario.topology.link("a", "t1")


def test_what_does_not_fit_is_told_with_its_place(folder: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(folder, "{file: zoo.graphml, places: {t1: core}}")
    assert [(found.line, found.path, found.message) for found in caught.value.problems] == [
        (6, "underlay.places", "'t2' stands at 't2', which is no node of zoo")
    ]
    with pytest.raises(ScenarioError) as caught:
        load(folder, "{file: laid.yaml}")
    first = caught.value.problems[0]
    assert (first.line, first.path) == (6, "underlay.file")
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(folder, "{file: nothing.graphml}")
    with pytest.raises(ScenarioError, match="did you mean 'places'"):
        load(folder, "{file: zoo.graphml, place: {}}")


_WORDS = st.sampled_from(["a", "t1", "core", "zoo", ""]) | st.text(max_size=5) | st.integers() | st.none()


@given(
    _WORDS
    | st.dictionaries(
        st.sampled_from(["file", "places", "stretch"]), _WORDS | st.dictionaries(st.text(), _WORDS)
    )
)
def test_whatever_it_is_only_one_error_comes_out(underlay: object) -> None:
    data = {"version": 1, "name": "x", "duration_s": 30, "topology": str(SQUARE), "traffic": {"rooms": []}}
    with suppress(ScenarioError):
        parse_scenario(json.dumps({**data, "underlay": underlay}))
