from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relaymesh.cli.topology import command

TOPOLOGIES = Path(__file__).parents[2] / "topologies"
THREE = str(TOPOLOGIES / "three-regions.yaml")
SQUARE = str(TOPOLOGIES / "square.yaml")


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(command, list(arguments))


@pytest.fixture
def broken(tmp_path: Path) -> str:
    file = tmp_path / "broken.yaml"
    file.write_text("version: 1\nname: b\nregions: [{name: a}]\nlinks: [{between: [a, b], delay_ms: -1}]\n")
    return str(file)


@pytest.fixture
def islands(tmp_path: Path) -> str:
    file = tmp_path / "islands.yaml"
    file.write_text('version: 1\nname: i\nregions: [{name: a, title: "[/red]"}, {name: b}]\n')
    return str(file)


def test_help_names_the_subcommands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "validate" in result.output and "show" in result.output


def test_validate_says_what_is_valid() -> None:
    result = run("validate", THREE, SQUARE)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{THREE}: valid: 3 regions, 3 nodes, 3 links",
        f"{SQUARE}: valid: 4 regions, 4 nodes, 5 links",
    ]
    assert result.stderr == ""


def test_validate_lists_every_error_of_every_file(broken: str) -> None:
    result = run("validate", broken, SQUARE, broken)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{SQUARE}: valid")
    assert result.stderr.splitlines() == 2 * [
        f"{broken}:4:23: error: links[0].between[1]: no region named 'b'",
        f"{broken}:4:37: error: links[0].delay_ms: must be greater than or equal to 0, not -1",
    ]


def test_validate_as_json(broken: str, islands: str) -> None:
    result = run("validate", "--json", broken, islands)
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["valid"] is False
    assert [file["valid"] for file in answer["files"]] == [False, True]
    assert answer["files"][0]["problems"][0] == {
        "file": broken,
        "line": 4,
        "column": 23,
        "path": "links[0].between[1]",
        "message": "no region named 'b'",
        "severity": "error",
    }
    assert answer["files"][1]["problems"][0]["severity"] == "warning"


def test_a_warning_is_no_error(islands: str) -> None:
    for arguments in (["validate", islands], ["show", islands], ["show", "--json", islands]):
        result = run(*arguments)
        assert result.exit_code == 0
    assert "warning: the regions cannot all reach each other: {a}, {b}" in run("validate", islands).stderr


def test_show_prints_tables_and_detours(islands: str) -> None:
    output = run("show", THREE).output
    assert "Washington, D.C." in output
    assert "dallas → washington-dc → london  53.5 ms (direct 66.5)" in output
    assert "a → t1 → c  10.0 ms (they may not peer)" in run("show", SQUARE).output
    output = run("show", islands).output
    assert "–" in output and "[/red]" in output  # no way; and titles are no markup


def test_show_of_the_ten_regions_fits_a_terminal() -> None:
    output = run("show", str(TOPOLOGIES / "ibm-cloud.yaml")).output
    assert "…" not in output
    assert max(map(len, output.splitlines())) <= 80
    assert "10 sao-paulo" in output


