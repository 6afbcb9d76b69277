"""Durable state of a controller: the numbers that a successor must not use again.

In: the store, and what the core says of itself. Out: the same, after a
restart or for the next leader. Writing is off the hot path: at most one round
each :data:`WRITE_EVERY_S`, of what changed. Each value carries the epoch of its writer and is
written by compare-and-set, so that a leader of before cannot overwrite its successor's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import msgpack
import trio

from relaymesh.controller.store import NEW, Conflict, Store, StoreDown
from relaymesh.controller.store.interface import MAX_VALUE_BYTES
from relaymesh.runtime.log import get_logger

PREFIX = "mesh/"  # of the keys; the rest is the field's name
WRITE_EVERY_S = 0.5
RETRY_S = 0.25
# Plans a leader may have made that the store has not heard of, also one that
# was stopped in the middle of a step and goes on after its lease.
GENERATION_GAP = 1000
# Key epochs a leader may have begun on one link that the store has not heard of.
KEY_EPOCH_GAP = 64

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything that is stored beside the lease. Each field is a key of its own."""

    generation: int = 0  # the highest given to a plan
    indexes: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))  # by name
    # (lower index, higher index, epoch) of each link's newest keys; never the keys
    key_epochs: tuple[tuple[int, int, int], ...] = ()
    topology: str = ""  # in force, where it was changed while running


KEYS = {f.name: PREFIX + f.name.replace("_", "-") for f in fields(Remembered)}


def encode_value(epoch: int, value: object) -> bytes:
    """One field of :class:`Remembered`, written by the leader of *epoch*."""
    packed: bytes = msgpack.packb([epoch, dict(value) if isinstance(value, Mapping) else value])
    return packed


def decode_value(name: str, data: bytes) -> tuple[int, Any]:
    """(epoch of the writer, value) of the field *name*.

    Raises:
        ValueError: the data is not such a value.
    """
    try:
        epoch, value = msgpack.unpackb(data, use_list=False, strict_map_key=True)
    except Exception as error:  # msgpack's errors have no common base short of Exception
        raise ValueError(f"not msgpack: {type(error).__name__}") from None
    if type(epoch) is not int or not _fits(name, value):
        raise ValueError(f"this is no {name}")
    return epoch, value


def _fits(name: str, value: Any) -> bool:
    match name:
        case "generation":
            return type(value) is int and value >= 0
        case "indexes":
            return isinstance(value, dict) and all(
                type(key) is str and type(index) is int for key, index in value.items()
            )
        case "key_epochs":
            return isinstance(value, tuple) and all(
                isinstance(one, tuple) and len(one) == 3 and all(type(part) is int for part in one)
                for one in value
            )
    return type(value) is str


class Keeper:
    """Reads what is remembered at the beginning of a reign, and writes it during it."""

    def __init__(self, store: Store, epoch: int) -> None:
        self._store = store
        self._epoch = epoch
        self._revisions: dict[str, int] = dict.fromkeys(KEYS, NEW)
        self._written: dict[str, object] = {}
        self._changed = trio.Event()

    async def load(self) -> Remembered:
        """Load the state an earlier leader left.

        Raises:
            StoreDown: the store cannot be asked.
        """
        found: dict[str, Any] = {}
        for name, key in KEYS.items():
            entry = await self._store.get(key)
            if entry is None:
                continue
            self._revisions[name] = entry.revision
            try:
                _, found[name] = decode_value(name, entry.value)
            except ValueError as error:
                log.error("what is stored cannot be read, and is begun anew", key=key, why=str(error))
        return Remembered(**found)

    def poke(self) -> None:
        """Something may have changed."""
        self._changed.set()

    async def run(self, remembered: Callable[[], Remembered]) -> None:
        """Store what *remembered* returns, now and after each :meth:`poke`; never returns.

        The first round says that this is a new leader's: from then on nothing
        of an earlier one is taken. It is over when one of its values was overwritten.
        """
        while True:
            self._changed = trio.Event()
            try:
                await self._write(remembered())
            except Conflict as conflict:
                log.warning("another controller remembers for this mesh now", key=str(conflict))
                await trio.sleep_forever()
            except StoreDown:
                await trio.sleep(RETRY_S)
                continue
            await trio.sleep(WRITE_EVERY_S)
            await self._changed.wait()

    async def _write(self, remembered: Remembered) -> None:
        for name, key in KEYS.items():
            value = getattr(remembered, name)
            if name in self._written and self._written[name] == value:
                continue
            data = encode_value(self._epoch, value)
            if len(data) > MAX_VALUE_BYTES:
                log.warning("too much to remember", key=key, bytes=len(data))
            else:
                await self._set(name, key, data)
            self._written[name] = value

    async def _set(self, name: str, key: str, data: bytes) -> None:
        try:
            self._revisions[name] = await self._store.cas(key, data, self._revisions[name])
        except Conflict:
            entry = await self._store.get(key)
            if entry is None or not self._is_ours(name, entry.value):
                raise
            # A write of ours whose answer was lost.
            self._revisions[name] = await self._store.cas(key, data, entry.revision)

    def _is_ours(self, name: str, data: bytes) -> bool:
        try:
            return decode_value(name, data)[0] == self._epoch
        except ValueError:
            return False
