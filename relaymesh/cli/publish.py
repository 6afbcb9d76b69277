"""``relaymesh publish``: a headless publisher."""

from __future__ import annotations

import asyncio
import json

import click

from relaymesh.cli.client_token import token_option
from relaymesh.cli.param_type import ParamType
from relaymesh.client.run import Order, Report, publish
from relaymesh.client.stopping import run_until_stopped
from relaymesh.client.whip import SignallingError


class Size(ParamType[tuple[int, int]]):
    """``WIDTHxHEIGHT``, in pixels, both even (the codecs' colour planes are half as large)."""

    name = "WIDTHxHEIGHT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            width, height = (int(part) for part in str(value).lower().split("x"))
        except ValueError:
            self.fail(f"{value!r} is no size; write it like 640x360", param, ctx)
        if not (192 <= width <= 3840 and 64 <= height <= 2160) or width % 2 or height % 2:
            self.fail("a size is even and from 192x64 to 3840x2160", param, ctx)
        return width, height


@click.command("publish")
@click.argument("url")
@click.option("--codec", type=click.Choice(["VP8", "H264"]), default="VP8", show_default=True)
@click.option(
    "--size", type=Size(), default="640x360", show_default=True, help="Size of the picture, in pixels."
)
@click.option("--fps", type=click.IntRange(1, 60), default=25, show_default=True, help="Pictures per second.")
@click.option("--for", "seconds", type=click.FloatRange(min=0.1), help="Stop after this many seconds.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object per line; the last is the summary."
)
@click.option(
    "--report-every", type=click.FloatRange(min=0.05), help="With --json: a report each so many seconds."
)
@token_option
@click.option("--retry", is_flag=True, help="Try again when refused or disconnected.")
def command(
    url: str,
    codec: str,
    size: tuple[int, int],
    fps: int,
    seconds: float | None,
    as_json: bool,
    report_every: float | None,
    retry: bool,
    token: str | None,
) -> None:
    """Publish a moving picture with a clock in it, and a tone, to URL by WHIP.

    URL is http://HOST:PORT/whip/ROOM/PARTICIPANT of any node. Everything is
    encoded for real, headless. Watch it with `relaymesh play`, which reads the
    clock back, or in a browser. Ctrl-C stops and leaves the room.

    \b
      relaymesh publish http://127.0.0.1:8081/whip/demo/clock
    """
    order = Order(url, seconds, codec, report_every, retry, token)

    def tell(report: Report) -> None:
        if as_json:
            click.echo(json.dumps(report))
        elif report["event"] == "connected":
            click.echo(f"publishing {codec} {size[0]}x{size[1]} at {fps} fps to {url}", err=True)

    async def main(stop: asyncio.Event) -> Report:
        return await publish(order, stop, tell, size=size, fps=fps)

    try:
        summary = run_until_stopped(main)
    except (SignallingError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(summary))
    else:
        click.echo(f"published {summary['frames']} pictures in {summary['seconds']} s")
