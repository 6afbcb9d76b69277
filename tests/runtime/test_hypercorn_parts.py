"""The contract with hypercorn's inner parts, which have no other."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import hypercorn.app_wrappers
import hypercorn.config
import pytest
import trio
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import EventWrapper, WorkerContext

from relaymesh.runtime import hypercorn_parts
from relaymesh.runtime.http import bind_http, serve_http
from relaymesh.runtime.hypercorn_parts import HypercornMoved, check_hypercorn

ROOT = Path(__file__).parents[2]


def test_this_hypercorn_has_the_inner_parts_that_are_used() -> None:
    """If this fails, a new hypercorn moved them: the message says which."""
    check_hypercorn()


@pytest.mark.parametrize(
    ("owner", "name", "told"),
    [
        (TCPServer, "__await__", "await of hypercorn.trio.tcp_server.TCPServer"),
        (TCPServer, "protocol_send", "TCPServer.protocol_send"),
        (EventWrapper, "set", "WorkerContext.terminated.set"),
        (hypercorn.config.Config, "read_timeout", "hypercorn.config.Config.read_timeout"),
    ],
)
def test_a_hypercorn_that_moved_them_is_told_by_name(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, told: str
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(HypercornMoved, match=rf"does not know hypercorn \d.*no .*{told}"):
        check_hypercorn()


@pytest.mark.parametrize("name", ["ASGIWrapper", "TCPServer", "WorkerContext"])
def test_a_hypercorn_whose_classes_take_more_is_told_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    class Other(WorkerContext):
        def __init__(self, max_requests: Any = None, *, more: int) -> None:
            super().__init__(max_requests)

    def made(max_requests: Any = None, more: int = 1) -> WorkerContext:
        return WorkerContext(max_requests)

    monkeypatch.setattr(hypercorn_parts, name, made if name == "WorkerContext" else Other)
    with pytest.raises(HypercornMoved, match=rf"\.{name}\("):
        check_hypercorn()


async def test_the_server_does_not_start_on_one_that_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(TCPServer, "protocol_send")
    with pytest.raises(HypercornMoved):
        await serve_http(None, bind_http("127.0.0.1", 0), trio.sleep_forever)


def test_only_one_module_reaches_into_hypercorn() -> None:
    inside = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "relaymesh").rglob("*.py"))
        if any(
            line.startswith(("from hypercorn", "import hypercorn")) for line in file.read_text().splitlines()
        )
    ]
    assert inside == ["relaymesh/runtime/hypercorn_parts.py"]


def test_the_version_is_capped() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [entry for entry in project["dependencies"] if entry.startswith("hypercorn")]
    assert ",<" in wanted
