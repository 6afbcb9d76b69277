"""The embedded store: one SQLite file, for one controller.

The file is locked for as long as it is open, so whoever has it may lead. All
statements run in one worker thread, one after the other: a disk that takes its
time delays what is being stored and nothing else. What was acknowledged is on
the disk (``synchronous=FULL``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

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

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS last (revision INTEGER NOT NULL);
INSERT INTO last SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM last);
"""


class SqliteStore:
    """Made by :func:`open_sqlite`."""

    exclusive = True

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._watchers = Watchers()

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        return await self._run(lambda: self._read(key))

    async def put(self, key: str, value: bytes) -> int:
        check_key(key)
        check_value(value)
        return self._told(key, value, await self._run(lambda: self._write(key, value, None)))

    async def cas(self, key: str, value: bytes, revision: int) -> int:
        check_key(key)
        check_value(value)
        return self._told(key, value, await self._run(lambda: self._write(key, value, revision)))

    async def delete(self, key: str) -> None:
        check_key(key)
        revision = await self._run(lambda: self._remove(key))
        if revision:
            self._told(key, None, revision)

    @asynccontextmanager
    async def watch(self, prefix: str) -> AsyncIterator[Changes]:
        async with self._watchers.watching(prefix, lambda: self._run(self._read_all)) as changes:
            yield changes

    def _told(self, key: str, value: bytes | None, revision: int) -> int:
        self._watchers.notify(Change(key, value, revision))
        return revision

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._one_at_a_time)
        except sqlite3.Error as error:
            raise StoreDown(str(error)) from None

    # --- in the worker thread ------------------------------------------------------------------

    def _read(self, key: str) -> Entry | None:
        row = self._database.execute("SELECT value, revision FROM entries WHERE key = ?", (key,)).fetchone()
        return None if row is None else Entry(key, row[0], row[1])

    def _read_all(self) -> list[Change]:
        rows = self._database.execute("SELECT key, value, revision FROM entries ORDER BY revision")
        return [Change(*row) for row in rows]

    def _write(self, key: str, value: bytes, expected: int | None) -> int:
        with self._database:  # one transaction
            entry = self._read(key)
            if expected is not None and (NEW if entry is None else entry.revision) != expected:
                raise Conflict(key)
            revision = self._next_revision()
            self._database.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (key, value, revision))
        return revision

    def _remove(self, key: str) -> int:
        with self._database:
            if self._database.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount == 0:
                return 0
            return self._next_revision()

    def _next_revision(self) -> int:
        row = self._database.execute("UPDATE last SET revision = revision + 1 RETURNING revision").fetchone()
        revision: int = row[0]
        return revision


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[SqliteStore]:
    """The store in the file at *path*, made if there is none, and locked.

    Raises:
        StoreDown: it cannot be opened, is none, or another process has it.
    """
    try:
        database = await trio.to_thread.run_sync(_open, path)
    except sqlite3.Error as error:
        raise StoreDown(f"{path}: {error}") from None
    try:
        yield SqliteStore(database)
    finally:
        database.close()


def _open(path: Path) -> sqlite3.Connection:
    # Used by whichever worker thread is free, never by two at once.
    database = sqlite3.connect(path, timeout=0.5, check_same_thread=False)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_SCHEMA)
        with database:  # the first write takes the lock, and keeps it
            database.execute("UPDATE last SET revision = revision")
    except BaseException:
        database.close()
        raise
    return database
