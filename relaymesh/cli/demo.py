"""``relaymesh demo``: a whole mesh on this machine."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from relaymesh.demo.app import DemoFailed, Options, run_demo

if find_spec("aiortc") is None:  # its publisher and player need it: say so before anything starts
    raise ModuleNotFoundError("No module named 'aiortc'", name="aiortc")


@click.command("demo")
@click.option("--for", "seconds", type=click.FloatRange(min=1), help="End by itself after this many seconds.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print only the verdict, as JSON; progress goes to stderr."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Where the page is served."
)
@click.option("--no-page", is_flag=True, help="Serve no page.")
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the logs of all processes in this folder.",
)
def command(seconds: float | None, as_json: bool, port: int, no_page: bool, logs: Path | None) -> None:
    """Run a whole mesh on this machine: a controller and three regions.

    Everything is a real process on loopback; the links between the regions are
    delayed as they are between Dallas, Washington and London. A headless
    participant publishes a clock at Dallas, another plays it at London. Open
    http://localhost:8080 to watch from any region, publish a camera, see the
    path and cut a link. Ctrl-C stops it all.

    With --for it ends by itself, checks that media really crossed the mesh, and
    exits with 0 only then.

    \b
      relaymesh demo
      relaymesh demo --for 20 --json
    """
    try:
        passed = run_demo(Options(seconds, as_json, None if no_page else port, logs))
    except DemoFailed as error:
        raise click.ClickException(str(error)) from None
    sys.exit(0 if passed else 1)
