"""One task that calls a sans-IO core when its next timeout is due.

The core says when (``next_timeout()``); whoever changed the core may have
moved that earlier, and calls :meth:`Timer.poke`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio


class Timer:
    """Calls ``on_timeout(now)`` whenever ``next_timeout()`` has come."""

    def __init__(self, next_timeout: Callable[[], float | None], on_timeout: Callable[[float], None]) -> None:
        self._next_timeout = next_timeout
        self._on_timeout = on_timeout
        self._scope: trio.CancelScope | None = None

    def poke(self) -> None:
        """The next timeout may be earlier than when last asked."""
        if self._scope is not None:
            deadline = self._next_timeout()
            if deadline is not None and deadline < self._scope.deadline:
                self._scope.deadline = deadline

    async def run(self) -> None:
        """Never returns; cancel it."""
        while True:
            deadline = self._next_timeout()
            with trio.CancelScope(deadline=inf if deadline is None else deadline) as self._scope:
                await trio.sleep_forever()
            self._scope = None  # what the core wants after this, the loop asks anyway
            # A deadline in the past still takes one checkpoint above, so a
            # core that asks for "now" for ever cannot starve the other tasks.
            self._on_timeout(trio.current_time())
