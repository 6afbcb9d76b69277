"""``relaymesh topology``: check topology files like a compiler, show, compare, import and export them.

Exit codes: 0 all is well; 1 a file is no topology, or there is no path; 2 the
command was not understood or a file cannot be opened.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relaymesh.cli import topology_mesh
from relaymesh.netsim import underlay
from relaymesh.topology import (
    BestPath,
    Link,
    Topology,
    TopologyError,
    best_paths,
    load_topology,
    parse_topology,
)
from relaymesh.topology.describe import describe, describe_link, describe_problem
from relaymesh.topology.diff import describe_change, diff
from relaymesh.topology.formats import READERS, WRITERS, Assumptions, Imported, Reading, topology_text
from relaymesh.topology.paths import best_paths_from

# Above this many nodes a table of all pairs is wider than a screen.
MAX_MATRIX_NODES = 16

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)


_GRAPH = click.option(
    "--graph",
    metavar="LABEL|NUMBER",
    help="Which graph of a NetJSON collection: its label, or its number from 0.",
)


def _assumptions(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say what a file does not."""
    stretch = click.option(
        "--stretch",
        type=click.FloatRange(1, 100),
        default=Assumptions().stretch,
        show_default=True,
        help="How much longer fibre is than the great circle.",
    )
    delay = click.option(
        "--delay-ms",
        type=click.FloatRange(0, 60_000),
        default=Assumptions().delay_ms,
        show_default=True,
        help="Delay of a link whose ends have no coordinates.",
    )
    return stretch(delay(function))


@click.group()
def command() -> None:
    """Check, show and compare topology files; change the topology of a running mesh.

    A topology file says which regions a mesh has, which pairs of them may peer,
    and what is expected of the links between them. Its format is explained in
    topologies/README.md; topologies/ has examples.
    """


command.add_command(topology_mesh.plan)
command.add_command(topology_mesh.apply)


