"""Who may come is said, or a node does not start."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from relaymesh.node.settings import NodeSettings

PUBLIC = {"http": "0.0.0.0:7700", "plain_http": True}


def settings(**more: object) -> NodeSettings:
    plain = {
        "name": "n1",
        "region": "r",
        "controller": "ws://127.0.0.1:1",
        "token": SecretStr("t"),
        "relay": "127.0.0.1:7500",
        "media": "127.0.0.1:7600",
    }
    return NodeSettings(**(plain | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "more",
    [
        PUBLIC,
        {"http": "192.0.2.1:7700", "plain_http": True},
        {"http": "[::]:7700", "tls_cert": Path("c"), "tls_key": Path("k")},
        {"http": "127.0.0.1.example:7700", "plain_http": True},
        {"http_url": "https://proxy.example/mesh"},  # a proxy on the same host
        {"http_url": "http://127.0.0.1.example"},
        {"http_url": "//"},
        {"http_url": "proxy.example"},
    ],
)
def test_beyond_loopback_keys_are_wanted_or_words(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"give room_keys .*, or say open_rooms"):
        settings(**more)
    settings(**more, open_rooms=True)
    settings(**more, room_keys=Path("keys.json"))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"http": "[::1]:7700"},
        {"http": "localhost:7700", "http_url": "http://localhost:8080/mesh"},
        {"http_url": "http://[::1]:7700"},
        {"http_url": ""},
    ],
)
def test_on_loopback_neither_is_wanted(more: dict[str, object]) -> None:
    assert not settings(**more).open_rooms


def test_both_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="say one of them"):
        settings(room_keys=Path("keys.json"), open_rooms=True)


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError):
        settings(http_url="http://[::1")