def test_show_of_many_nodes_leaves_the_matrix_out(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    names = ", ".join(f"{{name: r{index}}}" for index in range(17))
    file.write_text(f"version: 1\nname: many\nregions: [{names}]\npeering: full\ndefaults: {{delay_ms: 1}}\n")
    result = run("show", str(file))
    assert result.exit_code == 0
    assert "17 nodes: ask for one path" in result.output


def test_show_as_json() -> None:
    answer = json.loads(run("show", "--json", THREE).stdout)
    assert sorted(answer) == [
        "description", "links", "name", "nodes", "objective", "paths", "pins", "regions", "warnings",
    ]  # fmt: skip
    assert answer["objective"] is None
    assert len(answer["links"]) == 6 and len(answer["paths"]) == 6
    link = next(link for link in answer["links"] if (link["from"], link["to"]) == ("london", "dallas"))
    assert link["cost_ms"] == 66.5 and link["peering"] == "public" and link["capacity_mbps"] is None
    path = next(path for path in answer["paths"] if (path["from"], path["to"]) == ("london", "dallas"))
    assert path["path"] == ["london", "washington-dc", "dallas"] and path["cost_ms"] == 53.5


def test_show_one_path() -> None:
    result = run("show", THREE, "--from", "dallas", "--to", "london")
    assert result.output.splitlines() == [
        "dallas → washington-dc → london  53.5 ms (direct 66.5)",
        "  dallas → washington-dc  15.5 ms  private: delay 15.5",
        "  washington-dc → london  38.0 ms  private: delay 38",
    ]
    answer = json.loads(run("show", THREE, "--from", "dallas", "--to", "london", "--json").stdout)
    assert answer["path"] == ["dallas", "washington-dc", "london"] and answer["cost_ms"] == 53.5
    assert [link["delay_ms"] for link in answer["links"]] == [15.5, 38.0]


def test_show_without_a_way(islands: str) -> None:
    result = run("show", islands, "--from", "a", "--to", "b")
    assert result.exit_code == 1
    assert "there is no way from a to b" in result.stderr


def test_show_of_a_broken_file_lists_its_errors(broken: str) -> None:
    result = run("show", broken)
    assert result.exit_code == 1
    assert result.stdout == "" and len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate"], "Missing argument"),
        (["validate", "nowhere.yaml"], "does not exist"),
        (["show", SQUARE, "--from", "a"], "belong together"),
        (["show", SQUARE, "--from", "a", "--to", "a"], "the same node"),
        (["show", SQUARE, "--from", "a", "--to", "b"], "no node named 'b' (there are: a, t1, t2, c)"),
    ],
)
def test_misuse_is_exit_code_2(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


GRAPH = """<graphml><graph edgedefault="undirected"><node id="a"/>
<node id="b"/><edge source="a" target="b"><data key="delay_ms">7</data></edge></graph></graphml>"""


@pytest.fixture
def graph(tmp_path: Path) -> str:
    file = tmp_path / "tiny.graphml"
    file.write_text(GRAPH)
    return str(file)


def test_import_writes_a_topology_file(graph: str, tmp_path: Path) -> None:
    result = run("import", graph)
    assert result.exit_code == 0
    assert result.stdout.startswith("version: 1\nname: tiny\n")
    assert "{between: [a, b], delay_ms: 7}" in result.stdout
    assert result.stderr.splitlines() == [
        f"{graph}:1:42: warning: a has no coordinates",
        f"{graph}:2:1: warning: b has no coordinates",
    ]
    output = tmp_path / "tiny.yaml"
    again = run("import", graph, "--format", "graphml", "-o", str(output), "--name", "pair")
    assert again.exit_code == 0 and again.stdout == ""
    assert run("validate", str(output)).exit_code == 0
    assert output.read_text().startswith("version: 1\nname: pair\n")


def test_import_says_what_is_wrong(graph: str, tmp_path: Path) -> None:
    result = run("import", graph, "--format", "netjson")
    assert result.exit_code == 1 and result.stderr.startswith(f"{graph}:1:1: error: not JSON")
    assert run("import", graph, "--stretch", "0.5").exit_code == 2
    assert run("import", graph, "--stretch", "nan").exit_code == 2
    assert run("import", graph, "-o", str(tmp_path / "no" / "such.yaml")).exit_code != 0


@pytest.mark.parametrize("kind", ["graphml", "netjson"])
def test_export_and_import_again(tmp_path: Path, kind: str) -> None:
    output = tmp_path / f"three.{kind}"
    assert run("export", THREE, "--format", kind, "-o", str(output)).exit_code == 0
    assert run("export", THREE, "--format", kind).stdout == output.read_text()
    back = tmp_path / "back.yaml"
    assert run("import", str(output), "-o", str(back)).stderr == ""
    shown, expected = (json.loads(run("show", file, "--json").stdout) for file in (str(back), THREE))
    assert shown["regions"] == expected["regions"] and shown["links"] == expected["links"]


def test_export_refuses_what_is_no_topology(broken: str, islands: str) -> None:
    assert run("export", broken, "--format", "netjson").exit_code == 1
    assert run("export", islands, "--format", "netjson").stderr.count("warning") == 1
    assert run("export", THREE).exit_code == 2


def test_collapse_makes_a_mesh_of_places(graph: str) -> None:
    result = run("collapse", THREE, "us=dallas", "eu=london", "--name", "atlantic")
    assert result.exit_code == 0 and "{between: [us, eu], delay_ms: 53.5}" in result.stdout
    assert run("collapse", graph, "a", "b").exit_code == 0
    missing = run("collapse", THREE, "paris")
    assert missing.exit_code == 1
    assert missing.stderr == "error: 'paris' stands at 'paris', which is no node of three-regions\n"
    assert run("collapse", THREE, "not a name=dallas").exit_code == 1


def test_import_chooses_one_graph_of_a_collection(tmp_path: Path) -> None:
    graphs = [
        {"type": "NetworkGraph", "label": label, "nodes": [{"id": "a"}, {"id": end}], "links": []}
        for label, end in (("IPv4", "b"), ("IPv6", "c"))
    ]
    file = tmp_path / "both.json"
    file.write_text(json.dumps({"type": "NetworkCollection", "collection": graphs}))
    asked = run("import", str(file))
    assert asked.exit_code == 1 and "0 'IPv4' (2 nodes), 1 'IPv6' (2 nodes)" in asked.stderr
    chosen = run("import", str(file), "--graph", "IPv6")
    assert chosen.exit_code == 0 and "name: c" in chosen.stdout
    assert run("collapse", str(file), "a", "c", "--graph", "1").exit_code == 0


def test_import_takes_variables_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lab.clab.yml"
    file.write_text("name: ${LAB_NAME:=plain}\ntopology: {nodes: {a: {}}}\n")
    monkeypatch.delenv("LAB_NAME", raising=False)
    assert "name: plain" in run("import", str(file)).stdout
    monkeypatch.setenv("LAB_NAME", "mine")
    result = run("import", str(file))
    assert "name: mine" in result.stdout and "the value of 'LAB_NAME' is the environment's" in result.stderr
