"""Which store a controller is told to use, and opening it.

memory                                     nothing outlives the process (no store at all)
sqlite:PATH                                one file, one controller
nats://HOST:PORT[,HOST:PORT…][/BUCKET]     several controllers; tls:// beyond loopback
    [?replicas=3]                          of the bucket, where the servers are a cluster
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from relaymesh.controller.store.interface import Store
from relaymesh.controller.store.nats import NatsStore
from relaymesh.controller.store.nats_client import NatsOptions, open_nats
from relaymesh.controller.store.sqlite import open_sqlite
from relaymesh.runtime.settings import is_loopback, parse_endpoint

NATS_PORT = 4222
DEFAULT_BUCKET = "relaymesh"
_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class SqliteSpec:
    """A file."""

    path: Path


@dataclass(frozen=True, slots=True)
class NatsSpec:
    """A bucket on some servers."""

    options: NatsOptions
    bucket: str
    replicas: int


StoreSpec: TypeAlias = SqliteSpec | NatsSpec


def parse_store(text: str) -> StoreSpec | None:
    """What ``--store`` says; None: nothing is to be stored.

    Raises:
        ValueError: with what was expected.
    """
    scheme, _, rest = text.partition(":")
    if text == "memory":
        return None
    if scheme == "sqlite" and rest:
        return SqliteSpec(Path(rest))
    if scheme in ("nats", "tls"):
        return _parse_nats(text)
    raise ValueError(f"{text!r} is none of memory, sqlite:PATH, nats://HOST:PORT, tls://HOST:PORT")


def _parse_nats(text: str) -> NatsSpec:
    url = urlsplit(text)
    login, _, hosts = url.netloc.rpartition("@")
    servers = []
    for host in hosts.split(","):
        servers.append(parse_endpoint(host if re.search(r":\d+$", host) else f"{host}:{NATS_PORT}"))
    if url.scheme == "nats" and not all(is_loopback(host) for host, _ in servers):
        # Who can write there can lead the mesh.
        raise ValueError("plain nats:// is for loopback only; use tls://")
    bucket = url.path.strip("/") or DEFAULT_BUCKET
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{bucket!r} is no name of a bucket: letters, digits, - and _")
    query = parse_qs(url.query, keep_blank_values=True)
    replicas = query.pop("replicas", ["1"])[0]
    if query or replicas not in ("1", "3", "5"):
        raise ValueError("after the bucket may stand ?replicas=1, 3 or 5, and nothing else")
    user, _, password = login.partition(":")
    tls = ssl.create_default_context() if url.scheme == "tls" else None
    options = NatsOptions(tuple(servers), tls, unquote(user), unquote(password))
    return NatsSpec(options, bucket, int(replicas))


@asynccontextmanager
async def open_store(spec: StoreSpec, rng: Random) -> AsyncIterator[Store]:
    """The store that *spec* names.

    Raises:
        StoreDown: a file that cannot be used. A NATS server may be down: each call says so.
    """
    if isinstance(spec, SqliteSpec):
        async with open_sqlite(spec.path) as sqlite:
            yield sqlite
    else:
        async with open_nats(spec.options, rng) as client:
            yield NatsStore(client, spec.bucket, spec.replicas)
