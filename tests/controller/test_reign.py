"""A core as one leader among several: its epoch, what it remembers, and what it does not do when lapsed."""

from __future__ import annotations

import msgspec

from relaymesh.controller.core import ControllerCore, Disconnect
from relaymesh.controller.reign import Reign
from relaymesh.controller.remembered import GENERATION_GAP, KEY_EPOCH_GAP, Remembered
from relaymesh.controller.tokens import make_join_token
from relaymesh.protocol.messages import (
    Activate,
    Delta,
    Join,
    Links,
    ParticipantName,
    PublicationInfo,
    Refused,
    Snapshot,
    Subscribe,
    SubscribeReply,
    Welcome,
)
from relaymesh.topology import parse_topology
from tests.controller.fake_mesh import SECRET, FakeMesh

STREAM, INFO = ParticipantName("room", "ann"), PublicationInfo("room", "ann", ())


def triangle(**options: float) -> FakeMesh:
    mesh = FakeMesh(**options)
    for name in ("a", "b", "c"):
        mesh.add(name)
    for one, other in (("a", "b"), ("b", "c"), ("a", "c")):
        mesh.wire(one, other, 20.0)
    mesh.run(3)
    return mesh


def succeed(mesh: FakeMesh, reign: Reign, *, reconnect: bool = True) -> ControllerCore:
    """Another controller leads; the nodes come to it. The core of before."""
    before = mesh.core
    mesh.restart_controller()
    mesh.core = ControllerCore(
        mesh.options,
        mesh.policy,
        key_source=mesh.rng.randbytes,
        unix_time=lambda: mesh.unix_time,
        reign=reign,
    )
    if reconnect:
        for name, node in mesh.nodes.items():
            if node.running:
                mesh.connect(name)
    return before


def test_every_message_that_moves_something_carries_the_epoch() -> None:
    mesh = triangle()
    mesh.core.reign.renew(9, mesh.now + 1000)
    mesh.add("d")
    mesh.wire("d", "a", 5.0)
    mesh.run(3)
    heard = mesh.nodes["d"].heard
    kinds = (Welcome, Links, Snapshot, Delta, Activate)
    assert {type(m) for m in heard} >= {Welcome, Links, Snapshot, Activate}
    assert {m.leader_epoch for m in heard if isinstance(m, kinds)} == {9}


def test_a_successor_gives_everybody_its_index_and_counts_generations_and_key_epochs_on() -> None:
    mesh = triangle()
    mesh.add("gone")
    mesh.run(2)
    index_of_gone = mesh.nodes["gone"].index
    mesh.kill("gone")
    indexes = {name: node.index for name, node in mesh.nodes.items()}
    generation = mesh.nodes["a"].active
    epochs = {peer: link.epoch for peer, link in mesh.nodes["a"].links.items()}
    succeed(mesh, Reign(2, until=mesh.now + 1e6, sole=False, remembered=mesh.core.remembered()))
    newcomer = mesh.add("new")
    mesh.run(12)
    assert {name: node.index for name, node in mesh.nodes.items() if name in indexes} == indexes
    assert newcomer.index not in (None, index_of_gone), "one that is away keeps its index"
    assert mesh.nodes["a"].active > generation + GENERATION_GAP
    for peer, link in mesh.nodes["a"].links.items():
        if peer in epochs and peer != index_of_gone:
            assert link.epoch == (epochs[peer] + KEY_EPOCH_GAP) % 256
    assert mesh.route("a", "c") == ["a", "c"]
    assert set(mesh.core.remembered().indexes) == {"a", "b", "c", "gone", "new"}


def test_a_node_whose_link_partner_is_late_is_not_told_to_forget_it() -> None:
    mesh = triangle()
    succeed(
        mesh,
        Reign(2, until=mesh.now + 1e6, sole=False, remembered=mesh.core.remembered()),
        reconnect=False,
    )
    mesh.connect("a")
    assert mesh.nodes["b"].index in mesh.nodes["a"].links
    assert all(m.remove == () for m in mesh.nodes["a"].said(Links) if m.leader_epoch == 2)


def test_a_node_that_forwards_under_an_index_keeps_it_whatever_was_remembered() -> None:
    mesh = triangle()
    stale = Remembered(1, {"x": 1, "y": 2})
    before = {name: node.index for name, node in mesh.nodes.items()}
    succeed(mesh, Reign(2, until=mesh.now + 1e6, sole=False, remembered=stale))
    assert {name: node.index for name, node in mesh.nodes.items()} == before


def test_a_lapsed_leader_plans_nothing_rekeys_nothing_and_gives_nobody_up() -> None:
    mesh = triangle(key_rotation_s=20.0)
    mesh.core.reign.renew(1, mesh.now + 1)
    mesh.run(2)
    said = {name: len(node.heard) for name, node in mesh.nodes.items()}
    mesh.wire("a", "c", None)
    mesh.kill("b")
    mesh.run(60)
    assert {name: len(node.heard) for name, node in mesh.nodes.items()} == said
    assert mesh.core.state()["role"] == "lapsed"
    mesh.core.reign.renew(1, mesh.now + 1000)
    mesh.wire("a", "c", 20.0)
    mesh.run(30)
    assert mesh.nodes["a"].heard[said["a"] :], "it goes on where it stopped"
    assert mesh.core.state()["role"] == "leader"


