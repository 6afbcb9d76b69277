"""Editing a running mesh under load, in virtual time: no packet is lost, repeated or looped by it."""

from __future__ import annotations

import random

import pytest

from relaymesh.controller.editing import EditRefused
from relaymesh.topology import parse_topology
from tests.test_whole_mesh import ALICE, Camera
from tests.whole_mesh import WholeMesh

# What the wires are like: everybody can reach everybody. What is allowed comes from the edits.
WIRES = """version: 1
name: wires
regions: [{name: a}, {name: t1}, {name: t2}, {name: c}, {name: new}]
links:
  - {between: [a, t1], delay_ms: 5}
  - {between: [t1, c], delay_ms: 5}
  - {between: [a, t2], delay_ms: 20}
  - {between: [t2, c], delay_ms: 20}
  - {between: [t1, t2], delay_ms: 9}
  - {between: [a, c], delay_ms: 60}
  - {between: [a, new], delay_ms: 2}
  - {between: [new, c], delay_ms: 2}
  - {between: [new, t1], delay_ms: 2}
  - {between: [new, t2], delay_ms: 2}
"""
FIRST = WIRES.replace(", {name: new}", "").split("  - {between: [a, new]")[0]


def edited(*changes: tuple[str, str], text: str = FIRST) -> str:
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


class Loaded:
    """A mesh under load: a camera at a, a player at c, and the other way round."""

    def __init__(self, text: str = FIRST, seed: int = 1) -> None:
        self.mesh = WholeMesh(parse_topology(WIRES), seed=seed)
        self.apply(text)
        for name in ("a", "t1", "t2", "c"):
            self.mesh.start_node(name)
        self.mesh.run(3.0)
        self.camera = Camera(self.mesh, "a")
        self.camera.film(0.5)
        player = self.mesh.play("c", ALICE)
        assert player is not None
        self.player = player
        self.film(1.0)
        self.mesh.run(0.5)  # what is under way arrives
        self.sent_before, self.got_before = self.camera.sequence, len(player.rtp)

    def apply(self, text: str) -> None:
        assert self.mesh.controller is not None
        self.mesh.controller.apply_topology(parse_topology(text), self.mesh.now)

    def film(self, seconds: float) -> None:
        self.camera.film(seconds)

    def path(self) -> list[str]:
        assert self.mesh.controller is not None
        [publication] = self.mesh.controller.state()["publications"]  # type: ignore[misc]
        path: list[str] = publication["paths"]["c"]
        return path

    def neighbours(self, name: str) -> set[str]:
        return {peer for _, peer, _ in self.mesh.nodes[name].core.relay.neighbours()}

    def assert_nothing_was_lost(self) -> None:
        self.mesh.run(0.5)  # what is under way arrives
        sequences = sorted(packet.sequence for packet in self.player.rtp)
        first = sequences[0]
        assert sequences == list(range(first, first + len(sequences))), "lost or repeated"
        sent, got = self.camera.sequence - self.sent_before, len(self.player.rtp) - self.got_before
        assert got == sent > 0
        for node in self.mesh.nodes.values():
            assert not node.core.forwarder.dropped, node.name
            assert node.core.forwarder.detoured == 0, "no change is a failure"
            for publication in node.core.publications:
                assert all(encoding.duplicates == 0 for encoding in publication.encodings())


