"""``relaymesh node`` that cannot start says why in a line, without a traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relaymesh.cli.main import main

LOOPBACK = ["--relay", "127.0.0.1:0", "--media", "127.0.0.1:0", "--http", "127.0.0.1:0"]
CONTROLLER = ["--controller", "ws://127.0.0.1:1"]


def run(*arguments: str) -> Result:
    command = ["node", "--name", "a", "--region", "r", "--token", "t", *LOOPBACK, *arguments]
    return CliRunner().invoke(main, command, env={"RELAYMESH_NODE_CONFIG": None})


def says(result: Result, text: str) -> None:
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code != 0
    assert text in result.output


@pytest.mark.parametrize(
    "url",
    [
        "wss://127.0.0.1:99999",
        "wss://host:0",
        "wss://a..b:7400",
        f"wss://{'x' * 64}.example",
        "https://host",
        "wss://",
        "wss://[::1:7",
    ],
)
def test_an_invalid_url(url: str) -> None:
    says(run("--controller", url), "settings do not fit")


@pytest.mark.parametrize("endpoint", ["a..b:22", "\N{SNOWMAN}" * 64 + ":22", "host:port"])
def test_an_invalid_endpoint(endpoint: str) -> None:
    says(run(*CONTROLLER, "--relay", endpoint), "is not HOST:PORT")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{bad", "line 1"),
        (b"\xff\xfe", "utf-8"),
        (b'{"links": {"x": {"address": "nowhere", "delay_ms": 1}}}', "HOST:PORT"),
        (b'{"links": {"x": {"address": "127.0.0.1:1"}}}', "delay_ms"),
    ],
)
def test_an_invalid_file_of_emulated_links(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "links.json"
    file.write_bytes(content)
    says(run(*CONTROLLER, "--emulate-links", str(file)), text)


def test_workers_need_settings_that_fit_so_many() -> None:
    says(run(*CONTROLLER, "--workers", "many"), "--workers")
    says(run(*CONTROLLER, "--workers", "65"), "--workers")
    says(
        run(*CONTROLLER, "--workers", "2", "--media", "127.0.0.1:65535"),
        "media: worker 2 would have port 65536",
    )


def test_emulated_links_are_for_one_node(tmp_path: Path) -> None:
    file = tmp_path / "links.json"
    file.write_text("{}")
    says(run(*CONTROLLER, "--workers", "2", "--emulate-links", str(file)), "without --workers")


def test_invalid_tls_files(tmp_path: Path) -> None:
    file = tmp_path / "nonsense.pem"
    file.write_text("nonsense")
    for path in (str(file), str(tmp_path / "missing.pem")):
        says(run(*CONTROLLER, "--tls-cert", path, "--tls-key", path), "cannot use --tls-cert and --tls-key")
        says(run("--controller", "wss://127.0.0.1:1", "--ca", path), "cannot use --ca")


def test_room_keys_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text('{"keys": []}')
    says(run(*CONTROLLER, "--room-keys", str(file)), f"cannot use --room-keys {file}: there is no key")
    says(run(*CONTROLLER, "--room-keys", str(tmp_path / "missing")), "No such file")


def test_beyond_loopback_a_node_says_both_ways_out() -> None:
    result = run(*CONTROLLER, "--http", "0.0.0.0:0", "--plain-http")
    says(result, "relaymesh token key")
    says(result, "open_rooms")


@pytest.mark.parametrize(
    ("option", "kind"),
    [("--relay", socket.SOCK_DGRAM), ("--media", socket.SOCK_DGRAM), ("--http", socket.SOCK_STREAM)],
)
def test_a_port_in_use(option: str, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        says(run(*CONTROLLER, option, f"127.0.0.1:{taken.getsockname()[1]}"), "in use")