def test_a_lapsed_leader_goes_on_with_known_rooms_and_known_nodes_only() -> None:
    mesh = triangle()
    mesh.nodes["a"].published[STREAM] = INFO
    mesh.disconnect("a")
    mesh.connect("a")
    mesh.run(2)
    mesh.core.reign.renew(1, mesh.now + 0.1)
    mesh.run(1)
    mesh.tell("c", Subscribe(5, STREAM))
    reply = mesh.nodes["c"].said(SubscribeReply)[-1]
    assert isinstance(reply, SubscribeReply) and reply.publication == INFO
    assert mesh.nodes["a"].forwards[STREAM] == [mesh.nodes["c"].index]
    mesh.disconnect("b")
    mesh.connect("b")
    assert mesh.nodes["b"].conn_id is not None, "it was in"
    mesh.add("stranger")
    assert mesh.nodes["stranger"].conn_id is None
    mesh.restart("b")
    assert mesh.nodes["b"].conn_id is None, "a new boot needs new keys"


def test_nodes_of_a_leader_that_lapsed_for_long_look_elsewhere_and_may_come_back() -> None:
    mesh = triangle()
    mesh.core.reign.renew(1, mesh.now + 0.1)
    mesh.run(85)
    assert all(node.conn_id is not None for node in mesh.nodes.values())
    mesh.run(10)
    assert all(node.conn_id is None for node in mesh.nodes.values())
    mesh.nodes["a"].published[STREAM] = INFO
    for name in mesh.nodes:
        mesh.connect(name)
    mesh.run(10)
    mesh.tell("c", Subscribe(5, STREAM))
    assert mesh.nodes["a"].forwards[STREAM] == [mesh.nodes["c"].index]
    assert len(mesh.core.state()["nodes"]) == 3


def test_a_process_that_was_stopped_does_not_go_on_as_if_no_time_had_passed() -> None:
    mesh = triangle()
    mesh.core.reign.renew(1, mesh.now + 1)
    mesh.wire("a", "c", None)
    mesh.report()
    mesh.now += 100  # SIGSTOP, SIGCONT
    said = len(mesh.nodes["b"].said(Activate)) + len(mesh.nodes["b"].said(Delta))
    mesh.core.handle_timeout(mesh.now)
    mesh.run(1)
    assert len(mesh.nodes["b"].said(Activate)) + len(mesh.nodes["b"].said(Delta)) == said


def join(mesh: FakeMesh, name: str, leader_epoch: int) -> Join:
    plain = FakeMesh().add(name, connect=False).join(make_join_token(SECRET, name=name))
    return msgspec.structs.replace(plain, leader_epoch=leader_epoch)


def refusals(core: ControllerCore, message: Join) -> list[str]:
    core.handle_join(1, message, 100.0)
    return [m.code for _, m in core.poll_outgoing() if isinstance(m, Refused)]


def test_a_node_that_knows_a_newer_leader_is_refused_and_the_epoch_remembered() -> None:
    mesh = FakeMesh()
    succeed(mesh, Reign(3, until=1e9, sole=False))
    assert refusals(mesh.core, join(mesh, "a", 7)) == ["standby"]
    assert mesh.core.reign.outranked_by == 7
    mesh.core.reign.renew(8, 1e9)
    assert mesh.core.reign.outranked_by == 0
    assert refusals(mesh.core, join(mesh, "a", 7)) == []


def test_the_only_controller_there_is_takes_over_the_epoch_its_nodes_know() -> None:
    mesh = FakeMesh()
    mesh.core.handle_join(1, join(mesh, "a", 7), 100.0)
    welcomes = [m for _, m in mesh.core.poll_outgoing() if isinstance(m, Welcome)]
    assert [m.leader_epoch for m in welcomes] == [7]


def test_a_stranger_moves_no_epoch() -> None:
    mesh = FakeMesh()
    forged = msgspec.structs.replace(join(mesh, "a", 7), token="forged")
    mesh.core.handle_join(1, forged, 100.0)
    sent = mesh.core.poll_outgoing()
    assert [m.code for _, m in sent if isinstance(m, Refused)] == ["token"]
    assert any(isinstance(m, Disconnect) for _, m in sent)
    assert mesh.core.reign.epoch == 1


def test_a_third_of_the_mesh_at_once_is_an_outage_and_ends_no_stream() -> None:
    mesh = FakeMesh()
    names = [f"n{number}" for number in range(9)]
    for name in names:
        mesh.add(name)
    for one in names:
        for other in names:
            if one < other:
                mesh.wire(one, other, 10.0)
    mesh.run(3)
    for name in names[:4]:
        mesh.kill(name)
    mesh.run(100)
    assert mesh.core.state()["nodes"].__len__() == 9
    for name in names[:3]:
        mesh.nodes[name].running = True
        mesh.connect(name)
    mesh.run(20)
    assert names[3] not in [node["name"] for node in mesh.core.state()["nodes"]]


def test_a_topology_that_was_applied_is_the_successors_too() -> None:
    mesh = triangle()
    assert mesh.core.remembered().topology == ""
    edited = parse_topology("version: 1\nname: edited\nregions: [{name: here}, {name: new}]\n")
    mesh.core.apply_topology(edited, mesh.now)
    text = mesh.core.remembered().topology
    assert parse_topology(text) == edited
    succeed(mesh, Reign(2, until=1e9, sole=False, remembered=mesh.core.remembered()))
    assert mesh.core.remembered().topology == text
