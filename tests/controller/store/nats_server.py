"""A real nats-server on a free port of loopback, where there is one."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

FETCHED = Path(sys.prefix) / "nats" / "usr" / "sbin" / "nats-server"


def find_nats_server() -> str:
    """The program; skips the test where there is none."""
    found = shutil.which("nats-server") or (str(FETCHED) if FETCHED.exists() else None)
    if found is None:
        pytest.skip("no nats-server here")
    return found


class NatsServer:
    """One server; it may be stopped and started again, with what it stored."""

    def __init__(self, directory: Path, options: tuple[str, ...] = ()) -> None:
        self._program = find_nats_server()
        self._directory = directory
        self._options = options
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [self._program, "-a", "127.0.0.1", "-p", str(self.port), "-js"]
        with (self._directory / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-sd", str(self._directory / "js"), *self._options], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self._directory / "nats.log").read_text(errors="replace"))

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None
