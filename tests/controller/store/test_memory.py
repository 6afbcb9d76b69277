"""The store in memory: it conforms, and fails on demand."""

from __future__ import annotations

import pytest

from relaymesh.controller.store import StoreDown
from relaymesh.controller.store.memory import MemoryEngine, MemoryStore
from tests.controller.store.conformance import CHECKS, Check, ids


@pytest.mark.parametrize("check", CHECKS, ids=ids)
async def test_it_conforms(check: Check, autojump_clock: object) -> None:
    engine = MemoryEngine(delay=0.001)
    await check(MemoryStore(engine), MemoryStore(engine), "t")


async def test_it_is_down_for_all_or_cut_from_one() -> None:
    engine = MemoryEngine()
    one, other = MemoryStore(engine), MemoryStore(engine)
    one.cut = True
    await other.put("a", b"1")
    with pytest.raises(StoreDown):
        await one.get("a")
    one.cut, engine.down = False, True
    for store in (one, other):
        with pytest.raises(StoreDown):
            await store.put("a", b"2")
    engine.down = False
    entry = await one.get("a")
    assert entry is not None and entry.value == b"1"
