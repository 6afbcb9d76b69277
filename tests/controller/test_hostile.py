"""Nodes that lie, stutter or shout: refused, counted, and nobody else's routes move."""

from __future__ import annotations

import math
import random
from typing import Any

import msgpack
import msgspec
import pytest

from relaymesh.controller.lease import MAX_BELIEVED_EPOCH
from relaymesh.controller.tokens import make_join_token
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import (
    LinkReport,
    Refused,
    Report,
    SnapshotWanted,
    TablesHeld,
    decode_node_message,
)
from tests.controller.fake_mesh import SECRET, FakeMesh
from tests.controller.reports import down, up

HONEST = ("a", "b", "c", "d")


def mesh_with_mallory() -> FakeMesh:
    """A ring a-b-c-d, and mallory beside it with a link to a and one to c, longer than the ring's."""
    mesh = FakeMesh()
    for name in (*HONEST, "mallory"):
        mesh.add(name)
    for one, other in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")):
        mesh.wire(one, other, 20.0)
    mesh.wire("a", "mallory", 60.0)
    mesh.wire("c", "mallory", 60.0)
    mesh.run(10.0)
    return mesh


def routes(mesh: FakeMesh) -> dict[tuple[str, str], list[str] | None]:
    return {(one, other): mesh.route(one, other) for one in HONEST for other in HONEST if one != other}


def index(mesh: FakeMesh, name: str) -> int:
    found = mesh.nodes[name].index
    assert found is not None
    return found


def raw(**changes: Any) -> bytes:
    link = {"peer": 1, "up": True, "rtt_ms": 20.0, "jitter_ms": 0.0, "loss_out": 0.0, "loss_in": 0.0}
    counts = {"sent_packets": 1, "received_packets": 1}
    packed: bytes = msgpack.packb({"t": "report", "links": [{**link, **counts, **changes}]})
    return packed


ABSURD: list[dict[str, Any]] = [
    {field: value}
    for field in ("rtt_ms", "jitter_ms", "loss_out", "loss_in", "burst", "residual_loss")
    for value in (math.nan, math.inf, -math.inf, -1.0, 1e300, "20", None, [], {})
]
ABSURD += [{"peer": value} for value in (-1, 2040, 1 << 63, 1.5, "a")]
ABSURD += [{"up": value} for value in (1, "yes", None)]
ABSURD += [{"sent_packets": value} for value in (-1, 1 << 63, 0.5)]


@pytest.mark.parametrize("changes", ABSURD, ids=str)
def test_no_absurd_value_gets_past_the_decoder(changes: dict[str, Any]) -> None:
    assert isinstance(decode_node_message(raw()), Report)
    with pytest.raises(ProtocolError):
        decode_node_message(raw(**changes))


def test_a_channel_that_carries_garbage_is_closed_and_only_that_one() -> None:
    mesh = mesh_with_mallory()
    before = routes(mesh)
    for _ in range(50):
        mesh.garble("mallory")
        mesh.run(0.05)
        mesh.connect("mallory")
    mesh.run(10.0)
    assert all(node.conn_id is not None for node in mesh.nodes.values())
    assert routes(mesh) == before
    assert len(mesh.closed) == 50
    assert mesh.core.counters["refused-malformed"] == 50


def test_links_of_others_are_not_mallorys_to_speak_of() -> None:
    mesh = mesh_with_mallory()
    before, plans = routes(mesh), mesh.core.counters["plans"]
    mesh.nodes["mallory"].sends_reports = False
    strangers = [index(mesh, name) for name in ("mallory",)] + [999, 2039]
    for _ in range(200):
        mesh.tell("mallory", Report(tuple(down(peer) for peer in strangers)))
        mesh.run(0.1)
    assert routes(mesh) == before
    assert mesh.core.counters["plans"] == plans
    dropped = mesh.core.debug_state()["intake"]["dropped"]  # type: ignore[index]
    assert dropped["report-foreign-link"] == 200 * len(strangers)


def test_nobody_is_drawn_by_links_that_are_said_to_be_short() -> None:
    mesh = mesh_with_mallory()
    before = routes(mesh)
    mesh.nodes["mallory"].sends_reports = False
    for _ in range(100):
        mesh.tell("mallory", Report(tuple(up(index(mesh, name), 0.0) for name in HONEST)))
        mesh.run(0.2)
    assert routes(mesh) == before


def test_whatever_mallory_says_of_its_own_links_the_others_reach_each_other_as_before() -> None:
    mesh = mesh_with_mallory()
    before, rng = routes(mesh), random.Random(8)
    mesh.nodes["mallory"].sends_reports = False

    def anything(peer: int) -> LinkReport:
        return LinkReport(
            peer, rng.random() < 0.5, rng.choice([0.0, 1.0, 60_000.0]), rng.choice([0.0, 60_000.0]),
            rng.random(), rng.random(), rng.getrandbits(60), 0, 1.0 + 1e5 * rng.random(), rng.random(),
        )  # fmt: skip

    for _ in range(300):
        mesh.tell("mallory", Report(tuple(anything(index(mesh, name)) for name in HONEST)))
        mesh.run(0.1)
        assert routes(mesh) == before


