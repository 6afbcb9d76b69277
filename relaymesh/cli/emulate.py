"""``relaymesh emulate``: scenarios with real processes, and commands inside them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from relaymesh.cli.scenario_runs import (
    is_good,
    numbers_of,
    print_json,
    save_report,
    save_summary,
    scenario_files,
    tell,
    what_is_told,
    which_runs,
)
from relaymesh.netsim.batch import Done, Job, make_jobs
from relaymesh.netsim.emulate.cleanup import running, state_root
from relaymesh.netsim.emulate.netem import TUN, choose_backend
from relaymesh.netsim.emulate.runner import (
    EmulationFailed,
    Place,
    Stopped,
    cannot_emulate,
    emulate,
    prepare,
    replay,
)
from relaymesh.netsim.emulate.visit import CannotVisit, find_run, visit
from relaymesh.netsim.scenario.loader import ScenarioError, load_scenario
from relaymesh.netsim.scenario.resolved import Scenario

RUN = "run"


class RunByDefault(click.Group):
    """A group whose first word may be left out: what is none of its commands is something to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [RUN, *args]
        return super().parse_args(ctx, args)


@click.group("emulate", cls=RunByDefault)
def command() -> None:
    """Run scenarios in real time: real processes in network namespaces, joined by emulated links.

    \b
      relaymesh emulate simulations/two-hops.yaml          run a scenario
      relaymesh emulate simulations/two-hops.yaml --help   … and what else can be said
      relaymesh emulate exec frankfurt -- curl …           run a command inside a region
      relaymesh emulate list                               what runs now

    No rights are needed where user namespaces are allowed. As root the emulator
    goes before everything else on the machine, and is more exact.
    """


@command.command(RUN, short_help="Run scenarios (the word may be left out).")
@which_runs
@click.option(
    "--backend",
    type=click.Choice(["tun", "netem"]),
    default=TUN,
    show_default=True,
    help="What delays the packets: our emulator, or the kernel's netem where there is one.",
)
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the logs of all processes in this folder, a folder for each run.",
)
@what_is_told
def run(
    scenarios: tuple[Path, ...],
    seed: int | None,
    seeds: list[int] | None,
    overrides: dict[str, str],
    compare: tuple[str, list[str]] | None,
    backend: str,
    as_json: bool,
    report: Path | None,
    summary: Path | None,
    logs: Path | None,
    strict: bool,
) -> None:
    """Run scenarios with real processes, one after the other.

    SCENARIOS are files, or folders of *.yaml files. A run measures how late the
    emulated packets were; more than 1 ms at the 99th percentile, and it is
    invalid, because this machine cannot carry the scenario. The kernel's netem does
    not tell how late it is: there, the nodes' round trips are compared with the links.

    Exit code: 0 all held, 1 something did not (or a run is invalid), 2 a scenario
    is wrong, or this machine does not allow emulation.

    \b
      relaymesh emulate simulations/two-hops.yaml
      relaymesh emulate simulations/node-crash.yaml --set duration_s=30 --report report.html
      relaymesh emulate simulations/link-death.yaml --seeds 1..20 --summary summary.md
    """
    todo = make_jobs(scenario_files(scenarios), overrides, numbers_of(seed, seeds), compare)
    read = _read_all(todo, backend)
    place = _prepared(backend)
    done: list[Done] = []
    for job, scenario in zip(todo, read, strict=True):
        one = _run_one(job, scenario, place, logs=logs, backend=backend)
        done.append(one)
        if not as_json:
            tell(one)
    results = [one.result for one in done if one.result is not None]
    if as_json:
        print_json(results, several=len(todo) > 1)
    if report is not None and results:
        save_report(results, report)
    if summary is not None and results:
        save_summary(results, summary)
    failed = [one for one in done if not is_good(one, strict)]
    for one in failed:
        click.echo(f"failed; to repeat it: {one.replay}", err=True)
    sys.exit(1 if failed else 0)


def _read_all(todo: list[Job], backend: str) -> list[Scenario]:
    """Every scenario, read before the first runs."""
    read: list[Scenario] = []
    wrong: list[str] = []
    for job in todo:
        try:
            scenario = load_scenario(job.path, dict(job.overrides))
            wrong += cannot_emulate(scenario, backend)
            read.append(scenario)
        except ScenarioError as error:
            wrong.append(str(error))
    if wrong:
        click.echo("\n".join(dict.fromkeys(wrong)), err=True)
        sys.exit(2)
    return read


def _prepared(backend: str) -> Place:
    reason = choose_backend(backend)
    if reason is not None:
        click.echo(f"--backend {backend}: {reason}", err=True)
        sys.exit(2)
    try:
        place = prepare()
    except EmulationFailed as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    for line in place.removed:
        click.echo(line, err=True)
    return place


def _run_one(job: Job, scenario: Scenario, place: Place, *, logs: Path | None, backend: str) -> Done:
    seed = scenario.seed if job.seed is None else job.seed
    again = replay(scenario, seed, backend)
    try:
        with _progress(scenario.duration_s) as progress:
            result = emulate(scenario, seed, place, progress=progress, logs=logs, backend=backend)
    except EmulationFailed as error:
        return Done(job, None, str(error), again)
    except Stopped as stopped:
        click.echo(str(stopped), err=True)
        sys.exit(1)
    return Done(job, result, replay=again)


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[float, str], None]]:
    """A bar over the run's seconds, where people look."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda now, what: None
        return
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("s")]
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("starting", total=round(seconds))

        def show(now: float, what: str) -> None:
            bar.update(task, completed=round(max(0.0, now)), description=what, refresh=True)

        yield show


@command.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("region")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGS]…")
def execute(region: str, arguments: tuple[str, ...]) -> None:
    """Run any command inside REGION of the emulation that runs.

    REGION is a region (the command is then a client there, an access link away
    from its nodes), node:NAME, or controller. Environment variables tell it where
    the nodes are: RELAYMESH_URL_<NODE>.

    \b
      relaymesh emulate exec tokyo -- sh -c 'curl -s $RELAYMESH_URL_TOKYO/status'
      relaymesh emulate exec tokyo -- chromium --no-sandbox http://10.77.1.3:7700/play.html
    """
    try:
        visit(find_run(state_root()), region, arguments)
    except CannotVisit as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{arguments[0]}: {error.strerror}") from None


@command.command("list")
def list_runs() -> None:
    """Show the emulations that run: regions, nodes, and where the nodes are."""
    found = running(state_root())
    if not found:
        click.echo("no emulation is running")
    for state in found:
        click.echo(f"{state.scenario}  (process {state.runner.number}, logs in {state.folder})")
        for name, url in state.urls.items():
            click.echo(f"  {name}  {url}")
