from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology import Problem, Topology, TopologyError, load_topology, parse_topology
from relaymesh.topology.loader import MAX_FILE_BYTES
from relaymesh.topology.problems import MAX_PROBLEMS

HEAD = "version: 1\nname: test\nregions: [{name: paris}, {name: oslo}, {name: rome}]\n"


def problems(text: str | bytes) -> list[str]:
    """What is wrong, as `line:column path: message`."""
    with pytest.raises(TopologyError) as caught:
        parse_topology(text, "t.yaml")
    assert all(
        problem.source == "t.yaml" and problem.severity == "error" for problem in caught.value.problems
    )
    return [f"{found.line}:{found.column} {found.path}: {found.message}" for found in caught.value.problems]


def test_a_problem_reads_like_a_compilers() -> None:
    problem = Problem("a.yaml", 3, 7, "links[3].between[1]", "no region named 'x'")
    assert str(problem) == "a.yaml:3:7: error: links[3].between[1]: no region named 'x'"
    assert str(TopologyError((problem, problem))) == f"{problem}\n{problem}"


def test_defaults_fill_what_a_link_does_not_say() -> None:
    topology = parse_topology(
        HEAD + "defaults: {delay_ms: 9, loss: {forward: 0.1, backward: 0.2}, peering: public}\n"
        "links:\n"
        "  - {between: [paris, oslo]}\n"
        "  - {between: [oslo, rome], delay_ms: {forward: 1, backward: 2}, loss: 0, peering: private}\n"
    )
    link = topology.link("oslo", "paris")
    assert link is not None
    assert (link.delay_ms, link.loss, link.peering, link.listed) == (9.0, 0.2, "public", True)
    link = topology.link("rome", "oslo")
    assert link is not None
    assert (link.delay_ms, link.rtt_ms, link.loss, link.peering) == (2.0, 3.0, 0.0, "private")


