"""The file of room keys while a node runs: replaced, broken, gone, and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relaymesh.access.keys import MAX_BYTES, KeysError
from relaymesh.node.room_keys import RoomKeys, read_room_keys
from tests.access.rings import ED, jwks, key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "room-keys.json"
    path.write_bytes(jwks(key("a")))
    return path


def replace(file: Path, content: bytes) -> None:
    """As an operator should: the new file takes the old one's place as a whole."""
    fresh = file.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, file)


def ids(keys: RoomKeys) -> list[str]:
    ring = keys.ring()
    return [] if ring is None else [key.id for key in ring.keys]


def test_a_file_that_is_replaced_is_read_again(file: Path) -> None:
    keys = RoomKeys(file)
    assert ids(keys) == ["a"]
    replace(file, jwks(key("b"), key("a")))
    assert ids(keys) == ["b", "a"]
    replace(file, jwks(key("b")))
    assert ids(keys) == ["b"]


def test_a_file_that_is_the_same_is_not_read_again(file: Path) -> None:
    keys = RoomKeys(file)
    assert keys.ring() is keys.ring() is not None


def test_one_that_is_written_in_place_is_read_too(file: Path) -> None:
    keys = RoomKeys(file)
    keys.ring()
    file.write_bytes(jwks(key("b"), key("c")))
    assert ids(keys) == ["b", "c"]


def test_a_broken_file_keeps_the_keys_before_it_and_is_told_once(file: Path) -> None:
    keys = RoomKeys(file)
    keys.ring()
    with capture_logs() as lines:
        replace(file, b"{")
        assert ids(keys) == ids(keys) == ["a"]
        file.unlink()
        assert ids(keys) == ids(keys) == ["a"]
        replace(file, jwks(key("b")))
        assert ids(keys) == ["b"]
    assert [line["log_level"] for line in lines] == ["warning", "warning", "info"]
    assert "no JWK set" in lines[0]["why"] and "No such file" in lines[1]["why"]
    assert all("still hold" in line["event"] for line in lines[:2])


def test_without_any_keys_at_first_there_are_none_until_there_are(file: Path) -> None:
    file.unlink()
    keys = RoomKeys(file)
    with capture_logs() as lines:
        assert keys.ring() is None is keys.ring()
    assert ["no client gets in" in line["event"] for line in lines] == [True]
    replace(file, jwks(key("a")))
    assert ids(keys) == ["a"]


def test_private_halves_on_a_node_are_warned_of_and_no_key_is_logged(file: Path) -> None:
    for content, warned in ((jwks(ED), True), (jwks(ED.public_half(), key("a")), False)):
        replace(file, content)
        with capture_logs() as lines:
            RoomKeys(file).ring()
        assert any("private halves" in line["event"] for line in lines) is warned
        assert str(ED.private)[2:-1] not in str(lines) and "a......" not in str(lines)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # nobody writes: reading it would never end
    for path in (pipe, tmp_path, Path("/dev/null")):
        with pytest.raises(KeysError, match="not a file"):
            read_room_keys(path)
    with pytest.raises(KeysError, match="No such file"):
        read_room_keys(tmp_path / "missing")
    (tmp_path / "long").write_bytes(jwks(key("a")) + b" " * MAX_BYTES)
    with pytest.raises(KeysError, match="at most"):
        read_room_keys(tmp_path / "long")