def test_a_flood_of_reports_is_counted_and_hurts_the_flooder_alone() -> None:
    mesh = mesh_with_mallory()
    before = routes(mesh)
    for _ in range(20):
        for _ in range(500):
            mesh.tell("mallory", Report((up(index(mesh, "a")), down(index(mesh, "c")))))
        mesh.run(0.5)
        assert routes(mesh) == before
    intake = mesh.core.debug_state()["intake"]
    assert intake["dropped"]["report-flood"] > 9_000  # type: ignore[index]
    assert set(intake["dropped_by_node"]) == {index(mesh, "mallory")}  # type: ignore[index]
    mesh.wire("a", "b", None)  # the others are still heard
    mesh.run(2.0)
    assert mesh.route("a", "b") == ["a", "d", "c", "b"]


def test_a_stolen_name_gets_nothing() -> None:
    mesh = mesh_with_mallory()
    before, keys = routes(mesh), dict(mesh.nodes["a"].links)
    thief = mesh.nodes["mallory"]
    for token in (make_join_token(SECRET, name="a"), make_join_token(SECRET, name="mallory"), "no token"):
        conn_id = mesh.channel()
        stolen = type(thief)("a", "here", boot=99)
        mesh.say(conn_id, stolen.join(token))
        assert conn_id in mesh.closed
    mesh.run(5.0)
    assert routes(mesh) == before
    assert mesh.nodes["a"].links == keys and mesh.nodes["a"].conn_id is not None
    assert not any(isinstance(message, Refused) for message in mesh.nodes["a"].heard)


def test_old_and_unheard_of_generations_move_nothing() -> None:
    """Words about tables that are not in flight; the mesh goes on planning, and numbers never go back."""
    mesh = mesh_with_mallory()
    before, active = routes(mesh), mesh.core.active_generation
    for generation in (0, active - 1, active + 1, 1 << 31, (1 << 32) - 1):
        mesh.tell("mallory", TablesHeld(generation))
        mesh.tell("mallory", SnapshotWanted())
        mesh.run(0.2)
    assert routes(mesh) == before and mesh.core.active_generation == active
    assert mesh.core.counters["snapshot-wanted"] == 5
    mesh.nodes["mallory"].answers = False  # nor does it hold up the next plan
    mesh.wire("a", "b", None)
    mesh.run(3.0)
    assert mesh.route("a", "b") == ["a", "d", "c", "b"]
    assert mesh.core.active_generation > active


@pytest.mark.parametrize("claimed", [0, 1, 6, 1 << 31, (1 << 32) - 1])
def test_an_old_or_absurd_epoch_of_a_node_moves_nothing(claimed: int) -> None:
    """Of a node that joins again: what was long ago is no news, and what is beyond belief is none either."""
    mesh = mesh_with_mallory()
    mesh.core.reign.renew(7, math.inf)
    before, active = routes(mesh), mesh.core.active_generation
    mallory = mesh.nodes["mallory"]
    for _ in range(3):
        if mallory.conn_id is not None:  # beyond belief: it was refused
            mesh.disconnect("mallory")
        token = make_join_token(SECRET, name="mallory")
        mallory.conn_id = mesh.channel()
        forged = msgspec.structs.replace(mallory.join(token), leader_epoch=claimed, generation=claimed)
        mesh.say(mallory.conn_id, forged)
        mesh.run(12.0)
        assert routes(mesh) == before
    assert 7 <= mesh.core.reign.epoch <= MAX_BELIEVED_EPOCH
    assert active <= mesh.core.active_generation < 1 << 32
    assert all(mesh.nodes[name].conn_id is not None for name in HONEST)
    mesh.wire("a", "b", None)
    mesh.run(12.0)
    assert mesh.route("a", "b") == ["a", "d", "c", "b"]


def test_what_comes_on_a_channel_that_was_replaced_counts_for_nothing() -> None:
    """The old life of a node that came back: its words are not its own any more."""
    mesh = mesh_with_mallory()
    old = mesh.nodes["a"].conn_id
    assert old is not None
    mesh.connect("a")
    mesh.run(3.0)
    before, plans = routes(mesh), mesh.core.counters["plans"]
    for _ in range(20):
        mesh.say(old, Report(tuple(down(index(mesh, name)) for name in HONEST if name != "a")))
        mesh.run(0.2)
    assert routes(mesh) == before and mesh.core.counters["plans"] == plans
    assert old in mesh.closed
