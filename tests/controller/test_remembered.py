"""What a successor knows: written by the leader of the moment, and read by the next."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.remembered import KEYS, Keeper, Remembered, decode_value, encode_value
from relaymesh.controller.store.memory import MemoryEngine, MemoryStore

SOME = Remembered(41, {"fra-1": 0, "tyo-1": 3}, ((0, 3, 17),), "name: t\n")


async def test_what_is_written_is_read_and_only_what_changed_is_written_again(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    engine = MemoryEngine()
    keeper = Keeper(MemoryStore(engine), 1)
    assert await keeper.load() == Remembered()
    now = [SOME]
    nursery.start_soon(keeper.run, lambda: now[0])
    await trio.sleep(1)
    assert await Keeper(MemoryStore(engine), 2).load() == SOME
    revisions = {key: entry.revision for key, entry in engine.entries.items()}
    now[0] = Remembered(42, SOME.indexes, SOME.key_epochs, SOME.topology)
    keeper.poke()
    await trio.sleep(1)
    changed = [key for key, entry in engine.entries.items() if entry.revision != revisions[key]]
    assert changed == ["mesh/generation"]
    nursery.cancel_scope.cancel()


async def test_a_leader_of_before_overwrites_nothing(autojump_clock: object, nursery: trio.Nursery) -> None:
    engine = MemoryEngine()
    old, new = Keeper(MemoryStore(engine), 1), Keeper(MemoryStore(engine), 2)
    await old.load()
    values = {1: SOME, 2: Remembered(1000, {"fra-1": 0})}
    nursery.start_soon(old.run, lambda: values[1])
    await trio.sleep(1)
    await new.load()
    nursery.start_soon(new.run, lambda: values[2])
    await trio.sleep(1)
    values[1] = Remembered(43, {"evil": 0})
    old.poke()
    await trio.sleep(2)
    assert await Keeper(MemoryStore(engine), 3).load() == values[2]
    nursery.cancel_scope.cancel()


async def test_an_outage_is_waited_out_and_a_lost_answer_is_no_rival(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    engine = MemoryEngine()

    class Forgetful(MemoryStore):
        """Says that it is down after it has written."""

        async def cas(self, key: str, value: bytes, revision: int) -> int:
            written = await super().cas(key, value, revision)
            if engine.revision % 3 == 0:
                engine.down = True
                await self.get(key)
            return written

    keeper = Keeper(Forgetful(engine), 1)
    await keeper.load()
    nursery.start_soon(keeper.run, lambda: SOME)
    for _ in range(10):
        await trio.sleep(1)
        engine.down = False
    assert await Keeper(MemoryStore(engine), 2).load() == SOME
    nursery.cancel_scope.cancel()


async def test_what_cannot_be_read_is_begun_anew() -> None:
    store = MemoryStore()
    await store.put(KEYS["indexes"], b"nonsense")
    await store.put(KEYS["generation"], encode_value(1, 7))
    assert await Keeper(store, 2).load() == Remembered(7)


async def test_too_much_is_not_written_and_stops_nothing(
    autojump_clock: object, nursery: trio.Nursery
) -> None:
    engine = MemoryEngine()
    keeper = Keeper(MemoryStore(engine), 1)
    await keeper.load()
    nursery.start_soon(keeper.run, lambda: Remembered(7, {}, (), "x" * (1 << 20)))
    await trio.sleep(1)
    assert await Keeper(MemoryStore(engine), 2).load() == Remembered(7)
    nursery.cancel_scope.cancel()


@given(st.sampled_from(sorted(KEYS)), st.one_of(st.binary(max_size=60), st.builds(
    msgpack.packb, st.recursive(st.none() | st.integers(-9, 9) | st.text(max_size=3), st.lists, max_leaves=6)
)))  # fmt: skip
def test_whatever_the_bytes_one_kind_of_error(name: str, data: bytes) -> None:
    try:
        decode_value(name, data)
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generation", -1),
        ("generation", True),
        ("indexes", {"a": "b"}),
        ("key_epochs", [[1, 2]]),
        ("topology", 3),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"no {name}"):
        decode_value(name, msgpack.packb([1, value]))
