"""What --store may say."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from relaymesh.controller.store import open_store, parse_store
from relaymesh.controller.store.spec import NatsSpec, SqliteSpec


def test_each_kind_is_read() -> None:
    assert parse_store("memory") is None
    assert parse_store("sqlite:/var/lib/mesh.db") == SqliteSpec(Path("/var/lib/mesh.db"))
    plain = parse_store("nats://127.0.0.1:4222")
    assert isinstance(plain, NatsSpec) and plain.options.tls is None
    assert (plain.options.servers, plain.bucket, plain.replicas) == ((("127.0.0.1", 4222),), "relaymesh", 1)
    full = parse_store("tls://me:p%40ss@a.example:1,b.example/prod?replicas=3")
    assert isinstance(full, NatsSpec) and full.options.tls is not None
    assert full.options.servers == (("a.example", 1), ("b.example", 4222))
    assert (full.options.user, full.options.password, full.bucket) == ("me", "p@ss", "prod")
    assert full.replicas == 3
    assert "p@ss" not in repr(full)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "redis://x",
        "sqlite:",
        "nats://broker.example:4222",
        "nats://",
        "nats://127.0.0.1:99999",
        "nats://127.0.0.1/a.b",
        "nats://127.0.0.1/b?replicas=2",
        "nats://127.0.0.1/b?colour=red",
    ],
)
def test_what_it_may_not_say_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        parse_store(text)


async def test_a_file_is_opened(tmp_path: Path) -> None:
    spec = parse_store(f"sqlite:{tmp_path / 'mesh.db'}")
    assert spec is not None
    async with open_store(spec, Random(1)) as store:
        assert store.exclusive and await store.put("a", b"1") == 1