@command.command()
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Check topology files and list everything that is wrong, each with its place.

    Exits with 0 when every file is valid (warnings are allowed), else with 1.
    """
    reports: list[dict[str, object]] = []
    for file in files:
        try:
            topology = load_topology(file)
        except TopologyError as error:
            valid, problems = False, error.problems
        else:
            valid, problems = True, topology.warnings
            if not as_json:
                click.echo(_summary(file, topology))
        reports.append(
            {
                "file": str(file),
                "valid": valid,
                "problems": [describe_problem(problem) for problem in problems],
            }
        )
        if not as_json:
            for problem in problems:
                click.echo(str(problem), err=True)
    all_valid = all(report["valid"] for report in reports)
    if as_json:
        click.echo(json.dumps({"valid": all_valid, "files": reports}, indent=2))
    sys.exit(0 if all_valid else 1)


@command.command()
@click.argument("file", type=_FILE)
@click.option("--from", "source", metavar="NODE", help="Show only the best path from this node (with --to).")
@click.option("--to", "target", metavar="NODE", help="Show only the best path to this node (with --from).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def show(file: Path, source: str | None, target: str | None, as_json: bool) -> None:
    """Show a topology: its regions, its links, and the best path between every two nodes.

    Paths are those the file leads one to expect; a running mesh measures and
    may choose others. A cost is one-way: delay, jitter, the expected wait for
    repair, and the operator's extra cost, in milliseconds.
    """
    if (source is None) != (target is None):
        raise click.UsageError("--from and --to belong together")
    topology = _loaded(file)
    if source is not None and target is not None:
        sys.exit(_show_path(topology, source, target, as_json))
    if as_json:
        click.echo(json.dumps(describe(topology), indent=2))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{topology.name}[/bold]")
    if topology.description:
        console.print(topology.description.strip(), markup=False)
    _print_titled(console, "Regions", _regions_table(topology))
    _print_titled(console, "Links, milliseconds", _links_table(topology))
    _print_paths(console, topology)


@command.command("diff")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def diff_(old: Path, new: Path, as_json: bool) -> None:
    """Show what differs between two topology files: + new, - gone, ~ changed.

    Regions, nodes, pairs with all that holds for them (also where the defaults say it), pins, and
    the file as a whole. Prints nothing where they mean the same.
    """
    changes = diff(_loaded(old), _loaded(new))
    if as_json:
        click.echo(json.dumps({"changes": [describe_change(change) for change in changes]}, indent=2))
        return
    for change in changes:
        click.echo(str(change))


@command.command("import")
@click.argument("file", type=_FILE)
@click.option("--format", "kind", type=click.Choice(sorted(READERS)), help="Default: guessed from the file.")
@click.option("-o", "--output", type=_OUTPUT, help="Write to this file instead of the terminal.")
@click.option("--name", help="What to call the topology. Default: what the file calls itself, or its name.")
@_GRAPH
@_assumptions
def import_(
    file: Path,
    kind: str | None,
    output: Path | None,
    name: str | None,
    graph: str | None,
    stretch: float,
    delay_ms: float,
) -> None:
    """Make a topology file of a graph of another tool.

    Reads GraphML (as the Internet Topology Zoo, networkx and yEd write it), containerlab YAML (its variables
    taken from the environment) and NetJSON NetworkGraph. Delays that are not in the file come from
    coordinates: the great circle times the stretch factor, at 5 microseconds a kilometre. What had to be
    assumed is told on standard error.
    """
    imported = _loaded_graph(file, kind, (stretch, delay_ms), name, graph)
    _written(imported.text, output)


@command.command()
@click.argument("file", type=_FILE)
@click.option("--format", "kind", type=click.Choice(sorted(WRITERS)), required=True)
@click.option("-o", "--output", type=_OUTPUT, help="Write to this file instead of the terminal.")
def export(file: Path, kind: str, output: Path | None) -> None:
    """Write a topology file as a graph for other tools: an edge for each direction of a link."""
    topology = _loaded(file)
    _written(WRITERS[kind](topology), output)


@command.command()
@click.argument("file", type=_FILE)
@click.argument("places", nargs=-1, required=True, metavar="REGION[=NODE]...")
@click.option("-o", "--output", type=_OUTPUT, help="Write to this file instead of the terminal.")
@click.option("--name", help="What to call the topology. Default: as the underlay.")
@_GRAPH
@_assumptions
def collapse(
    file: Path,
    places: tuple[str, ...],
    output: Path | None,
    name: str | None,
    graph: str | None,
    stretch: float,
    delay_ms: float,
) -> None:
    """Make a mesh of some places of a network: one link for each pair, as its shortest path is.

    FILE is the network below the mesh, in any format that can be imported, or a topology file. Each
    REGION of the mesh stands at a NODE of it, by default the one of its name.
    """
    imported = _loaded_graph(file, None, (stretch, delay_ms), None, graph)
    where = {region: node or region for region, _, node in (place.partition("=") for place in places)}
    try:
        mesh = underlay.collapse(imported.topology, where, name=name)
        text = topology_text(mesh)
        parse_topology(text)  # names come from the command line
    except (underlay.UnderlayError, TopologyError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    _written(text, output)


def _loaded(file: Path) -> Topology:
    """The topology in *file*, its warnings told; ends the program with all that is wrong where it is none."""
    try:
        topology = load_topology(file)
    except TopologyError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    for warning in topology.warnings:
        click.echo(str(warning), err=True)
    return topology


def _loaded_graph(
    file: Path, kind: str | None, assumed: tuple[float, float], name: str | None, graph: str | None
) -> Imported:
    reading = Reading(graph, os.environ)
    try:
        imported = underlay.load_underlay(file, Assumptions(*assumed), kind, name=name, reading=reading)
    except ValueError as error:  # "nan" is a number to click
        raise click.UsageError(str(error)) from None
    except TopologyError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    for warning in imported.warnings:
        click.echo(str(warning), err=True)
    return imported


def _written(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from None


def _summary(file: Path, topology: Topology) -> str:
    counts = (
        (len(topology.regions), "region"),
        (len(topology.nodes), "node"),
        (len(topology.pairs), "link"),
    )
    return f"{file}: valid: " + ", ".join(f"{count} {word}{'s' * (count != 1)}" for count, word in counts)


def _print_titled(console: Console, title: str, table: Table) -> None:
    console.print(f"\n{title}", style="bold")
    console.print(table)


def _table(*columns: str, gap: int = 2) -> Table:
    """A table whose columns are aligned right where their heading begins with '>'."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=right)
    return table


def _regions_table(topology: Topology) -> Table:
    table = _table("name", "title", "country", ">latitude", ">longitude", "nodes")
    for region in topology.regions:
        place = ("", "") if region.latitude is None else (f"{region.latitude:.2f}", f"{region.longitude:.2f}")
        nodes = [node.name for node in topology.nodes if node.region == region.name]
        table.add_row(
            region.name, Text(region.title), region.country or "", *place, ", ".join(nodes) or "none"
        )
    return table


