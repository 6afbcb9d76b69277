"""Headless participants on real processes: aiortc, GStreamer, across a transit node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import own_address, square_mesh, wait_for

pytestmark = pytest.mark.processes

GST_SCRIPT = Path(__file__).parent / "gst_whip.py"
SYSTEM_PYTHON = "/usr/bin/python3"


def play(mesh, name: str, seconds: float, edge: str = "c") -> dict:
    """What a headless player saw, by its own JSON summary."""
    result = subprocess.run(
        [
            *(sys.executable, "-m", "relaymesh"),
            *("play", mesh.http(edge, f"/whep/e2e/{name}"), "--json", "--for", str(seconds)),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 40,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def publisher(mesh):
    started = []

    def publish(name: str, *options: str, at: str = "a"):
        process = mesh.command(name, "publish", mesh.http(at, f"/whip/e2e/{name}"), *options)
        started.append(process)
        wait_for(
            lambda: any(s["participant"] == name for s in mesh.state()["publications"]),
            what=f"{name} publishing",
        )
        return process

    yield publish
    for process in started:
        process.stop()


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_aiortc_publishes_and_plays_across_the_mesh(mesh, publisher, codec, capsys):
    name = f"aiortc-{codec.lower()}"
    publisher(name, "--codec", codec)
    seen = play(mesh, name, 8)
    with capsys.disabled():
        print(
            f"\n  aiortc {codec}: {seen['frames_distinct']} frames, {seen['frames_lost']} lost, "
            f"{seen['audio_frames']} audio frames, first frame {seen['first_frame_ms']:.0f} ms"
        )
    assert seen["frames_distinct"] >= 100
    assert seen["frames_lost"] <= 0.05 * seen["frames_distinct"]
    assert seen["audio_frames"] >= 200
    assert seen["latency"]["min_ms"] >= 9, "it really went over the delayed links"


def test_gstreamer_publishes_by_whip(tmp_path, capsys):
    probe = [SYSTEM_PYTHON, "-c", "import gi; gi.require_version('GstWebRTC', '1.0')"]
    if shutil.which(SYSTEM_PYTHON) is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("GStreamer's WebRTC packages are not here")
    try:
        # libnice never reaches a candidate on 127.0.0.1; the packets still stay on this machine.
        mesh = square_mesh(tmp_path, media_host=own_address())
    except OSError:
        pytest.skip("GStreamer needs an address besides loopback, and this machine has none")
    process = None
    try:
        mesh.start()
        process = subprocess.Popen(
            [SYSTEM_PYTHON, str(GST_SCRIPT), mesh.http("a", "/whip/e2e/gst"), "VP8", "30"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(
            lambda: any(s["participant"] == "gst" for s in mesh.state()["publications"]), what="GStreamer"
        )
        seen = play(mesh, "gst", 8)
    finally:
        if process is not None:
            process.terminate()
            process.wait(10)
        mesh.stop()
    with capsys.disabled():
        print(f"\n  GStreamer: {seen['frames_decoded']} frames decoded, {seen['audio_frames']} audio frames")
    # Its test picture has no clock of ours in it: frames count as decoded, not as distinct.
    assert seen["frames_decoded"] >= 100
    assert seen["audio_frames"] >= 100
