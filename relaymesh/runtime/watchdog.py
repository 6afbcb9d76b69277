"""Ends a process that hangs, so that whoever runs it starts it again.

A loop that never comes back, in trio's thread or in another that holds what trio's waits for, stops
everything that could notice it. So a thread of C's (:mod:`faulthandler`) waits for a sign of life;
without one it writes where all threads are to stderr, and ends the process.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Callable

import trio

LIMIT_S = 60.0  # without a sign of life; a machine that stood still for seconds must not lose its sessions
SIGN_S = 5.0  # between two of them


async def keep_watch(busy_s: Callable[[], float]) -> None:
    """Never returns; cancel it. *busy_s*: for how long another thread has been at what it does."""
    try:
        while True:
            if busy_s() < LIMIT_S:
                faulthandler.dump_traceback_later(LIMIT_S, exit=True)
            await trio.sleep(SIGN_S)
    finally:
        faulthandler.cancel_dump_traceback_later()
