"""Two controllers and a NATS server: whoever dies, media does not notice, and somebody leads soon."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.controller.store.nats_server import NatsServer
from tests.e2e.processes import Mesh, Process, square_mesh, wait_for

pytestmark = pytest.mark.processes

ROOM, NAME = "e2e", "steady"


@pytest.fixture
def server(tmp_path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def mesh(tmp_path, server) -> Iterator[Mesh]:
    """Two controllers, four nodes, one who publishes at a and one who plays at c."""
    mesh = square_mesh(tmp_path, store=server.url, controllers=2)
    try:
        mesh.start()
        mesh.command("publisher", "publish", mesh.http("a", f"/whip/{ROOM}/{NAME}"), "--for", "120")
        wait_for(lambda: mesh.state()["streams"], what="a stream")
        mesh.command("player", "play", mesh.http("c", f"/whep/{ROOM}/{NAME}"), "--for", "120")
        wait_for(lambda: counted(mesh)[0] > 100, what="media at c")
        yield mesh
    finally:
        mesh.stop()


def counted(mesh: Mesh) -> tuple[int, int]:
    """Packets of the stream that reached edge c, and those that did not."""
    for stream in mesh.status("c")["streams"]:
        if stream["participant"] == NAME:
            tracks = stream["tracks"]
            return sum(track["packets"] for track in tracks), sum(track["lost"] for track in tracks)
    return 0, 0


def let_pass(mesh: Mesh, packets: int) -> None:
    """Wait until so many more packets came: media goes on."""
    before = counted(mesh)[0]
    wait_for(lambda: counted(mesh)[0] >= before + packets, what="media going on")


def until_leads(mesh: Mesh, number: int, began: float) -> tuple[float, float]:
    """Seconds since *began* until that controller leads, and until all nodes are in a plan of its."""
    wait_for(lambda: mesh.role(number) == "leader", what="a takeover")
    led = time.monotonic() - began
    mesh.leader = number
    mesh.wait_until_routed()
    return led, time.monotonic() - began


def controller(mesh: Mesh, number: int) -> Process:
    return mesh.processes[f"controller-{number}" if number else "controller"]


def test_the_standby_leads_when_the_leader_is_killed_and_when_it_stops(mesh, capsys):
    assert (mesh.role(0), mesh.role(1)) == ("leader", "standby")
    epoch, generation = mesh.state()["leader_epoch"], mesh.state()["generation"]
    indexes = {node["name"]: node["index"] for node in mesh.state()["nodes"]}
    lost_before = counted(mesh)[1]
    began = time.monotonic()
    controller(mesh, 0).stop(signal.SIGKILL)
    led, joined = until_leads(mesh, 1, began)
    let_pass(mesh, 200)
    killed = counted(mesh)[1] - lost_before
    assert led <= 5.0
    assert mesh.state()["leader_epoch"] > epoch and mesh.state()["generation"] > generation
    assert {node["name"]: node["index"] for node in mesh.state()["nodes"]} == indexes

    mesh.start_controller(0)
    assert mesh.role(0) == "standby"
    began = time.monotonic()
    assert controller(mesh, 1).stop() == 0
    led_after_stop, joined_after_stop = until_leads(mesh, 0, began)
    let_pass(mesh, 200)
    stopped = counted(mesh)[1] - lost_before - killed
    with capsys.disabled():
        print(
            f"\n  SIGKILL: the standby leads after {led:.2f} s, all nodes joined after {joined:.2f} s, "
            f"{killed} packets lost\n  clean stop: leads after {led_after_stop:.2f} s, all joined after "
            f"{joined_after_stop:.2f} s, {stopped} packets lost"
        )
    assert led_after_stop <= 2.0
    assert (killed, stopped) == (0, 0)


def test_media_and_joins_go_on_while_the_store_is_down(mesh, server, capsys):
    epoch = mesh.state()["leader_epoch"]
    lost_before = counted(mesh)[1]
    server.stop()
    wait_for(lambda: mesh.role(0) == "lapsed", what="a lapse")
    assert mesh.role(1) == "standby"
    # A new player of a known room, at an edge that did not carry it.
    mesh.command("late", "play", mesh.http("t1", f"/whep/{ROOM}/{NAME}"), "--for", "60")
    wait_for(
        lambda: any(s["tracks"] and s["tracks"][0]["packets"] for s in mesh.status("t1")["streams"]),
        what="media for who joins meanwhile",
    )
    let_pass(mesh, 200)
    assert (mesh.role(0), mesh.role(1)) == ("lapsed", "standby")
    server.start()
    began = time.monotonic()
    wait_for(lambda: "leader" in (mesh.role(0), mesh.role(1)), what="a leader again")
    back = time.monotonic() - began
    mesh.leader = 0 if mesh.role(0) == "leader" else 1
    mesh.wait_until_routed()
    let_pass(mesh, 100)
    with capsys.disabled():
        print(
            f"\n  the store back: controller {mesh.leader} leads after {back:.2f} s, epoch {epoch} → "
            f"{mesh.state()['leader_epoch']}, {counted(mesh)[1] - lost_before} packets lost"
        )
    assert counted(mesh)[1] == lost_before
    assert mesh.state()["leader_epoch"] >= epoch
