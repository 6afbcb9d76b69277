"""What every store must do: one suite, run by each backend's own tests.

Each check is given two views of one store (the same view twice where only one
controller can have it open), and a prefix of keys of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from relaymesh.controller.store import NEW, Change, Conflict, Entry, Store
from relaymesh.controller.store.interface import MAX_VALUE_BYTES

Check = Callable[[Store, Store, str], Awaitable[None]]


async def next_change(changes: trio.MemoryReceiveChannel[Change]) -> Change:
    with trio.fail_after(10):
        return await changes.receive()


async def what_is_set_is_read_with_its_revision(one: Store, other: Store, at: str) -> None:
    assert await one.get(at + "/a") is None
    first = await one.put(at + "/a", b"1")
    second = await one.put(at + "/a", b"\x00\xff\r\n two")
    third = await one.put(at + "/b", b"")
    assert NEW < first < second < third
    for view in (one, other):
        assert await view.get(at + "/a") == Entry(at + "/a", b"\x00\xff\r\n two", second)
        assert await view.get(at + "/b") == Entry(at + "/b", b"", third)


async def compare_and_set_takes_the_named_revision_only(one: Store, other: Store, at: str) -> None:
    first = await one.cas(at + "/a", b"1", NEW)
    for wrong in (NEW, first + 1, first - 1):
        with pytest.raises(Conflict):
            await other.cas(at + "/a", b"wrong", wrong)
    second = await other.cas(at + "/a", b"2", first)
    assert second > first
    with pytest.raises(Conflict):
        await one.cas(at + "/a", b"late", first)
    with pytest.raises(Conflict):
        await one.cas(at + "/not-there", b"x", second)
    assert await one.get(at + "/a") == Entry(at + "/a", b"2", second)


async def of_many_who_compare_and_set_one_wins(one: Store, other: Store, at: str) -> None:
    won: list[int] = []

    async def attempt(number: int) -> None:
        try:
            await (one, other)[number % 2].cas(at + "/a", str(number).encode(), NEW)
            won.append(number)
        except Conflict:
            pass

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(attempt, number)
    entry = await one.get(at + "/a")
    assert len(won) == 1 and entry is not None and entry.value == str(won[0]).encode()


async def a_deleted_key_is_new_again_and_revisions_go_on(one: Store, other: Store, at: str) -> None:
    await one.delete(at + "/a")
    first = await one.put(at + "/a", b"1")
    await other.delete(at + "/a")
    assert await one.get(at + "/a") is None
    with pytest.raises(Conflict):
        await one.cas(at + "/a", b"2", first)
    second = await one.cas(at + "/a", b"2", NEW)
    assert second > first
    with pytest.raises(Conflict):
        await one.cas(at + "/a", b"3", NEW)


async def a_watch_says_what_is_there_then_what_changes(one: Store, other: Store, at: str) -> None:
    first = await one.put(at + "/w/a", b"1")
    second = await one.put(at + "/w/b", b"2")
    await one.put(at + "/elsewhere", b"x")
    async with one.watch(at + "/w/") as changes:
        assert await next_change(changes) == Change(at + "/w/a", b"1", first)
        assert await next_change(changes) == Change(at + "/w/b", b"2", second)
        third = await other.put(at + "/w/a", b"3")
        await other.put(at + "/elsewhere", b"y")
        assert await next_change(changes) == Change(at + "/w/a", b"3", third)
        await other.delete(at + "/w/a")
        gone = await next_change(changes)
        assert (gone.key, gone.value) == (at + "/w/a", None) and gone.revision > third


async def a_slow_watch_misses_values_but_never_the_last(one: Store, other: Store, at: str) -> None:
    async with one.watch(at + "/") as changes:
        last = 0
        for number in range(200):
            last = await other.put(at + "/a", str(number).encode())
        for _ in range(201):
            change = await next_change(changes)
            if change.revision == last:
                assert change.value == b"199"
                return
    raise AssertionError("the last change never came")


async def big_values_are_kept_whole(one: Store, other: Store, at: str) -> None:
    value = bytes(range(256)) * (MAX_VALUE_BYTES // 256)
    await one.put(at + "/a", value)
    entry = await other.get(at + "/a")
    assert entry is not None and entry.value == value
    with pytest.raises(ValueError, match="a value of"):
        await one.put(at + "/a", value + b"x")


async def what_is_no_key_is_the_callers_fault(one: Store, other: Store, at: str) -> None:
    for key in ("", "a b", "a/", "/a", "a//b", "a.*", "a>", "ä", "a\r\n", "x" * 129):
        for call in (one.get(key), one.put(key, b""), one.cas(key, b"", 0), one.delete(key)):
            with pytest.raises(ValueError, match="is no key"):
                await call


CHECKS: list[Check] = [
    what_is_set_is_read_with_its_revision,
    compare_and_set_takes_the_named_revision_only,
    of_many_who_compare_and_set_one_wins,
    a_deleted_key_is_new_again_and_revisions_go_on,
    a_watch_says_what_is_there_then_what_changes,
    a_slow_watch_misses_values_but_never_the_last,
    big_values_are_kept_whole,
    what_is_no_key_is_the_callers_fault,
]


def ids(check: Check) -> str:
    return check.__name__
