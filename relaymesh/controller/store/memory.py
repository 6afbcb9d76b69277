"""A store in memory, for tests and simulations: what all controllers of one process share.

It has the face of a real one, and its faults: while :attr:`MemoryEngine.down`
is set, every call fails as one to a server that is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from relaymesh.controller.store.interface import (
    NEW,
    Change,
    Changes,
    Conflict,
    Entry,
    StoreDown,
    check_key,
    check_value,
)
from relaymesh.controller.store.watching import Watchers


class MemoryEngine:
    """The keys, shared by those who open a :class:`MemoryStore` on it."""

    def __init__(self, delay: float = 0.0) -> None:
        """*delay*: what a call takes, seconds."""
        self.delay = delay
        self.down = False
        self.entries: dict[str, Entry] = {}
        self.revision = 0
        self.watchers = Watchers()

    def set(self, key: str, value: bytes) -> int:
        self.revision += 1
        self.entries[key] = Entry(key, value, self.revision)
        self.watchers.notify(Change(key, value, self.revision))
        return self.revision

    def remove(self, key: str) -> None:
        if self.entries.pop(key, None) is not None:
            self.revision += 1
            self.watchers.notify(Change(key, None, self.revision))


class MemoryStore:
    """One controller's view of a :class:`MemoryEngine`; :attr:`cut` takes it from this one only."""

    exclusive = False

    def __init__(self, engine: MemoryEngine | None = None) -> None:
        self.engine = engine or MemoryEngine()
        self.cut = False

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        await self._reach()
        return self.engine.entries.get(key)

    async def put(self, key: str, value: bytes) -> int:
        check_key(key)
        check_value(value)
        await self._reach()
        return self.engine.set(key, value)

    async def cas(self, key: str, value: bytes, revision: int) -> int:
        check_key(key)
        check_value(value)
        await self._reach()
        entry = self.engine.entries.get(key)
        if (NEW if entry is None else entry.revision) != revision:
            raise Conflict(key)
        return self.engine.set(key, value)

    async def delete(self, key: str) -> None:
        check_key(key)
        await self._reach()
        self.engine.remove(key)

    @asynccontextmanager
    async def watch(self, prefix: str) -> AsyncIterator[Changes]:
        async with self.engine.watchers.watching(prefix, self._load) as changes:
            yield changes

    async def _load(self) -> list[Change]:
        await self._reach()
        entries = sorted(self.engine.entries.values(), key=lambda entry: entry.revision)
        return [Change(entry.key, entry.value, entry.revision) for entry in entries]

    async def _reach(self) -> None:
        await trio.sleep(self.engine.delay)
        if self.engine.down or self.cut:
            raise StoreDown("the store does not answer")
