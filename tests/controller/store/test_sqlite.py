"""The file: it conforms, outlives the process, and belongs to one."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaymesh.controller.store import NEW, Conflict, StoreDown
from relaymesh.controller.store.sqlite import open_sqlite
from tests.controller.store.conformance import CHECKS, Check, ids


@pytest.mark.parametrize("check", CHECKS, ids=ids)
async def test_it_conforms(check: Check, tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store.db") as store:
        await check(store, store, "t")


async def test_what_was_stored_is_there_after_a_restart_and_revisions_go_on(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store.db") as store:
        await store.put("a", b"1")
        last = await store.put("b", b"2")
        await store.delete("b")
    async with open_sqlite(tmp_path / "store.db") as store:
        entry = await store.get("a")
        assert entry is not None and entry.value == b"1"
        with pytest.raises(Conflict):
            await store.cas("a", b"x", NEW)
        assert await store.put("b", b"3") > last + 1


async def test_a_second_controller_is_told_that_the_first_has_it(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "store.db"):
        with pytest.raises(StoreDown, match="locked"):
            async with open_sqlite(tmp_path / "store.db"):
                pass
    async with open_sqlite(tmp_path / "store.db") as store:
        await store.put("a", b"1")


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be one" * 30, None])
async def test_what_is_no_store_is_an_error_with_its_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "store.db" if content else tmp_path / "no" / "such" / "folder"
    if content:
        path.write_bytes(content)
    with pytest.raises(StoreDown, match=path.name):
        async with open_sqlite(path):
            pass
