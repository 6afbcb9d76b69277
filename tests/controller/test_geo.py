from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.geo import GeoError, _spot, open_geoip
from relaymesh.controller.placement import Spot


def encoded(value: Any) -> bytes:
    """A value as a MaxMind file holds it (https://maxmind.github.io/MaxMind-DB/), short ones only."""
    if isinstance(value, dict):
        return bytes([0xE0 | len(value)]) + b"".join(encoded(k) + encoded(v) for k, v in value.items())
    if isinstance(value, str):
        return bytes([0x40 | len(value)]) + value.encode()
    if isinstance(value, float):
        return b"\x68" + struct.pack(">d", value)
    if isinstance(value, list):
        return bytes([len(value), 4]) + b"".join(map(encoded, value))
    assert isinstance(value, bytes), "a number, encoded already"
    return value


def uint16(value: int) -> bytes:
    return b"\xa2" + struct.pack(">H", value)


def database(record: object) -> bytes:
    """Of IPv4; the lower half of all addresses has *record*, the upper half none."""
    tree = (1 + 16).to_bytes(3, "big") + (1).to_bytes(3, "big")
    metadata = {
        "node_count": b"\xc4" + struct.pack(">I", 1),
        "record_size": uint16(24),
        "ip_version": uint16(4),
        "binary_format_major_version": uint16(2),
        "binary_format_minor_version": uint16(0),
        "build_epoch": b"\x08\x02" + struct.pack(">Q", 1_700_000_000),
        "database_type": "Test-City",
        "languages": ["en"],
        "description": {"en": "a test"},
    }
    return tree + bytes(16) + encoded(record) + b"\xab\xcd\xefMaxMind.com" + encoded(metadata)


def test_an_address_is_looked_up(tmp_path: Path) -> None:
    file = tmp_path / "city.mmdb"
    file.write_bytes(database({"location": {"latitude": 48.9, "longitude": 2.4}}))
    locate = open_geoip(file)
    assert locate("10.0.0.1") == Spot(48.9, 2.4)
    for unknown in ("203.0.113.9", "2001:db8::1", "", "no address"):
        assert locate(unknown) is None


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "city.mmdb"
    for content in (b"", b"\xab\xcd\xefMaxMind.com", b"x" * 1000):
        file.write_bytes(content)
        with pytest.raises(GeoError, match=r"city\.mmdb"):
            open_geoip(file)
    with pytest.raises(GeoError, match="nowhere"):
        open_geoip(tmp_path / "nowhere")


json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(["location", "latitude", "longitude"]), inner),
)


@given(json)
def test_whatever_a_record_is_it_is_a_place_or_nothing(record: object) -> None:
    spot = _spot(record)
    assert spot is None or (abs(spot.latitude) <= 90 and abs(spot.longitude) <= 180)