def test_json_with_tabs_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mesh.json"
    data = {"version": 1, "name": "j", "regions": [{"name": "a", "title": "Ä"}, {"name": "b"}], "links": []}
    file.write_text("\ufeff" + json.dumps(data, indent="\t"), encoding="utf-8")
    assert load_topology(file).region("a").title == "Ä"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", ["1:1 : must be a mapping, not a list"]),
        ("7", ["1:1 : must be a mapping, not 7"]),
        (
            "name: x\nregion: []",
            [
                "1:1 : missing key 'version'",
                "1:1 : missing key 'regions'",
                "2:1 : unknown key 'region' (did you mean 'regions'?)",
            ],
        ),
        (HEAD.replace("1", "2", 1), ["1:10 version: must be 1, not 2"]),
        (
            HEAD.replace("test", "te st"),
            ["2:7 name: 'te st' is not a name: letters, digits, '.', '_', '-', "],
        ),
        (HEAD.replace("paris", "oslo"), ["3:32 regions[1].name: 'oslo' is already regions[0]"]),
        (HEAD.replace("paris", "1"), ["3:18 regions[0].name: must be text, not 1 (write it in quotes)"]),
        (HEAD.replace("{name: paris}", "paris"), ["3:11 regions[0]: must be a mapping, not 'paris'"]),
        (
            HEAD.replace("oslo", "oslo, latitude: 91, longitude: 0"),
            ["3:49 regions[1].latitude: must be less"],
        ),
        (
            HEAD.replace("oslo", "oslo, longitude: 5"),
            ["3:50 regions[1].longitude: a longitude needs a latitude"],
        ),
        (HEAD.replace("oslo", "oslo, country: no"), ["3:48 regions[1].country: 'no' is not an ISO 3166-1"]),
        (HEAD.replace("oslo", 'oslo, title: "\\e[2J"'), ["3:46 regions[1].title: '\\x1b[2J' has control"]),
        (HEAD + "links:", ["4:7 links: has no value"]),
        (HEAD + "objective: money", ["4:12 objective: must be 'latency', 'balanced' or 'cost', not 'money'"]),
        (HEAD + "peering: full", ["4:10 peering: 'full' needs defaults.delay_ms"]),
        (HEAD + "nodes: [{name: n, region: osl}]", ["4:27 nodes[0].region: no region named 'osl' (did you"]),
        (
            HEAD + "nodes: [{name: rome, region: oslo}]",
            ["4:16 nodes[0].name: 'rome' is the name of a region"],
        ),
        (
            HEAD + "nodes: [{name: n, region: oslo, roles: [core]}]",
            ["4:41 nodes[0].roles[0]: must be 'edge' or"],
        ),
    ],
)
def test_problems_outside_links(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("{delay_ms: 1}", ["5:5 links[0]: missing key 'between'"]),
        ("{between: [oslo], delay_ms: 1}", ["5:15 links[0].between: must name two ends, not 1"]),
        ("{between: [oslo, rome, paris], delay_ms: 1}", ["5:15 links[0].between: must name two ends, not 3"]),
        (
            "{between: [oslo, pariss], delay_ms: 1}",
            ["5:22 links[0].between[1]: no region named 'pariss' (did "],
        ),
        ("{between: [oslo, oslo], delay_ms: 1}", ["5:22 links[0].between[1]: 'oslo' is linked to itself"]),
        ("{between: [oslo, rome]}", ["5:5 links[0]: no delay_ms, and 'defaults' gives none"]),
        (
            "{between: [oslo, rome], delay_ms: -1}",
            ["5:39 links[0].delay_ms: must be greater than or equal to 0"],
        ),
        (
            "{between: [oslo, rome], delay_ms: .nan}",
            ["5:39 links[0].delay_ms: must be a finite number, not nan"],
        ),
        (
            "{between: [oslo, rome], delay_ms: .inf}",
            ["5:39 links[0].delay_ms: must be a finite number, not inf"],
        ),
        ("{between: [oslo, rome], delay_ms: '1'}", ["5:39 links[0].delay_ms: must be a number, not '1'"]),
        ("{between: [oslo, rome], delay_ms: true}", ["5:39 links[0].delay_ms: must be a number, not true"]),
        ("{between: [oslo, rome], delay_ms: [1]}", ["5:39 links[0].delay_ms: must be a number, not a list"]),
        (
            "{between: [oslo, rome], delay_ms: {forward: 1, back: 2}}",
            [
                "5:39 links[0].delay_ms: missing key 'backward'",
                "5:52 links[0].delay_ms: unknown key 'back' (did you mean 'backward'?)",
            ],
        ),
        (
            "{between: [oslo, rome], delay_ms: 1, loss: 1.01}",
            ["5:48 links[0].loss: must be less than or equal"],
        ),
        ("{between: [oslo, rome], delay_ms: 1, jitter_ms: -1}", ["5:53 links[0].jitter_ms: must be greater"]),
        ("{between: [oslo, rome], delay_ms: 1, capacity_mbps: 0}", ["5:57 links[0].capacity_mbps: must be "]),
        (
            "{between: [oslo, rome], delay_ms: 1, delay_ms: 2}",
            ["5:42 links[0].delay_ms: the key is given twice"],
        ),
        (
            "{between: [oslo, rome], delay_ms: 1, peering: off}",
            ["5:51 links[0].peering: must be 'private', "],
        ),
        (
            "{between: [oslo, rome], delay_ms: 1, jitter: 1}",
            ["5:42 links[0]: unknown key 'jitter' (did you mean"],
        ),
        ("{between: [oslo, rome], delay_ms: 1, jitter_ms: }", ["5:53 links[0].jitter_ms: has no value"]),
        (
            "{between: [oslo, rome], delay_ms: 1}\n  - {between: [rome, oslo], delay_ms: 1}",
            ["6:15 links[1].between: the pair 'rome', 'oslo' is already links[0]"],
        ),
    ],
)
def test_problems_of_links(link: str, expected: list[str]) -> None:
    found = problems(f"{HEAD}links:\n  - {link}\n")
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(start)


def test_a_link_joins_two_regions_or_two_nodes() -> None:
    nodes = "nodes: [{name: n1, region: oslo}, {name: n2, region: rome}]\n"
    text = HEAD + nodes + "links: [{between: [n1, rome], delay_ms: 1}, {between: [n1, n3], delay_ms: 1}]\n"
    first, second = problems(text)
    assert first.endswith("'n1' is a node and 'rome' a region: name two regions or two nodes")
    assert "no region or node named 'n3'" in second


