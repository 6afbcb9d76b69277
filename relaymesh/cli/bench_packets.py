"""``relaymesh bench edge | hop | idle | join | simulate``: what packets, sessions and simulations cost.

All but `simulate` start real processes on loopback and read their CPU time, so that only a quiet machine
tells the truth; ratios to what ran beside them hold on others too.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relaymesh.bench.packet_report import Report, Table
    from relaymesh.bench.packet_rows import Row

Command = TypeVar("Command", bound=Callable[..., Any])


def _say(text: str) -> None:
    click.echo(text, err=True)


def _outputs(command: Command) -> Command:
    """The options of what a benchmark writes where."""
    file = click.Path(dir_okay=False, path_type=Path)
    summary = click.option("--summary", type=file, help="Write a section of Markdown here.")
    return summary(
        click.option("--json", "as_json", is_flag=True, help="JSON instead of the table.")(command)
    )


def _page(command: Command) -> Command:
    file = click.Path(dir_okay=False, path_type=Path)
    return click.option("--page", "page_path", type=file, help="Write a page with bars here.")(command)


def _rows(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> list[Row]:
    from relaymesh.bench.packet_rows import parse_row

    try:
        return [parse_row(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_row = click.option(
    "--row", "rows", multiple=True, callback=_rows, metavar="RATE[bBURST]",
    help="Packets a second and packets in a burst, as in 400 and 400b8. Repeatable.",
)  # fmt: skip
_rounds = click.option(
    "--rounds", default=7, show_default=True, type=click.IntRange(1, 1000), help="Medians are over these."
)


@contextmanager
def _told_failures() -> Iterator[None]:
    """What is for people ends the command with code 2."""
    from relaymesh.bench.packet_mesh import BenchFailed

    try:
        yield
    except BenchFailed as error:
        click.echo(str(error), err=True)
        sys.exit(2)


def _report(title: str, table: Table, metrics: dict[str, Any], *, passed: bool = True) -> Report:
    from relaymesh.bench.packet_mesh import kernels_in_use, machine
    from relaymesh.bench.packet_report import Report

    return Report(title, repeated(sys.argv[1:]), machine(), kernels_in_use(), table, metrics, passed)


def repeated(arguments: list[str]) -> str:
    """The command that repeats this, without where its results go."""
    kept: list[str] = []
    rest = iter(arguments)
    for word in rest:
        option, equals, _ = word.partition("=")
        if option in ("--summary", "--page"):
            if not equals:
                next(rest, None)
        elif option != "--json":
            kept.append(word)
    return shlex.join(["relaymesh", *kept])


def _hand_out(report: Report, as_json: bool, summary: Path | None) -> None:
    click.echo(report.to_json() if as_json else report.text())
    if summary is not None:
        summary.write_text(report.markdown(), encoding="utf-8")


@click.command("edge")
@click.option("--players", default=50, show_default=True, type=click.IntRange(1, 1000))
@_row
@_rounds
@click.option(
    "--seconds", default=4.0, show_default=True, type=click.FloatRange(0.5, 600), help="Per row and round."
)
@click.option(
    "--profile", default="gcm", show_default=True, type=click.Choice(["gcm", "cm"]), help="Of SRTP."
)
@click.option(
    "--feedback", default="none", show_default=True, type=click.Choice(["none", "twcc"]),
    help="What players tell besides receiver reports; twcc: each 100 ms, as browsers.",
)  # fmt: skip
@click.option("--janus", is_flag=True, help="Janus's streaming plugin besides, where it is installed.")
@click.option("--saturate", is_flag=True, help="Instead of rows: the highest rate that is carried.")
@_outputs
@_page
def edge(
    players: int,
    rows: list[Row],
    rounds: int,
    seconds: float,
    profile: str,
    feedback: Literal["none", "twcc"],
    janus: bool,
    saturate: bool,
    as_json: bool,
    summary: Path | None,
    page_path: Path | None,
) -> None:
    """The CPU that a packet to each of N players costs a real node, beside the least a program can do.

    A controller, a node, a publisher (WHIP) and players (WHEP) as processes on loopback; a minimal Python
    program gets the same feed in the same rounds. About five minutes as it stands. --saturate raises the
    rate until less than 99.9 % arrives or the p99 delay passes 5 ms.

    Exit code: 0, 1 a row did not arrive whole or in full (it says so), 2 it did not come to a result.
    """
    from relaymesh.bench import edge as bench
    from relaymesh.bench import packet_page, packet_report, saturation
    from relaymesh.bench.janus import PROGRAM as JANUS
    from relaymesh.bench.janus import has_janus
    from relaymesh.bench.packet_rows import ROWS

    lead = bench.LEAD_S if feedback == "twcc" else 0.0
    setting = bench.Setting(
        players, rounds, seconds, lead_seconds=lead, profile=profile, feedback=feedback, janus=janus
    )
    if janus and not has_janus():
        click.echo(f"{JANUS} is not installed; on Debian and Ubuntu: apt-get install janus", err=True)
        sys.exit(2)
    name = f"One packet to each of {players} players"
    if saturate:
        if page_path is not None or rows or janus:
            raise click.UsageError("--saturate has neither rows, nor a page, nor Janus")
        with _told_failures():
            found = saturation.saturate(setting, _say)
        table = packet_report.saturation_table(found)
        report = _report(f"{name}: saturation", table, packet_report.as_metrics("saturation", [found]))
        _hand_out(report, as_json, summary)
        sys.exit(0 if found.rate else 1)
    with _told_failures():
        results = bench.measure(setting, rows or ROWS, _say)
    passed = not any(result.note for result in results)
    table = packet_report.edge_table(results)
    report = _report(name, table, packet_report.as_metrics("rows", results), passed=passed)
    _hand_out(report, as_json, summary)
    if page_path is not None:
        page_path.write_text(packet_page.page(report, packet_page.edge_groups(results)), encoding="utf-8")
    sys.exit(0 if passed else 1)


@click.command("hop")
@_row
@_rounds
@click.option(
    "--seconds", default=4.0, show_default=True, type=click.FloatRange(0.5, 600), help="Per row and round."
)
@_outputs
@_page
def hop(
    rows: list[Row],
    rounds: int,
    seconds: float,
    as_json: bool,
    summary: Path | None,
    page_path: Path | None,
) -> None:
    """The CPU that a packet costs the transit node of three real nodes in a row.

    Beside it, in the same rounds, srt-live-transmit from SRT to SRT, where it is installed. On loopback;
    about three minutes as it stands.

    Exit code: 0, 1 a row did not arrive in full (it says so), 2 it did not come to a result.
    """
    from relaymesh.bench import hop as bench
    from relaymesh.bench import packet_page, packet_report
    from relaymesh.bench.packet_rows import HOP_ROWS

    if not bench.has_srt():
        _say("srt-live-transmit is not installed: ours alone")
    with _told_failures():
        results = bench.measure(rows or HOP_ROWS, rounds=rounds, seconds=seconds, say=_say)
    passed = not any(result.note for result in results)
    table = packet_report.hop_table(results)
    report = _report("One relay hop", table, packet_report.as_metrics("rows", results), passed=passed)
    _hand_out(report, as_json, summary)
    if page_path is not None:
        page_path.write_text(packet_page.page(report, packet_page.hop_groups(results)), encoding="utf-8")
    sys.exit(0 if passed else 1)


@click.command("idle")
@click.option("--links", default=3, show_default=True, type=click.IntRange(0, 20), help="Of the node.")
@click.option("--sessions", default=60, show_default=True, type=click.IntRange(1, 1000))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option(
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(0.5, 600), help="Per window."
)
@click.option(
    "--hold", default=0.0, type=click.FloatRange(0, 86_400), help="Seconds that the players stay, at least."
)
@_outputs
def idle(
    links: int, sessions: int, rounds: int, seconds: float, hold: float, as_json: bool, summary: Path | None
) -> None:
    """What a real node needs while nothing is sent: with idle links, and for each idle session.

    About two minutes as it stands. Exit code: 0, 1 a player was lost, 2 it did not come to a result.
    """
    from relaymesh.bench import idle as bench
    from relaymesh.bench import packet_report

    with _told_failures():
        result = bench.idle(
            links=links, sessions=sessions, seconds=seconds, rounds=rounds, hold=hold, say=_say
        )
    table = packet_report.idle_table(result)
    passed = result.still == sessions
    metrics = packet_report.as_metrics("idle", [result])
    _hand_out(_report("When nothing is sent", table, metrics, passed=passed), as_json, summary)
    sys.exit(0 if passed else 1)


@click.command("join")
@click.option("--joins", default=50, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--seconds", default=5.0, show_default=True, type=click.FloatRange(0.5, 600), help="Per idle window."
)
@_outputs
def join(joins: int, seconds: float, as_json: bool, summary: Path | None) -> None:
    """What a player's join costs a real node: POST, DTLS, the first packet; CPU and memory.

    Half a minute as it stands. Exit code: 0, 2 it did not come to a result.
    """
    from relaymesh.bench import idle as bench
    from relaymesh.bench import packet_report

    with _told_failures():
        result = bench.join(joins=joins, seconds=seconds, say=_say)
    table = packet_report.join_table(result)
    _hand_out(_report("A join", table, packet_report.as_metrics("join", [result])), as_json, summary)


@click.command("simulate")
@click.option(
    "--topology", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Of the room that is simulated. Default: topologies/ibm-cloud.yaml of a checkout.",
)  # fmt: skip
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(3, 3600), help="Virtual.")
@click.option("--publishers", default=6, show_default=True, type=click.IntRange(1, 100))
@click.option("--kbps", default=2500.0, show_default=True, type=click.FloatRange(50), help="Of each video.")
@click.option(
    "--packets", default=200_000, show_default=True, type=click.IntRange(1000), help="Of the network alone."
)
@click.option(
    "--scenario", "scenarios", multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Instead of both: the CPU time of this scenario; may be repeated.",
)  # fmt: skip
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="Of the scenarios.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100), help="The best counts.")
@click.option("--profile", is_flag=True, help="Print where the time goes, for one run.")
@_outputs
def simulate(
    topology: Path | None,
    seconds: float,
    publishers: int,
    kbps: float,
    packets: int,
    scenarios: tuple[Path, ...],
    seed: int,
    rounds: int,
    profile: bool,
    as_json: bool,
    summary: Path | None,
) -> None:
    """How many emulated packets a CPU second carries: through the whole stack, and the network alone.

    With --scenario: CPU seconds of that scenario. About two minutes as it stands.
    """
    from relaymesh.bench import packet_report
    from relaymesh.bench import simulation as bench
    from relaymesh.bench.virtual_network import measure as measure_network
    from relaymesh.netsim.scenario.loader import ScenarioError, load_scenario
    from relaymesh.topology import TopologyError

    try:
        loaded = [load_scenario(path) for path in scenarios]
    except ScenarioError as error:
        raise click.UsageError(str(error)) from None
    stack = network = None
    costs = []
    room = None
    if not loaded:
        path = topology or bench.TOPOLOGY
        if not path.exists():
            raise click.UsageError("this installation has no topologies beside it; name one with --topology")
        try:
            room = bench.rate_scenario(path, seconds, publishers, kbps)
        except (TopologyError, ScenarioError) as error:
            raise click.UsageError(str(error)) from None
    if profile:
        click.echo(bench.where_time_goes(room or loaded[0]))
        return
    if room is not None:
        _say("the whole stack")
        stack = bench.stack_rate(room, seconds, rounds)
        _say("the network alone")
        network = measure_network(packets, hosts=20)
    for one in loaded:
        _say(one.name)
        costs.append(bench.scenario_cost(one, seed, rounds))
    table = packet_report.simulate_table(stack, network, costs)
    metrics = {
        **packet_report.as_metrics("scenarios", costs),
        **packet_report.as_metrics("stack", [stack] if stack else []),
        **packet_report.as_metrics("network", [network] if network else []),
    }
    _hand_out(_report("Simulations", table, metrics), as_json, summary)


COMMANDS = (edge, hop, idle, join, simulate)
