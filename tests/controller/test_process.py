"""``relaymesh controller`` as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

COMMAND = [sys.executable, "-m", "relaymesh", "controller", "--log-format", "json"]
PORTS = ["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RELAYMESH_")} | {
    "RELAYMESH_CONTROLLER_JOIN_SECRET": "a join secret for tests, long enough"
}


async def ready(process: trio.Process) -> dict[str, Any]:
    """The line in which the controller says where it is."""
    assert process.stderr is not None
    text = ""
    with trio.fail_after(20):
        async for data in process.stderr:
            text += data.decode()
            for line in text.splitlines(keepends=True):
                if line.endswith("\n") and '"controller ready"' in line:
                    found: dict[str, Any] = json.loads(line)
                    return found
    raise AssertionError(f"the controller did not start: {text}")


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_starts_answers_and_stops_cleanly(number: signal.Signals) -> None:
    process = await trio.lowlevel.open_process(
        [*COMMAND, *PORTS], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    async with trio.open_nursery() as nursery:
        try:
            line = await ready(process)
            host, port = line["api"]
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"http://{host}:{port}/healthz")).status_code == 200
                # Its connection stays open, and must not hold up the end.
                process.send_signal(number)
                with trio.fail_after(2):
                    assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            assert process.stderr is not None
            await process.stderr.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "0.0.0.0:0"], "needs tls_cert and tls_key"),
        (["--topology", "/does/not/exist.yaml"], "cannot be read"),
        (["--tls-cert", __file__, "--tls-key", __file__], "cannot use --tls-cert"),
        (["--listen", "192.0.2.1:1", "--tls-cert", "CERT", "--tls-key", "KEY"], "cannot"),
    ],
)
async def test_what_it_cannot_do_it_says_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    with trio.fail_after(30):
        done = await trio.run_process(
            [*COMMAND, *PORTS, *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=ENVIRONMENT,
        )
    text = done.stderr.decode()
    assert done.returncode != 0 and message in text and "Traceback" not in text
