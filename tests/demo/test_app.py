"""The demo from start to end, over processes that stand in for controller, nodes, publisher and player."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from relaymesh.demo.app import DemoFailed, Options, run_demo

FAKES = (sys.executable, "-m", "tests.demo.fake_process")
pytestmark = pytest.mark.processes


def children_left() -> list[str]:
    """Command lines of processes that this one started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == os.getpid():
                    found.append((entry / "cmdline").read_text())
            except (OSError, ValueError):
                continue
    return [line for line in found if "fake_process" in line]


def test_the_demo_ends_by_itself_and_judges(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_demo(Options(3, True, 0, tmp_path, FAKES)) is True
    output = capsys.readouterr()
    result = json.loads(output.out)
    assert result["passed"] is True
    assert len(result["checks"]) == 5
    assert "Watch it at http://localhost:" in output.err
    assert {log.stem for log in tmp_path.glob("*.log")} >= {"controller", "dallas-1", "player", "publisher"}
    assert children_left() == []


def test_a_child_that_dies_ends_the_demo_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_DIES", "play")
    with pytest.raises(DemoFailed, match=r"player ended with exit code 3.*\n.*I cannot go on"):
        run_demo(Options(3, True, None, None, FAKES))
    assert capsys.readouterr().out == ""
    assert children_left() == []


def test_a_child_that_does_not_obey_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaymesh.demo.processes.GRACE_S", 0.3)
    monkeypatch.setenv("FAKE_DEAF", "node")
    assert run_demo(Options(3, True, None, None, FAKES)) is True
    assert children_left() == []


def test_a_taken_port_is_named() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DemoFailed, match=f"port {port} cannot be used"):
            run_demo(Options(1, True, port, None, FAKES))
