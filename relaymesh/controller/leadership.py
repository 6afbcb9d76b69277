"""One controller of several: stands by, leads while it holds the lease, and says goodbye.

    store ⇄ election (lease) ──▶ Leadership ──▶ seat.lead(reign) … seat.stand_by()
    store ⇄ keeper  ◀── what is remembered ── core

In: a store and a seat. Out: reigns. A reign begins when the lease is ours and what
earlier leaders left is read; it ends when the lease is another's, or we stop. While
it has lapsed (the store is down) the seat stays ours, and the core decides nothing
that another leader might decide too.
"""

from __future__ import annotations

from random import Random

import trio

from relaymesh.controller.election import Election
from relaymesh.controller.lease import Lease
from relaymesh.controller.reign import Reign
from relaymesh.controller.remembered import RETRY_S, Keeper, Remembered
from relaymesh.controller.seat import Seat
from relaymesh.controller.store import Store, StoreDown
from relaymesh.runtime.log import get_logger

log = get_logger(__name__)


class Leadership:
    """This process's part in who leads."""

    def __init__(self, store: Store, seat: Seat, *, holder: str, url: str, rng: Random) -> None:
        """*holder*: a name no other process has, nor has had; *url*: where our nodes connect."""
        self._store = store
        self._seat = seat
        self._exclusive = store.exclusive
        self.lease = Lease(holder, url, exclusive=store.exclusive)
        self._election = Election(store, self.lease, rng, self._lease_changed)
        self._leads = trio.Event()
        self._reign: Reign | None = None
        self._reign_scope: trio.CancelScope | None = None
        self._role = self.lease.role

    async def run(self) -> None:
        """Stand by and lead in turn; never returns."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._election.run)
            while True:
                await self._leads.wait()
                with trio.CancelScope() as self._reign_scope:
                    await self._rule()
                self._reign_scope = self._reign = None

    async def give_back(self) -> None:
        """After :meth:`run` was cancelled: let another lead at once."""
        await self._election.give_back()

    def describe(self) -> dict[str, object]:
        """For the standby's API, and for nodes that are sent away."""
        leader = self.lease.leader_url if self.lease.role == "standby" else ""
        return {"role": "standby", "leader": leader, "leader_epoch": self.lease.epoch}

    def _lease_changed(self) -> None:
        lease = self.lease
        if lease.role != self._role:
            log.info("leadership", role=lease.role, epoch=lease.epoch, leader=lease.leader_url)
            self._role = lease.role
        if lease.role == "standby":
            if self._leads.is_set():  # otherwise somebody may be waiting for this one
                self._leads = trio.Event()
            if self._reign_scope is not None:
                self._reign_scope.cancel()
        elif self._reign is not None:
            self._reign.renew(lease.epoch, lease.until)
            self._seat.changed()
        if lease.role == "leading":
            self._leads.set()

    async def _rule(self) -> None:
        """One reign."""
        keeper = Keeper(self._store, self.lease.epoch)
        remembered = await self._load(keeper)
        reign = Reign(self.lease.epoch, until=self.lease.until, sole=self._exclusive, remembered=remembered)

        def changed() -> None:
            keeper.poke()
            if reign.outranked_by:
                self.lease.handle_outranked(reign.outranked_by)

        timer = self._seat.lead(reign, changed)
        core = self._seat.core
        assert core is not None, "it sits there"
        self._reign = reign
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(timer.run)
                await keeper.run(core.remembered)
        finally:
            self._seat.stand_by()

    async def _load(self, keeper: Keeper) -> Remembered:
        while True:
            try:
                return await keeper.load()
            except StoreDown:
                await trio.sleep(RETRY_S)
