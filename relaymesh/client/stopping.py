"""Runs a coroutine on an event loop until it is done, or until Ctrl-C or SIGTERM asks it to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def run_until_stopped(main: Callable[[asyncio.Event], Awaitable[T]]) -> T:
    """Run *main* with an event that the first SIGINT or SIGTERM sets, and return its result.

    A second one ends it at once.
    """

    async def run() -> T:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def asked() -> None:
            stop.set()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asked)
        return await main(stop)

    return asyncio.run(run())
