"""Who watches which keys, and what they have not read yet. Bounded by the number of keys.

In: changes. Out: the same, to every watcher whose prefix fits. What a slow
watcher has not read of a key is replaced by what is newer, so that a watcher
waits for at most one change of each key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import trio

from relaymesh.controller.store.interface import Change, Changes


class Watcher:
    """One reader and what waits for it."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._waiting: dict[str, Change] = {}
        self._seen: dict[str, int] = {}  # by key: the newest revision taken in
        self._some = trio.Event()

    def offer(self, change: Change) -> None:
        """Take *change* in, unless it does not fit or is older than what is known of its key."""
        if not change.key.startswith(self.prefix) or self._seen.get(change.key, 0) >= change.revision:
            return
        self._seen[change.key] = change.revision
        self._waiting.pop(change.key, None)
        self._waiting[change.key] = change
        self._some.set()

    async def pump(self, send: trio.MemorySendChannel[Change]) -> None:
        """Hand over what waits; never returns."""
        while True:
            await self._some.wait()
            self._some = trio.Event()
            while self._waiting:
                key = next(iter(self._waiting))
                await send.send(self._waiting.pop(key))


class Watchers:
    """All watchers of one store."""

    def __init__(self) -> None:
        self._all: set[Watcher] = set()

    def notify(self, change: Change) -> None:
        """A key was changed."""
        for watcher in self._all:
            watcher.offer(change)

    @asynccontextmanager
    async def watching(
        self, prefix: str, load: Callable[[], Awaitable[Iterable[Change]]]
    ) -> AsyncIterator[Changes]:
        """A channel of what *load* returns, in its order, and the changes since it was called."""
        watcher = Watcher(prefix)
        send, receive = trio.open_memory_channel[Change](0)
        self._all.add(watcher)
        try:
            for change in await load():
                watcher.offer(change)
            async with trio.open_nursery() as nursery, receive:
                nursery.start_soon(watcher.pump, send)
                yield receive
                nursery.cancel_scope.cancel()
        finally:
            self._all.discard(watcher)
