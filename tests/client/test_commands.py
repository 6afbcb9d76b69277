"""`relaymesh publish` and `relaymesh play` as real processes, against a stand-in for a node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ENVIRONMENT = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default"}


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `python …`; whatever still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [sys.executable, *arguments]
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def node(start: Start) -> int:
    """The port of a stand-in node in a process of its own."""
    process = start("-m", "tests.client.fake_node", "0")
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.mark.processes
def test_publish_and_play_as_commands(start: Start, node: int, tmp_path: Path) -> None:
    publisher = start(
        "-m", "relaymesh", "publish", f"http://127.0.0.1:{node}/whip/demo/clock",
        "--size", "320x180", "--json", "--report-every", "0.2",
    )  # fmt: skip
    assert publisher.stdout is not None
    while json.loads(publisher.stdout.readline())["state"] != "connected":
        pass
    frame = tmp_path / "frame.png"
    player = start(
        "-m", "relaymesh", "play", f"http://127.0.0.1:{node}/whep/demo/clock",
        "--for", "2", "--json", "--save-frame", str(frame),
    )  # fmt: skip
    played, complaints = player.communicate(timeout=30)
    publisher.send_signal(signal.SIGTERM)
    published, more_complaints = publisher.communicate(timeout=30)
    assert (player.returncode, complaints) == (0, "")
    assert (publisher.returncode, more_complaints) == (0, "")
    seen = json.loads(played.splitlines()[-1])
    assert seen["frames_distinct"] >= 10
    assert seen["audio_frames"] >= 20
    assert frame.stat().st_size > 1000
    summary = json.loads(published.splitlines()[-1])
    assert summary["event"] == "summary"
    assert summary["frames"] > seen["frames_distinct"]


@pytest.mark.processes
def test_play_of_a_stream_that_is_not_there_says_so(start: Start, node: int) -> None:
    player = start("-m", "relaymesh", "play", f"http://127.0.0.1:{node}/whep/demo/nobody", "--for", "5")
    output, complaints = player.communicate(timeout=30)
    assert player.returncode == 1
    assert output == ""
    assert complaints == "Error: 404: nobody publishes demo/nobody\n"
