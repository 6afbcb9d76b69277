"""What a controller asks of a store: keys with revisions, compare-and-set, and watching.

In: keys and values (bytes). Out: entries with the revision of their last
change, or one of two errors. Revisions of a store only grow. Everything a
controller keeps there is small and rarely changed: who leads, the indexes of
nodes, the numbers that must never be used twice. Streams, links and sessions
are not among it: nodes announce them again.

A store knows nothing of what the values mean.
"""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import trio

MAX_KEY_CHARS = 128
MAX_VALUE_BYTES = 512 << 10  # a NATS server takes 1 MiB with all headers
NEW = 0  # the revision of a key that does not exist
# What every backend can have as a key: levels with "/" between.
_KEY = re.compile(r"[A-Za-z0-9_=-]+(?:[./][A-Za-z0-9_=-]+)*")


class StoreDown(Exception):
    """The store cannot be asked now, or did not answer in time: what was written may be there or not."""


class Conflict(Exception):
    """The key is not at the revision that was named; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that exists."""

    key: str
    value: bytes
    revision: int  # of its last change; greater than every earlier one of the store


@dataclass(frozen=True, slots=True)
class Change:
    """A key was set, or deleted (``value`` is None)."""

    key: str
    value: bytes | None
    revision: int


Changes: TypeAlias = trio.MemoryReceiveChannel[Change]


class Store(Protocol):
    """One connection to a store. Every call may raise :class:`StoreDown`, and takes bounded time."""

    @property
    def exclusive(self) -> bool:
        """Whether nobody else can have this store open, so that whoever has it may lead."""

    async def get(self, key: str) -> Entry | None:
        """The key as it is now; None: it does not exist."""

    async def put(self, key: str, value: bytes) -> int:
        """Set the key, whatever it was; its new revision."""

    async def cas(self, key: str, value: bytes, revision: int) -> int:
        """Set the key if it is at *revision* (:data:`NEW`: if it does not exist); its new revision.

        Raises:
            Conflict: it is at another.
        """

    async def delete(self, key: str) -> None:
        """Remove the key; nothing if there is none."""

    def watch(self, prefix: str) -> AbstractAsyncContextManager[Changes]:
        """All keys that begin with *prefix* as they are, then their changes, in order of revision.

        Who falls behind may miss values of a key that was changed again, but
        never the last. After an outage the same holds.
        """


def check_key(key: str) -> str:
    """*key*, if it is one.

    Raises:
        ValueError: the caller's fault.
    """
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key")
    return key


def check_value(value: bytes) -> bytes:
    """*value*, if it is short enough.

    Raises:
        ValueError: the caller's fault.
    """
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"a value of {len(value)} bytes; a store takes {MAX_VALUE_BYTES}")
    return value
