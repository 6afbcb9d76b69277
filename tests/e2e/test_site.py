"""A site of two workers as real processes: one address, links between them, deaths, and one stop for all."""

from __future__ import annotations

import os
import re
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from relaymesh.controller.tokens import make_join_token
from tests.e2e.processes import Mesh, Process, get_json, square_mesh, wait_for

pytestmark = pytest.mark.processes

OFFER = (Path(__file__).parent.parent / "vectors" / "sdp" / "chromium-whip.sdp").read_text()
FOR_S = "120"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """A controller; tests start the site they need."""
    mesh = square_mesh(tmp_path_factory.mktemp("site"))
    try:
        mesh.start_controller()
        yield mesh
    finally:
        mesh.stop()


def start_site(mesh: Mesh, name: str = "a", **options: str) -> Process:
    options = {
        "name": name,
        "region": "a",
        "controller": f"ws://127.0.0.1:{mesh.control_ports[0]}",
        "relay": "127.0.0.1:0",
        "media": "127.0.0.1:0",
        "http": f"127.0.0.1:{mesh.http_ports[name]}",
        "workers": "2",
        "log-format": "json",
        **options,
    }
    arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
    token = make_join_token(mesh.secret, name=name)
    return mesh.command(f"site-{name}", "node", *arguments, environment={"RELAYMESH_NODE_TOKEN": token})


def workers(mesh: Mesh, name: str = "a") -> list[Any]:
    return mesh.status(name)["workers"]


def in_the_mesh(mesh: Mesh, name: str = "a") -> list[int]:
    """The processes of all workers, once each is up and knows the other."""

    def ready() -> list[int]:
        found = workers(mesh, name)
        able = all(worker["state"] == "up" and worker["connected"] for worker in found)
        return [worker["pid"] for worker in found] if able and all(map(knows_sibling, found)) else []

    def knows_sibling(worker: Any) -> bool:
        links = get_json(f"{worker['url']}/status")["links"]
        return any(link["up"] and link["peer"].startswith(f"{name}.") for link in links)

    return wait_for(ready, what="both workers and the links between them")


def is_gone(pid: int) -> bool:
    try:
        return b"relaymesh.site.worker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return True


def ask(url: str, method: str, body: str = "", **headers: str) -> tuple[int, Any, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body.encode() or None, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def played(mesh: Mesh, number: int) -> int:
    """Packets of the stream at that worker, where it has players."""
    found = get_json(mesh.http("a", f"/worker/{number}/status"))
    if not any(session["role"] == "player" for session in found["sessions"]):
        return 0
    return sum(track["packets"] for stream in found["publications"] for track in stream["tracks"])


def goes_on(mesh: Mesh, number: int) -> None:
    before = played(mesh, number)
    wait_for(lambda: played(mesh, number) > before + 100, what=f"media going on at worker {number}")


def check_signalling(mesh: Mesh) -> None:
    """What follows an offer reaches the worker that took it, by the Location it gave."""
    opened = []
    for name in ("one", "two"):
        url = mesh.http("a", f"/whip/e2e/{name}")
        status, headers, _ = ask(url, "POST", OFFER, content_type="application/sdp")
        assert status == 201
        opened.append((headers["Location"], headers["ETag"]))
    assert [location.partition("/session/")[0] for location, _ in opened] == ["/worker/1", "/worker/2"]
    credentials = "\r\n".join(re.findall(r"(?m)^a=ice-(?:ufrag|pwd):\S+", OFFER)[:2])
    fragment = f"{credentials}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=end-of-candidates\r\n"
    for location, tag in opened:
        session = mesh.http("a", location)
        kind = "application/trickle-ice-sdpfrag"
        status, _, said = ask(session, "PATCH", fragment, content_type=kind, if_match=tag)
        assert status == 204, said
        assert ask(session, "DELETE")[0] == 200
        assert ask(session, "DELETE")[0] == 404
    wait_for(lambda: [worker["sessions"] for worker in workers(mesh)] == [0, 0], what="their end")


def test_one_address_two_workers_and_the_death_of_one(mesh):
    site = start_site(mesh)
    pids = in_the_mesh(mesh)
    assert {node["name"] for node in mesh.state()["nodes"]} == {"a.1", "a.2"}
    check_signalling(mesh)

    mesh.command("publisher", "publish", mesh.http("a", "/worker/1/whip/e2e/clock"), "--for", FOR_S)
    wait_for(lambda: mesh.state()["publications"], what="a stream")
    assert [worker["sessions"] for worker in workers(mesh)] == [1, 0]
    for number in (2, 1):  # the fewest clients are at 2, then as many as at 1
        mesh.command(f"player-{number}", "play", mesh.http("a", "/whep/e2e/clock"), "--for", FOR_S)
        wait_for(lambda n=number: played(mesh, n) > 100, what=f"a player at worker {number}")
        wait_for(lambda: sum(worker["sessions"] for worker in workers(mesh)) > 1, what="its report")

    os.kill(pids[1], signal.SIGKILL)
    wait_for(lambda: workers(mesh)[1]["state"] != "up", what="noticing a death")
    assert ask(mesh.http("a", "/worker/2/session/x"), "DELETE")[0] == 503
    goes_on(mesh, 1)
    after = in_the_mesh(mesh)
    assert after[0] == pids[0] and after[1] != pids[1]
    assert [worker["restarts"] for worker in workers(mesh)] == [0, 1]
    mesh.command("late", "play", mesh.http("a", "/worker/2/whep/e2e/clock"), "--for", FOR_S)
    wait_for(lambda: played(mesh, 2) > 100, what="a player at the worker that came back")
    goes_on(mesh, 1)

    assert site.stop(signal.SIGTERM) == 0
    assert all(is_gone(pid) for pid in (*pids, *after))
    log = site.tail(1000)
    assert '"node": "a.1"' in log and '"node": "a.2"' in log and "Traceback" not in log


def test_workers_do_not_outlive_their_supervisor(mesh):
    site = start_site(mesh, "c")
    pids = in_the_mesh(mesh, "c")
    assert site.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_for(lambda: all(is_gone(pid) for pid in pids), 10, "the end of the workers")


def test_a_worker_that_cannot_start_ends_the_site_with_a_reason(mesh):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        site = start_site(mesh, "t1", media=f"127.0.0.1:{port - 1}")
        assert site.popen.wait(30) == 1
    log = site.tail(100)
    assert "in use" in log and "worker t1.2 could not start" in log and "Traceback" not in log
