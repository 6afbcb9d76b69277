"""The store on a real nats-server: it conforms, and comes back after an outage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from relaymesh.controller.store import NEW, Change, Conflict, Store, StoreDown, open_store, parse_store
from tests.controller.store.conformance import CHECKS, Check, ids, next_change
from tests.controller.store.nats_server import NatsServer

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def connected(url: str, seed: int = 1) -> AsyncIterator[Store]:
    spec = parse_store(url)
    assert spec is not None
    async with open_store(spec, Random(seed)) as store:
        await answering(store)
        yield store


async def answering(store: Store) -> None:
    """Until the store answers."""
    with trio.fail_after(20):
        while True:
            try:
                await store.get("is-it-there")
                return
            except StoreDown:
                await trio.sleep(0.05)


async def refusing(store: Store) -> None:
    """Until the store says that it is down."""
    try:
        while True:
            await store.put("a", b"lost")
    except StoreDown:
        pass


@pytest.mark.parametrize("check", CHECKS, ids=ids)
async def test_it_conforms(check: Check, server: NatsServer) -> None:
    url = f"{server.url}/conformance"
    async with connected(url, 1) as one, connected(url, 2) as other:
        await check(one, other, check.__name__.replace("_", "-"))


async def test_two_buckets_do_not_meet(server: NatsServer) -> None:
    async with connected(f"{server.url}/one") as one, connected(f"{server.url}/other") as other:
        await one.put("a", b"1")
        assert await other.get("a") is None


async def test_an_outage_is_said_at_once_and_over_when_it_is_over(tmp_path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    try:
        async with connected(server.url) as store:
            revision = await store.cas("a", b"1", NEW)
            async with store.watch("") as changes:
                assert await next_change(changes) == Change("a", b"1", revision)
                server.stop()
                with trio.fail_after(3):
                    await refusing(store)
                server.start()
                await answering(store)
                with pytest.raises(Conflict):
                    await store.cas("a", b"late", revision + 100)
                last = await store.put("a", b"2")
                with trio.fail_after(10):
                    while (change := await changes.receive()).revision != last:
                        pass
                assert change == Change("a", b"2", last)
    finally:
        server.stop()


async def test_a_login_that_is_wrong_is_an_outage_and_a_right_one_is_not(tmp_path) -> None:
    server = NatsServer(tmp_path, ("--user", "mesh", "--pass", "s3cret/&"))
    server.start()
    try:
        at = f"127.0.0.1:{server.port}"
        async with connected(f"nats://mesh:s3cret%2F%26@{at}") as store:
            await store.put("a", b"1")
        spec = parse_store(f"nats://mesh:wrong@{at}")
        assert spec is not None
        async with open_store(spec, Random(1)) as store:
            await trio.sleep(0.3)
            with pytest.raises(StoreDown):
                await store.get("a")
    finally:
        server.stop()
