"""Shared parts of the commands that run scenarios: their options, and the report of the runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

from relaymesh.netsim.batch import Done
from relaymesh.netsim.result import Result

GOOD = {"passed", "expected-fail", "unexpected-pass"}
MAX_SEEDS = 100_000
Command: TypeAlias = Callable[..., Any]


def parse_pairs(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``KEY=VALUE`` options as a mapping. Raises ``click.BadParameter``."""
    pairs = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        pairs[key] = text
    return pairs


def parse_seeds(_: click.Context, __: click.Parameter, value: str | None) -> list[int] | None:
    """``A..B`` as the seeds from A to B. Raises ``click.BadParameter``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", value)
    if found is None or int(found[1]) > int(found[2]):
        raise click.BadParameter(f"{value!r} is not A..B with A up to B")
    if int(found[2]) - int(found[1]) >= MAX_SEEDS:
        raise click.BadParameter(f"more than {MAX_SEEDS} seeds")
    return list(range(int(found[1]), int(found[2]) + 1))


def parse_comparison(
    _: click.Context, __: click.Parameter, value: str | None
) -> tuple[str, list[str]] | None:
    """``KEY=V1,V2`` as the key and its values. Raises ``click.BadParameter``."""
    if value is None:
        return None
    key, equals, text = value.partition("=")
    if not key or not equals or "," not in text:
        raise click.BadParameter(f"{value!r} is not KEY=VALUE,VALUE,…")
    return key, text.split(",")


def numbers_of(seed: int | None, seeds: list[int] | None) -> list[int | None]:
    """The seeds to run with; None: the scenario's own. Raises ``click.UsageError``."""
    if seed is not None and seeds is not None:
        raise click.UsageError("give --seed or --seeds, not both")
    return list(seeds) if seeds is not None else [seed]


def which_runs(function: Command) -> Command:
    """The scenarios, and what is run of them: *scenarios, seed, seeds, overrides, compare*."""
    return _with(
        function,
        click.argument("scenarios", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)),
        click.option("--seed", type=click.IntRange(0), help="The seed, instead of the scenario's own."),
        click.option(
            "--seeds", callback=parse_seeds, metavar="A..B", help="One run with each of these seeds."
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            callback=parse_pairs,
            metavar="KEY=VALUE",
            help="Change a value of the file, by its dotted path: faults[0].at_s=12. Repeatable.",
        ),
        click.option(
            "--compare",
            callback=parse_comparison,
            metavar="KEY=V1,V2",
            help="Runs with each of these values.",
        ),
    )


def what_is_told(function: Command) -> Command:
    """Options for the report of the runs, and what counts as failed: *as_json, report, summary, strict*."""
    return _with(
        function,
        click.option(
            "--json", "as_json", is_flag=True, help="Print the result as JSON; a list, if there are several."
        ),
        click.option(
            "--report",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write an HTML page with everything, which opens offline.",
        ),
        click.option(
            "--summary",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write a Markdown table: each bound, its median and worst over the seeds, how many held.",
        ),
        click.option(
            "--strict", is_flag=True, help="Known failures fail, and so do those that no longer fail."
        ),
    )


def _with(function: Command, *decorators: Callable[[Command], Command]) -> Command:
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def scenario_files(paths: tuple[Path, ...]) -> list[Path]:
    """The files among *paths*, and those in the folders. Raises ``click.UsageError`` for an empty folder."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not inside:
            raise click.UsageError(f"{path}: no scenario (*.yaml) in it")
        found += inside
    return found


def tell(one: Done) -> None:
    """A run in a few lines."""
    if one.result is None:
        click.echo(f"{one.job.path.stem}  seed {one.job.seed}: ended without a result\n{one.error}")
        return
    result = one.result
    variant = " ".join(f"{key}={value}" for key, value in result.overrides.items())
    click.echo(
        " ".join(filter(None, (f"{result.scenario}  seed {result.seed}", variant))) + f"  {result.outcome}"
    )
    if result.invalid_reason:
        click.echo(f"  {result.invalid_reason}")
    for one_check in result.checks:
        mark = "ok  " if one_check.passed else "fail"
        click.echo(f"  {mark}  {one_check.name} {_number(one_check.value)}  ({one_check.bound})")
    if result.outcome == "expected-fail":
        click.echo(f"  known: {result.expected_fail}")


def _number(value: float | None) -> str:
    return "was not measured" if value is None else f"{value:.6g}"


def is_good(one: Done, strict: bool) -> bool:
    """Check that the run is no reason to fail; with *strict* it must have passed."""
    if one.result is None:
        return False
    return one.result.outcome == "passed" if strict else one.result.outcome in GOOD


def print_json(results: list[Result], *, several: bool) -> None:
    """The results as JSON: one object, or a list of *several*."""
    if several:
        click.echo(json.dumps([json.loads(result.to_json()) for result in results]))
    elif results:
        click.echo(results[0].to_json())


def save_report(results: list[Result], path: Path) -> None:
    """Write the page of *results*, and say so. Raises ``click.ClickException``."""
    from relaymesh.netsim.report import write_report

    try:
        write_report(results, path)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    click.echo(f"report: {path}", err=True)


def save_summary(results: list[Result], path: Path) -> None:
    """Write the table of *results*, and say so. Raises ``click.ClickException``."""
    from relaymesh.netsim.campaign import summary

    try:
        path.write_text(summary(results), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    click.echo(f"summary: {path}", err=True)
