"""Signals, errors of tasks and garbage collection, as every long-running process handles them."""

from __future__ import annotations

import gc
import signal

import trio

_RARELY = 100  # collections of the middle generation, each of 7,000 new objects, for one of all


async def wait_for_stop() -> str:
    """Wait for SIGTERM or SIGINT; the name of the one that came."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            return signal.Signals(number).name
    raise AssertionError("the signal receiver ended by itself")


def innermost(error: BaseException) -> BaseException:
    """The first exception that is no group, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def settle_heap() -> None:
    """After start-up: what is alive now stays alive, so the collector need not walk it again.

    A full collection over the imports of a node takes tens of milliseconds,
    which a packet would wait for. So does one over what a controller learns
    of a thousand nodes: from here on there is one for every 700,000 new objects
    that stay, instead of whenever their number has grown by a quarter. Young
    cycles are found as soon as before.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _RARELY)
