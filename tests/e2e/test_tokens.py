"""Room tokens with real processes: commands, pages, keys that rotate, and workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Error

from tests.e2e.processes import Mesh, square_mesh, wait_for

CLIENT = (sys.executable, "-m", "relaymesh")


def relaymesh(*arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command to its end, with the token in its environment."""
    environment = os.environ | ({} if token is None else {"RELAYMESH_ROOM_TOKEN": token})
    return subprocess.run([*CLIENT, *arguments], capture_output=True, text=True, timeout=60, env=environment)


def made(*arguments: str) -> str:
    result = relaymesh("token", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def token(keys: Path, name: str, *grants: str) -> str:
    return made("create", "--keys", str(keys), "--room", "e2e", "--name", name, *grants)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Private halves, for who makes tokens; the node has public.json beside it."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys.json").write_text(made("key", "--eddsa", "--id", "first"))
    (folder / "public.json").write_text(made("public", str(folder / "keys.json")))
    return folder / "keys.json"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, keys: Path):
    """One node of a mesh, with keys."""
    mesh = square_mesh(tmp_path_factory.mktemp("mesh"))
    try:
        mesh.start_controller()
        mesh.start_node("a", room_keys=str(keys.with_name("public.json")))
        wait_for(lambda: mesh.status("a")["controller"] == "connected", what="a node that joined")
        yield mesh
    finally:
        mesh.stop()


def refused(mesh: Mesh) -> dict[str, int]:
    counts: dict[str, int] = mesh.status("a")["counters"]["access_refused"]
    return counts


@pytest.mark.processes
def test_commands_publish_and_play_with_tokens(mesh: Mesh, keys: Path) -> None:
    whip, whep = mesh.http("a", "/whip/e2e/clock"), mesh.http("a", "/whep/e2e/clock")
    assert "401: a room token is needed" in relaymesh("publish", whip).stderr
    listener = token(keys, "listener", "--subscribe")
    assert "403: the token is for listener" in relaymesh("publish", whip, token=listener).stderr
    publisher = mesh.command(
        "clock",
        "publish",
        whip,
        environment={"RELAYMESH_ROOM_TOKEN": token(keys, "clock", "--publish", "all")},
    )
    wait_for(lambda: mesh.status("a")["publications"], what="the publication")
    played = relaymesh("play", whep, "--json", "--for", "4", token=listener)
    assert played.returncode == 0, played.stderr
    assert json.loads(played.stdout.splitlines()[-1])["frames_distinct"] >= 25
    assert "401" in relaymesh("play", whep, "--for", "4").stderr
    assert publisher.stop() == 0
    wait_for(lambda: not mesh.status("a")["sessions"], what="the end of all sessions")
    assert refused(mesh) == {"missing": 2, "participant": 1}
    log = mesh.processes["a"].log.read_text()
    assert listener not in log and listener.split(".")[2] not in log


@pytest.mark.processes
def test_keys_rotate_under_a_running_node(mesh: Mesh, keys: Path, tmp_path: Path) -> None:
    both, public = tmp_path / "both.json", keys.with_name("public.json")
    both.write_text(made("key", "--eddsa", "--id", "second", "--beside", str(keys)))
    old, new = (token(file, "clock", "--publish", "all") for file in (keys, both))
    whip = mesh.http("a", "/whip/e2e/clock")

    def replace(content: str) -> None:
        (tmp_path / "next.json").write_text(content)
        os.replace(tmp_path / "next.json", public)

    before = public.read_text()
    assert "not known here" in relaymesh("publish", whip, "--for", "1", token=new).stderr
    replace(made("public", str(both)))
    for good in (old, new):
        assert relaymesh("publish", whip, "--for", "1", token=good).returncode == 0
    replace("half a fi")
    assert relaymesh("publish", whip, "--for", "1", token=new).returncode == 0
    replace(before)
    assert "not known here" in relaymesh("publish", whip, "--for", "1", token=new).stderr
    assert "still hold" in mesh.processes["a"].log.read_text()


@pytest.mark.browser
@pytest.mark.processes
def test_pages_take_a_token_from_their_fragment(mesh: Mesh, keys: Path, browsers) -> None:
    camera, player = (browser.new_context().new_page() for browser in browsers)
    camera.goto(mesh.http("a", "/publish.html?room=e2e&name=cam"))
    with pytest.raises(Error, match="a room token is needed"):
        camera.evaluate("publish()")
    asked: list[str] = []
    camera.on("request", lambda request: asked.append(request.url))
    secret = token(keys, "cam", "--publish", "camera,microphone")
    camera.goto("about:blank")
    camera.goto(mesh.http("a", f"/publish.html?room=e2e&name=cam#token={secret}"))
    assert camera.evaluate("publish()") == "connected"
    viewer = token(keys, "viewer", "--subscribe")
    # By the name localhost the page is of another origin than the node that it plays from.
    page = mesh.http("a", f"/play.html?room=e2e&name=cam&node={mesh.http('a')}#token={viewer}")
    player.goto(page.replace("127.0.0.1", "localhost", 1))
    assert player.evaluate("play()") > 0
    for page in (player, camera):
        page.evaluate("leave()")
    wait_for(lambda: not mesh.status("a")["sessions"], what="both to have left")
    sent = [url for url in asked if "#" not in url]
    assert sent and not any(secret in url for url in sent)


@pytest.mark.processes
def test_workers_check_tokens_too(tmp_path: Path, keys: Path) -> None:
    mesh = square_mesh(tmp_path)
    try:
        mesh.start_controller()
        site = mesh.command(
            "site",
            *("node", "--name", "s", "--region", mesh.topology.node("a").region, "--workers", "2"),
            *("--controller", f"ws://127.0.0.1:{mesh.control_ports[0]}"),
            *("--relay", "127.0.0.1:0", "--media", "127.0.0.1:0"),
            *("--http", f"127.0.0.1:{mesh.http_ports['a']}", "--room-keys", str(keys)),
            environment={"RELAYMESH_NODE_TOKEN": made("join", "--name", "s", "--secret", mesh.secret)},
        )
        wait_for(lambda: all(w["state"] == "up" for w in mesh.status("a")["workers"]), what="all workers")
        whip = mesh.http("a", "/whip/e2e/clock")
        assert "401: a room token is needed" in relaymesh("publish", whip).stderr
        good = token(keys, "clock", "--publish", "all")
        assert relaymesh("publish", whip, "--for", "1", token=good).returncode == 0
        assert site.stop() == 0
    finally:
        mesh.stop()
