"""Elections in virtual time: takeover, clean stop, outages, and never two leaders at one instant."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
import trio
import trio.testing

from relaymesh.controller.election import Election
from relaymesh.controller.lease import LEASE_KEY, LEASE_S, Lease
from relaymesh.controller.store.memory import MemoryEngine, MemoryStore


class Candidate:
    """One controller's election, which can be killed, stopped, or cut from the store."""

    def __init__(self, engine: MemoryEngine, name: str, nursery: trio.Nursery) -> None:
        self.store = MemoryStore(engine)
        self.lease = Lease(name, f"ws://{name}:1")
        self.election = Election(self.store, self.lease, Random(name), lambda: None)
        self.scope = trio.CancelScope()
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        with self.scope:
            await self.election.run()

    @property
    def leads(self) -> bool:
        return not self.scope.cancel_called and self.lease.check(trio.current_time()) == "leading"


async def until_leads(candidate: Candidate, within: float) -> float:
    began = trio.current_time()
    while not candidate.leads:
        assert trio.current_time() - began < within
        await trio.sleep(0.01)
    return trio.current_time() - began


@pytest.mark.parametrize("seed", range(5))
async def test_the_standby_leads_soon_after_the_leader_is_killed(
    seed: int, autojump_clock: object, nursery: trio.Nursery
) -> None:
    engine = MemoryEngine(delay=0.002)
    one = Candidate(engine, f"one-{seed}", nursery)
    assert await until_leads(one, 1.0) < 0.1
    other = Candidate(engine, f"other-{seed}", nursery)
    await trio.sleep(10 + seed / 3)
    assert other.lease.role == "standby" and other.lease.leader_url == one.lease.leader_url
    one.scope.cancel()
    took = await until_leads(other, 5.0)
    assert LEASE_S - 1.0 < took <= LEASE_S + 0.6
    assert other.lease.epoch == one.lease.epoch + 1
    nursery.cancel_scope.cancel()


async def test_the_standby_leads_at_once_after_a_clean_stop(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    engine = MemoryEngine(delay=0.002)
    one = Candidate(engine, "one", nursery)
    await until_leads(one, 1.0)
    other = Candidate(engine, "other", nursery)
    await trio.sleep(5)
    one.scope.cancel()
    await one.election.give_back()
    assert await until_leads(other, 2.0) < 0.5
    assert other.lease.epoch == 2
    await one.election.give_back()  # a second goodbye takes nothing from the successor
    assert engine.entries[LEASE_KEY].value == other.lease.renewal().encode().replace(
        b'"beat": 1', b'"beat": 0'
    )
    nursery.cancel_scope.cancel()


async def test_a_store_that_is_down_for_a_minute_changes_no_leader(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    engine = MemoryEngine(delay=0.002)
    one = Candidate(engine, "one", nursery)
    await until_leads(one, 1.0)
    other = Candidate(engine, "other", nursery)
    await trio.sleep(5)
    engine.down = True
    await trio.sleep(2)
    assert one.leads, "nobody can have taken over yet"
    await trio.sleep(58)
    assert one.lease.role == "lapsed" and other.lease.role == "standby"
    engine.down = False
    assert await until_leads(one, 2.0) < 1.0
    await trio.sleep(10)
    assert one.leads and one.lease.epoch == 1 and other.lease.role == "standby"
    nursery.cancel_scope.cancel()


async def test_a_leader_that_alone_is_cut_off_is_followed_and_steps_back(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    engine = MemoryEngine(delay=0.002)
    one = Candidate(engine, "one", nursery)
    await until_leads(one, 1.0)
    other = Candidate(engine, "other", nursery)
    await trio.sleep(5)
    one.store.cut = True
    await until_leads(other, 5.0)
    assert one.lease.role == "lapsed"
    one.store.cut = False
    await trio.sleep(1)
    assert (one.lease.role, one.lease.leader_url) == ("standby", "ws://other:1")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seed", range(20))
async def test_never_two_lead_and_epochs_never_go_back_whatever_fails(
    seed: int, autojump_clock: object, nursery: trio.Nursery
) -> None:
    rng = Random(seed)
    engine = MemoryEngine(delay=0.01)
    alive = [Candidate(engine, f"{seed}-{number}", nursery) for number in range(3)]
    epochs: list[int] = []
    leaders: list[str] = []
    for step in range(3000):
        await trio.sleep(0.05)
        leading = [candidate for candidate in alive if candidate.leads]
        assert len(leading) <= 1
        if leading:
            epochs.append(leading[0].lease.epoch)
            leaders.append(leading[0].lease.renewal().holder)
        if rng.random() < 0.01:
            engine.down = not engine.down
        if rng.random() < 0.02:
            victim = rng.choice(alive)
            victim.store.cut = not victim.store.cut
        if rng.random() < 0.005:
            victim = alive.pop(rng.randrange(3))
            victim.scope.cancel()
            alive.append(Candidate(engine, f"{seed}-{step}", nursery))
        if rng.random() < 0.005 and leading:
            leading[0].lease.handle_outranked(leading[0].lease.epoch + rng.randrange(3))
    assert epochs == sorted(epochs)
    changes = list(zip(epochs, leaders, strict=True))
    assert len({who for _, who in changes}) > 1, "leaders changed"
    assert all(a[0] < b[0] for a, b in pairwise(changes) if a[1] != b[1])
    engine.down = False
    for candidate in alive:
        candidate.store.cut = False
    await trio.sleep(10)
    assert sum(candidate.leads for candidate in alive) == 1
    nursery.cancel_scope.cancel()