CHANGES = {
    "forbid the pair that carries it": (
        [("[a, t1], delay_ms: 5", "[a, t1], peering: never")],
        ["a", "t2", "t1", "c"],
    ),
    "forbid the second pair": ([("[t1, c], delay_ms: 5", "[t1, c], peering: never")], ["a", "t1", "t2", "c"]),
    "pin the slow way": ([("links:", "pins: [{from: a, to: c, via: [t2]}]\nlinks:")], ["a", "t2", "c"]),
    "pin the direct link": ([("links:", "pins: [{from: a, to: c, via: []}]\nlinks:")], ["a", "c"]),
    "make a link dear": (
        [("[a, t1], delay_ms: 5", "[a, t1], delay_ms: 5, extra_cost_ms: 90")],
        ["a", "t2", "t1", "c"],
    ),
    "set a price where only time counts": (
        [("[a, t1], delay_ms: 5", "[a, t1], delay_ms: 5, price_per_gb: 9")],
        ["a", "t1", "c"],
    ),
    "set a price and let it count": (
        [
            ("[t1, c], delay_ms: 5", "[t1, c], delay_ms: 5, price_per_gb: 9"),
            ("version: 1", "version: 1\nobjective: cost"),
        ],
        ["a", "t1", "t2", "c"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_costs_no_packet_and_neither_does_taking_it_back(kind: str) -> None:
    changes, path = CHANGES[kind]
    loaded = Loaded()
    assert loaded.path() == ["a", "t1", "c"]
    loaded.apply(edited(*changes))
    loaded.film(1.0)
    assert loaded.path() == path
    loaded.film(4.0)
    loaded.apply(FIRST)
    loaded.film(3.0)
    assert loaded.path() == ["a", "t1", "c"]
    loaded.assert_nothing_was_lost()


def test_a_forbidden_pair_is_parted_only_after_its_last_packet() -> None:
    loaded = Loaded()
    loaded.apply(edited(*CHANGES["forbid the pair that carries it"][0]))
    loaded.film(1.5)
    assert loaded.path() == ["a", "t2", "t1", "c"] and "t1" in loaded.neighbours("a")
    loaded.film(2.0)
    assert "t1" not in loaded.neighbours("a") and "a" not in loaded.neighbours("t1")
    loaded.assert_nothing_was_lost()


def test_a_region_is_added_its_node_joins_and_traffic_moves_to_it() -> None:
    loaded = Loaded()
    loaded.mesh.start_node("new")
    loaded.film(0.5)
    refused = loaded.mesh.nodes["new"].refused
    assert refused is not None and refused.code == "region"
    loaded.apply(WIRES)
    loaded.mesh.start_node("new")
    loaded.film(2.0)
    assert loaded.path() == ["a", "new", "c"]
    loaded.assert_nothing_was_lost()


def test_a_pinned_way_that_fails_is_left_at_once_and_taken_again() -> None:
    loaded = Loaded(edited(*CHANGES["pin the slow way"][0]))
    assert loaded.path() == ["a", "t2", "c"]
    loaded.mesh.cut |= {("a", "t2"), ("t2", "a")}
    loaded.film(2.0)
    assert loaded.path() == ["a", "t1", "c"]
    loaded.mesh.cut.clear()
    loaded.film(2.0)
    assert loaded.path() == ["a", "t1", "c"], "the link is on probation"
    loaded.film(5.0)
    assert loaded.path() == ["a", "t2", "c"]


def test_a_file_that_does_not_fit_the_nodes_changes_nothing() -> None:
    loaded = Loaded()
    controller = loaded.mesh.controller
    assert controller is not None
    version = controller.topology_version
    gone = "\n".join(line for line in FIRST.replace("{name: t1}, ", "").splitlines() if "t1" not in line)
    with pytest.raises(EditRefused) as refused:
        loaded.apply(gone)
    assert refused.value.code == "conflict"
    assert refused.value.reasons == ("node 't1' is in region 't1', which is not in the file",)
    with pytest.raises(EditRefused, match="version"):
        controller.apply_topology(parse_topology(WIRES), loaded.mesh.now, expected="0000000000000000")
    assert controller.topology_version == version
    controller.apply_topology(parse_topology(WIRES), loaded.mesh.now, expected=version)
    assert controller.topology_version != version


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_one_after_the_other_cost_no_packet(seed: int) -> None:
    rng = random.Random(seed)
    loaded = Loaded(seed=seed)
    paths = set()
    for _ in range(40):
        text = FIRST
        for kind in rng.sample(sorted(CHANGES), rng.randint(0, 3)):
            for old, new in CHANGES[kind][0]:
                if old in text and not ("pins:" in new and "pins:" in text):
                    text = text.replace(old, new)
        loaded.apply(text)
        loaded.film(rng.uniform(0.1, 0.6))
        paths.add(tuple(loaded.path()))
    loaded.film(3.0)
    assert len(paths) >= 3
    loaded.assert_nothing_was_lost()
