"""``relaymesh bench``: measurements in virtual time that anybody can repeat from their seed."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Measure the parts of RelayMesh, in virtual time, from a seed."""


def _numbers(_: click.Context, __: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter("give numbers with commas between them") from None


@command.command("link")
@click.option("--quick", is_flag=True, help="A small grid, a few seconds.")
@click.option("--seconds", default=20.0, show_default=True, type=click.FloatRange(1, 3600), help="Per cell.")
@click.option("--seed", default=1, show_default=True)
@click.option("--rtt", "rtts", callback=_numbers, metavar="MS,…", help="Only these RTTs, ms.")
@click.option("--loss", "losses", callback=_numbers, metavar="%,…", help="Only these losses, per cent.")
@click.option(
    "--burst", "bursts", callback=_numbers, metavar="N,…", help="Only these mean bursts; 1: random."
)
@click.option("--policy", "policies", multiple=True, help="Only this policy; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of the table.")
@click.option(
    "--html", "page_path", type=click.Path(dir_okay=False, path_type=Path), help="Write plots here."
)
def link(
    quick: bool,
    seconds: float,
    seed: int,
    rtts: tuple[float, ...] | None,
    losses: tuple[float, ...] | None,
    bursts: tuple[float, ...] | None,
    policies: tuple[str, ...],
    as_json: bool,
    page_path: Path | None,
) -> None:
    """How the relay link repairs loss: RTT × loss × bursts × policy.

    Residual loss, added delay, overhead and CPU of each cell. The whole grid takes
    about ten minutes of CPU.
    """
    from relaymesh.bench import link as bench
    from relaymesh.bench import report

    cells = [
        cell
        for cell in bench.grid(quick=quick, seconds=seconds, seed=seed)
        if (rtts is None or cell.rtt_ms in rtts)
        and (losses is None or round(cell.loss * 100, 6) in losses)
        and (bursts is None or cell.burst in bursts or not cell.loss)
        and (not policies or cell.policy in policies)
    ]
    if not cells:
        raise click.UsageError(
            f"no cell is left of RTT {bench.RTTS_MS}, loss {bench.LOSSES}, burst {bench.BURSTS}, "
            f"policy {bench.POLICY_NAMES}"
        )
    results = []
    if not as_json:
        click.echo(report.table([]))
    for cell in cells:
        results.append(bench.run(cell))
        if not as_json:
            click.echo(report.line(results[-1]))
    if as_json:
        click.echo(report.to_json(results))
    if page_path is not None:
        page_path.write_text(report.page(results), encoding="utf-8")
