"""Publishing and playing for a while: what ``relaymesh publish`` and ``relaymesh play`` do.

In: an order, an event that says stop, and a place for progress. Out: a summary of plain values. With
``retry`` a refused or lost connection is tried again until the time is over; without it, a refusal is the
caller's error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av import VideoFrame

from relaymesh.client.measure import Watch
from relaymesh.client.participant import Player, Publisher
from relaymesh.client.sources import BeepAudio, ClockVideo
from relaymesh.client.whip import SignallingError

Report = dict[str, object]
RETRY_AFTER = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Order:
    """Parameters of a run, and its length."""

    url: str
    seconds: float | None = None  # None = until told to stop
    codec: str | None = None
    report_every: float | None = None  # seconds between progress reports; None = none
    retry: bool = False
    token: str | None = field(default=None, repr=False)  # what lets one into the room


async def publish(
    order: Order,
    stop: asyncio.Event,
    tell: Callable[[Report], None],
    *,
    size: tuple[int, int] = (640, 360),
    fps: int = 25,
) -> Report:
    """Publish the clock picture and the beep to ``order.url``; returns the summary.

    Raises:
        SignallingError: refused or lost, and not told to try again.
        ValueError: the URL, the codec or the token is none.
    """
    video, audio = ClockVideo(*size, fps), BeepAudio()
    started = time.monotonic()
    state = "new"

    def report(event: str) -> Report:
        return {
            "event": event,
            "at_ms": int(time.time() * 1000),
            "url": order.url,
            "codec": order.codec or "VP8",
            "state": state,
            "seconds": round(time.monotonic() - started, 2),
            "frames": video.frames,
            "audio_frames": audio.frames,
        }

    async def once() -> None:
        nonlocal state
        codec = order.codec or "VP8"
        async with Publisher(
            order.url, video=video, audio=audio, codec=codec, token=order.token
        ) as publisher:
            state = "connected"
            tell(report("connected"))
            await publisher.failed.wait()
        state = "lost"

    await _repeat(once, order, stop, lambda: tell(report("report")))
    return report("summary")


async def play(
    order: Order,
    stop: asyncio.Event,
    tell: Callable[[Report], None],
    *,
    save_frame: Path | None = None,
) -> Report:
    """Play ``order.url`` and count what arrives; returns the summary, with the fields of ``Seen``.

    Raises:
        SignallingError: refused or lost, and not told to try again.
        ValueError: the URL, the codec or the token is none.
    """
    watch = Watch(time.monotonic())
    started = time.monotonic()
    state = "new"
    last_frame: VideoFrame | None = None

    def report(event: str) -> Report:
        head: Report = {
            "event": event,
            "at_ms": int(time.time() * 1000),
            "url": order.url,
            "state": state,
            "seconds": round(time.monotonic() - started, 2),
        }
        return head | watch.seen().as_dict()

    def keep(frame: VideoFrame) -> None:
        nonlocal last_frame
        last_frame = frame

    async def once() -> None:
        nonlocal state
        async with Player(
            order.url, codec=order.codec, watch=watch, on_picture=keep, token=order.token
        ) as player:
            state = "connected"
            tell(report("connected"))
            await _either(player.failed, player.ended)
        state = "lost"

    try:
        await _repeat(once, order, stop, lambda: tell(report("report")))
    finally:
        if save_frame and last_frame:
            save_frame.write_bytes(png(last_frame))
    return report("summary")


def png(frame: VideoFrame) -> bytes:
    """*frame* as a PNG file."""
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "rgb24"
    codec.time_base = frame.time_base or Fraction(1, 90_000)  # a picture has no duration
    picture = frame.reformat(format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(picture), *codec.encode(None)])


async def _repeat(
    once: Callable[[], Awaitable[None]], order: Order, stop: asyncio.Event, progress: Callable[[], None]
) -> None:
    """Run *once* (again and again, if ordered) until *stop*, or until the time is over."""
    async with _reporting(order.report_every, progress):
        work = asyncio.create_task(_attempts(once, order))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, timeout=order.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            finished = work.done()
            if not finished:
                work.cancel()  # leaves the session: the server gets its DELETE
            await asyncio.gather(work, stopped, return_exceptions=True)
        if finished:
            work.result()


async def _attempts(once: Callable[[], Awaitable[None]], order: Order) -> None:
    while True:
        try:
            await once()
            if not order.retry:
                raise SignallingError("the connection ended: the stream is over, or the node is gone")
        except SignallingError:
            if not order.retry:
                raise
        await asyncio.sleep(RETRY_AFTER)


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@asynccontextmanager
async def _reporting(every: float | None, progress: Callable[[], None]) -> AsyncIterator[None]:
    if every is None:
        yield
        return

    async def report() -> None:
        while True:
            await asyncio.sleep(every)
            progress()

    task = asyncio.create_task(report())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
