"""The relay's seal over every kernel: known vectors, round trips, hostile bytes, and both kernels alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernels.both import native, over_both, reference

aead = over_both("aead")
keys = st.binary(min_size=16, max_size=16)
headers = st.binary(min_size=12, max_size=12)
over_kernels = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

DATAGRAMS = json.loads((Path(__file__).parents[1] / "vectors" / "relay" / "datagrams.json").read_text())[
    "datagrams"
]
KEY = bytes(range(16))
HEADER = bytes(range(0x10, 0x1C))


def test_the_protocols_vectors(aead: Any) -> None:
    assert DATAGRAMS
    for vector in DATAGRAMS:
        key, datagram, plaintext = (bytes.fromhex(vector[name]) for name in ("key", "datagram", "plaintext"))
        # A kernel has the full header, whose number is cut on the wire (docs/protocol.md § 1).
        header = datagram[:4] + vector["number"].to_bytes(8, "big")
        full = header + datagram[6 if vector["short"] else 8 :]
        assert aead.seal_batch([(aead.Sealer(key), header, plaintext)]) == [full]
        assert aead.open_batch([(aead.Opener(key), full)]) == [plaintext]


def test_a_batch_round_trips_in_order(aead: Any) -> None:
    sealers = [aead.Sealer(bytes([k]) * 16) for k in range(5)]
    openers = [aead.Opener(bytes([k]) * 16) for k in range(5)]
    plaintexts = [bytes([k]) * size for k, size in enumerate((0, 1, 16, 1200, 1428))]
    sealed = aead.seal_batch([(s, HEADER, p) for s, p in zip(sealers, plaintexts, strict=True)])
    assert [len(d) for d in sealed] == [28 + len(p) for p in plaintexts]
    assert all(d[:12] == HEADER for d in sealed)
    assert aead.open_batch(list(zip(openers, sealed, strict=True))) == plaintexts
    assert aead.open_batch(list(zip(openers[1:], sealed, strict=False))) == [None] * 4


def test_no_jobs_no_datagrams(aead: Any) -> None:
    assert aead.seal_batch([]) == []
    assert aead.open_batch([]) == []


def test_keys_and_headers_of_another_length_are_refused(aead: Any) -> None:
    for size in (0, 15, 17, 32):
        with pytest.raises(ValueError, match="a key has 16 bytes"):
            aead.Sealer(bytes(size))
        with pytest.raises(ValueError, match="a key has 16 bytes"):
            aead.Opener(bytes(size))
    for size in (0, 11, 13):
        with pytest.raises(ValueError, match="a header has 12 bytes"):
            aead.seal_batch([(aead.Sealer(KEY), bytes(size), b"")])


def test_a_datagram_cut_anywhere_or_changed_anywhere_does_not_open(aead: Any) -> None:
    [datagram] = aead.seal_batch([(aead.Sealer(KEY), HEADER, b"sixteen and more")])
    opener = aead.Opener(KEY)
    hostile = [datagram[:size] for size in range(len(datagram))] + [datagram + b"\0"]
    hostile += [
        datagram[:at] + bytes([datagram[at] ^ 1 << bit]) + datagram[at + 1 :]
        for at in range(len(datagram))
        for bit in range(8)
    ]
    jobs = [(opener, d) for d in hostile]
    assert aead.open_batch(jobs) == [None] * len(hostile)
    assert aead.open_batch([*jobs, (opener, datagram)])[-1] == b"sixteen and more"


@over_kernels
@given(data=st.binary(max_size=200), key=keys)
def test_no_bytes_escape(aead: Any, data: bytes, key: bytes) -> None:
    assert aead.open_batch([(aead.Opener(key), data)]) == [None]


@given(st.lists(st.tuples(keys, headers, st.binary(max_size=1500)), max_size=5))
def test_both_kernels_give_the_same_bytes(jobs: list[tuple[bytes, bytes, bytes]]) -> None:
    one, other = reference("aead"), native("aead")
    sealed = one.seal_batch([(one.Sealer(k), h, p) for k, h, p in jobs])
    assert other.seal_batch([(other.Sealer(k), h, p) for k, h, p in jobs]) == sealed
    keyed = [(k, d) for (k, _, _), d in zip(jobs, sealed, strict=True)]
    assert other.open_batch([(other.Opener(k), d) for k, d in keyed]) == [p for _, _, p in jobs]