def test_all_problems_come_at_once_and_in_order() -> None:
    found = problems(
        "version: 3\nname: x\ncolour: red\nregions: [{name: a, latitude: 1}, {name: a}]\n"
        "links: [{between: [a, b], delay_ms: -1}]\n"
    )
    assert [line.split(" ")[0] for line in found] == ["1:10", "3:1", "4:31", "4:42", "5:23", "5:37"]


def test_a_flood_of_problems_is_cut_short() -> None:
    found = problems(HEAD + "links:\n" + "  - {between: [oslo, nowhere], loss: 2}\n" * 1000)
    assert len(found) == MAX_PROBLEMS + 1
    assert " more" in found[-1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"name: \xff", "1:7 : not UTF-8"),
        (b"a: 1\nb: \xc3(", "2:4 : not UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), "1:1 : larger than 4 MiB"),
        ("é" * (MAX_FILE_BYTES // 2 + 1), "1:1 : larger than 4 MiB"),
        (b"a: &a [x]\nb: [*a, *a]", "2:5 : aliases (*a) are not allowed; use 'defaults'"),
        (b"", "1:1 : the file is empty"),
    ],
)
def test_hostile_bytes(data: str | bytes, expected: str) -> None:
    assert problems(data) == [expected]


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000_000,
        b"- " * 1_000_000,
        b"a: {" * 500_000,
        HEAD.encode() + b"links: [" + b"{}," * 300_000 + b"]",
        b"".join(b"k%d: 1\n" % index for index in range(100_000)),
    ],
)
def test_large_hostile_files_are_refused(data: bytes) -> None:
    assert problems(data)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path, "a\0b"):
        with pytest.raises(TopologyError, match="cannot be read"):
            load_topology(path)


def test_an_unconnected_mesh_is_a_warning() -> None:
    topology = parse_topology(HEAD + "links: [{between: [oslo, rome], delay_ms: 1}]", "t.yaml")
    (warning,) = topology.warnings
    assert str(warning) == (
        "t.yaml:4:8: warning: links: the regions cannot all reach each other: {paris}, {oslo, rome}"
    )


def only_topology_errors(text: str | bytes) -> None:
    problems: tuple[Problem, ...] | None = None
    try:
        assert isinstance(parse_topology(text), Topology)
    except TopologyError as error:
        problems = error.problems
    assert problems != ()
    for problem in problems or ():
        str(problem).encode("utf-8")  # printable anywhere
        assert problem.line >= 1 and problem.column >= 1


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    only_topology_errors(data)


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    only_topology_errors(text)


@given(st.integers(0, 400), st.integers(0, 40), st.text(max_size=12))
def test_a_damaged_file(start: int, length: int, inserted: str) -> None:
    text = HEAD + "nodes: [{name: n, region: oslo}]\nlinks:\n  - {between: [oslo, rome], delay_ms: 1}\n"
    only_topology_errors(text[:start] + inserted + text[start + length :])


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a", "b", "never", "full", "\n", "\x1b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["forward", "name", "between", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
name = st.sampled_from(["a", "b", "c"]) | junk
link = st.dictionaries(st.sampled_from(["delay_ms", "loss", "peering", "colour"]), junk, max_size=3)
link_entry = st.builds(lambda link, ends: {**link, "between": ends}, link, st.lists(name, max_size=3) | junk)
region = st.fixed_dictionaries({"name": name}, optional={"latitude": junk, "title": junk})
node = st.fixed_dictionaries({"name": name, "region": name}, optional={"roles": junk})
mesh = st.fixed_dictionaries(
    {"version": st.just(1), "name": name, "regions": st.lists(region | junk, max_size=4) | junk},
    optional={
        "nodes": st.lists(node | junk, max_size=3) | junk,
        "links": st.lists(link_entry | junk, max_size=4) | junk,
        "defaults": link | junk,
        "peering": st.sampled_from(["full", "listed"]) | junk,
        "description": junk,
    },
)


@given(mesh)
def test_nearly_a_topology(data: object) -> None:
    only_topology_errors(json.dumps(data).replace("NaN", ".nan").replace("Infinity", ".inf"))
