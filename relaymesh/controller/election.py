"""Keeps a lease in a store: takes it when it may be taken, renews it, gives it back.

In: a store, a :class:`~relaymesh.controller.lease.Lease`, time. Out: calls of
``on_change`` whenever the role, the epoch, the time we lead until or the known leader
changed. One request is open at a time. A store that is down changes nothing but that a
leader lapses; nothing here touches the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import trio

from relaymesh.controller.lease import (
    LEASE_KEY,
    RENEW_S,
    Lease,
    LeaseRecord,
    RecordError,
    decode_record,
)
from relaymesh.controller.store import Conflict, Store, StoreDown
from relaymesh.runtime.log import get_logger

LOOK_S = 0.25  # how often a standby looks at the record; with jitter, so that two do not claim together
GIVE_BACK_TIMEOUT_S = 1.0

log = get_logger(__name__)


class Election:
    """One controller's candidacy."""

    def __init__(self, store: Store, lease: Lease, rng: Random, on_change: Callable[[], None]) -> None:
        self._store = store
        self._rng = rng
        self._on_change = on_change
        self.lease = lease

    async def run(self) -> None:
        """Look, claim, renew; never returns."""
        while True:
            before = self._told()
            try:
                if self.lease.role == "standby":
                    await self._stand_by()
                elif self._store.exclusive:
                    await trio.sleep_forever()
                else:
                    await self._renew(self.lease.renewal)
            except StoreDown as error:
                self.lease.handle_blind()
                log.debug("the store is down", why=str(error))
            self.lease.check(trio.current_time())
            if self._told() != before:
                self._on_change()
            pause = LOOK_S if self.lease.role == "standby" else RENEW_S
            await trio.sleep(pause * (0.75 + 0.5 * self._rng.random()))

    async def give_back(self) -> None:
        """Let another lead at once; ours is over, whether the store hears it or not."""
        with trio.move_on_after(GIVE_BACK_TIMEOUT_S):
            try:
                await self._renew(self.lease.farewell)
                await self._renew(self.lease.farewell)  # if a renewal of ours that was cut off came between
            except (StoreDown, Conflict) as error:
                log.warning("the lease could not be given back", why=str(error))

    def _told(self) -> tuple[object, ...]:
        return self.lease.role, self.lease.epoch, self.lease.until, self.lease.leader_url

    async def _stand_by(self) -> None:
        await self._look()
        if self.lease.may_claim(trio.current_time()):
            try:
                await self._write(self.lease.claim())
            except Conflict:
                await self._look()

    async def _renew(self, make: Callable[[], LeaseRecord]) -> None:
        if self.lease.role == "standby":
            return  # the record is another's
        try:
            await self._write(make())
        except Conflict:
            await self._look()

    async def _look(self) -> None:
        entry = await self._store.get(LEASE_KEY)
        record: LeaseRecord | None = None
        if entry is not None:
            try:
                record = decode_record(entry.value)
            except RecordError as error:
                log.error("the lease in the store cannot be read; it is taken for nobody's", why=str(error))
        self.lease.handle_seen(record, 0 if entry is None else entry.revision, trio.current_time())

    async def _write(self, record: LeaseRecord) -> None:
        asked_at = trio.current_time()
        revision = await self._store.cas(LEASE_KEY, record.encode(), self.lease.revision)
        self.lease.handle_written(record, revision, asked_at)