def _links_table(topology: Topology) -> Table:
    table = _table(
        "between",
        "",
        "peering",
        ">there",
        ">back",
        ">RTT",
        ">jitter",
        ">loss",
        ">extra",
    )
    for pair in topology.pairs:
        there, back = topology.link(*pair.ends), topology.link(*reversed(pair.ends))
        if there is None or back is None:
            table.add_row(*pair.ends, pair.peering)
            continue
        table.add_row(
            *pair.ends,
            pair.peering,
            f"{there.delay_ms:g}",
            f"{back.delay_ms:g}",
            f"{there.rtt_ms:g}",
            _both(there.jitter_ms, back.jitter_ms),
            _both(100 * there.loss, 100 * back.loss, " %"),
            _both(there.extra_cost_ms, back.extra_cost_ms),
        )
    return table


def _both(there: float, back: float, unit: str = "") -> str:
    """One value where both directions have the same, nothing for zero."""
    if there == back:
        return f"{there:g}{unit}" if there else ""
    return f"{there:g} / {back:g}{unit}"


def _print_paths(console: Console, topology: Topology) -> None:
    paths = {(source, target): path for source, target, path in best_paths(topology)}
    names = [node.name for node in topology.nodes]
    if len(names) > MAX_MATRIX_NODES:
        console.print(f"\n{len(names)} nodes: ask for one path with --from and --to, or for all with --json.")
        return
    numbers = [f">{number}" for number in range(1, len(names) + 1)]
    table = _table(">", "from / to", *numbers, gap=1)
    table.columns[1].no_wrap = True
    for row, source in enumerate(names, 1):
        cells = ["" if source == target else _cell(paths[source, target]) for target in names]
        table.add_row(str(row), source, *cells)
    _print_titled(console, "Best paths: cost of one way, milliseconds (* by other nodes, – no way)", table)
    detours = [path for path in paths.values() if path is not None and path.hops > 1]
    if detours:
        console.print("\nPaths that are not direct", style="bold")
    for path in detours:
        console.print(_path_line(topology, path), markup=False)


def _cell(path: BestPath | None) -> str:
    if path is None:
        return "–"
    decimals = 1 if path.cost_ms < 100 else 0  # ten columns fit into 80 characters
    return f"{'*' if path.hops > 1 else ''}{path.cost_ms:.{decimals}f}"


def _path_line(topology: Topology, path: BestPath) -> str:
    """`a → b → c  53.5 ms (direct 66.5)`."""
    line = f"{' → '.join(path.nodes)}  {path.cost_ms:.1f} ms"
    if path.hops == 1:
        return line
    direct = topology.link(path.nodes[0], path.nodes[-1])
    return f"{line} ({f'direct {direct.cost_ms:.1f}' if direct else 'they may not peer'})"


def _show_path(topology: Topology, source: str, target: str, as_json: bool) -> int:
    """Print the best path between two nodes; returns the exit code."""
    known = [node.name for node in topology.nodes]
    for option, name in (("--from", source), ("--to", target)):
        if name not in known:
            shown = ", ".join(known[:12]) + (", …" if len(known) > 12 else "")
            raise click.BadParameter(f"no node named '{name}' (there are: {shown})", param_hint=option)
    if source == target:
        raise click.UsageError("--from and --to are the same node")
    path = best_paths_from(topology, source).get(target)
    if path is None:
        click.echo(f"there is no way from {source} to {target}", err=True)
        return 1
    links = [_link(topology, *hop) for hop in zip(path.nodes, path.nodes[1:], strict=False)]
    if as_json:
        hops = [describe_link(link) for link in links]
        click.echo(json.dumps({"path": list(path.nodes), "cost_ms": path.cost_ms, "links": hops}, indent=2))
        return 0
    click.echo(_path_line(topology, path))
    for link in links:
        click.echo(f"  {link.source} → {link.target}  {link.cost_ms:.1f} ms  {_cost_terms(link)}")
    return 0


def _link(topology: Topology, source: str, target: str) -> Link:
    link = topology.link(source, target)
    assert link is not None, "a path uses only links that exist"
    return link


def _cost_terms(link: Link) -> str:
    """Terms of a link's cost: `private: delay 38`."""
    repair = link.cost_ms - link.delay_ms - link.jitter_ms - link.extra_cost_ms
    terms = (("jitter", link.jitter_ms), ("repair", repair), ("extra", link.extra_cost_ms))
    return f"{link.peering}: delay {link.delay_ms:g}" + "".join(
        f" + {name} {value:.4g}" for name, value in terms if value > 1e-9
    )
