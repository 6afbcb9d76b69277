"""``relaymesh play``: a headless player that says what arrived."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from relaymesh.cli.client_token import token_option
from relaymesh.client.run import Order, Report, play
from relaymesh.client.stopping import run_until_stopped
from relaymesh.client.whip import SignallingError


@click.command("play")
@click.argument("url")
@click.option("--codec", type=click.Choice(["VP8", "H264"]), help="Prefer this video codec.")
@click.option("--for", "seconds", type=click.FloatRange(min=0.1), help="Stop after this many seconds.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line; the last is the summary."
)
@click.option(
    "--report-every", type=click.FloatRange(min=0.05), help="With --json: a report each so many seconds."
)
@click.option(
    "--save-frame",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the last decoded picture to this PNG file.",
)
@token_option
@click.option("--retry", is_flag=True, help="Try again when refused or disconnected.")
def command(
    url: str,
    codec: str | None,
    seconds: float | None,
    as_json: bool,
    report_every: float | None,
    save_frame: Path | None,
    retry: bool,
    token: str | None,
) -> None:
    """Play URL by WHEP, headless, and say what arrived.

    URL is http://HOST:PORT/whep/ROOM/PARTICIPANT of any node. Pictures made by
    `relaymesh publish` carry a number and a clock: the summary counts lost and
    repeated ones, and on one host says how long each took. Ctrl-C stops and
    leaves. Exit code 1 when no picture arrived.

    \b
      relaymesh play http://127.0.0.1:8083/whep/demo/clock --for 10
    """
    order = Order(url, seconds, codec, report_every, retry, token)

    def tell(report: Report) -> None:
        if as_json:
            click.echo(json.dumps(report))
        elif report["event"] == "connected":
            click.echo(f"playing {url}", err=True)

    async def main(stop: asyncio.Event) -> Report:
        return await play(order, stop, tell, save_frame=save_frame)

    try:
        summary = run_until_stopped(main)
    except (SignallingError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(summary) if as_json else "\n".join(_lines(summary)))
    if not summary["frames_decoded"]:
        sys.exit(1)


def _lines(summary: dict[str, Any]) -> list[str]:
    lines = [
        f"video    {summary['frames_decoded']} pictures in {summary['seconds']} s",
        "         {frames_lost} lost, {frames_repeated} repeated, {frames_unreadable} without a clock".format(
            **summary
        ),
        f"audio    {summary['audio_frames']} frames",
    ]
    if summary["first_frame_ms"] is not None:
        lines.append(f"first    picture after {summary['first_frame_ms']:.0f} ms")
        longest_ms = summary["longest_gap_ms"]
        lines.append(f"freezes  {summary['gaps_over_200ms']} gaps over 200 ms, longest {longest_ms:.0f} ms")
    if summary["latency"]:
        latency = summary["latency"]
        lines.append(
            f"latency  p50 {latency['p50_ms']:.0f} ms, p95 {latency['p95_ms']:.0f} ms,"
            f" from {latency['min_ms']:.0f} to {latency['max_ms']:.0f} ms"
        )
    return lines
