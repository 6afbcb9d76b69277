"""Rooms over the mesh, in virtual time: joins and leaves change bits, not tables; players outlive a move."""

from __future__ import annotations

from relaymesh.protocol.bitstring import members
from relaymesh.topology import parse_topology
from relaymesh.topology.edits import with_edits
from tests.node.mesh import video_of
from tests.test_whole_mesh import ALICE, Camera
from tests.whole_mesh import WholeMesh

# One way from the origin into a continent of three edges.
TREE = """version: 1
name: tree
regions: [{name: origin}, {name: gate}, {name: one}, {name: two}, {name: three}]
links:
  - {between: [origin, gate], delay_ms: 40}
  - {between: [gate, one], delay_ms: 5}
  - {between: [gate, two], delay_ms: 6}
  - {between: [one, three], delay_ms: 7}
"""


def tree(text: str = TREE) -> WholeMesh:
    topology = parse_topology(text)
    mesh = WholeMesh(topology)
    for region in topology.regions:
        mesh.start_node(region.name)
    mesh.run(3.0)
    return mesh


def plans(mesh: WholeMesh) -> int:
    assert mesh.controller is not None
    return mesh.controller.counters["plans"]


def bits(mesh: WholeMesh, camera: Camera) -> set[str]:
    """The edges the ingress sends video to."""
    publication = next(iter(camera.core.publications.local()))
    edges = publication.demand.audience(video_of(publication).number, 0)
    return {name for name, node in mesh.nodes.items() if node.core.index in members(edges)}


def admitted(mesh: WholeMesh, camera: Camera) -> set[str]:
    """The edges that may play."""
    edges = next(iter(camera.core.publications.local())).demand.admitted
    return {name for name, node in mesh.nodes.items() if node.core.index in members(edges)}


def test_joins_and_leaves_change_bits_and_no_tables() -> None:
    mesh = tree()
    camera = Camera(mesh, "origin")
    camera.film(0.5)
    before = plans(mesh)
    tables = {name: node.core.tables.debug_state() for name, node in mesh.nodes.items()}
    for count, edge in enumerate(("one", "two", "three"), 1):
        assert mesh.play(edge, ALICE) is not None
        camera.film(0.3)
        assert len(bits(mesh, camera)) == count
    for name in ("one", "two", "three"):
        core = mesh.nodes[name].core
        for session in list(core.edge.players()):
            core.end_session(session, "left", mesh.now)
        camera.film(0.2)
        assert name not in bits(mesh, camera), "nothing is wanted any more, and that is said at once"
        assert name in admitted(mesh, camera), "but it may come back"
        camera.film(6.0)  # a publication that nobody plays is given back after five seconds
        assert name not in admitted(mesh, camera)
    assert bits(mesh, camera) == set()
    assert plans(mesh) == before
    assert {name: node.core.tables.debug_state() for name, node in mesh.nodes.items()} == tables


def test_the_origins_bits_make_a_shared_tree() -> None:
    """Each link carries a frame once, whichever edges want it: no nearer holder could send less."""
    mesh = tree()
    camera = Camera(mesh, "origin")
    for edge in ("one", "two", "three"):
        assert mesh.play(edge, ALICE) is not None
    camera.film(1.0)
    mesh.run(0.2)
    counted = {name: mesh.media(name) for name in mesh.nodes}
    first = camera.sequence
    camera.film(2.0)
    mesh.run(0.2)
    frames = camera.sequence - first
    sent = {name: mesh.media(name) - counted[name] for name in mesh.nodes}
    assert sent == {"origin": frames, "gate": 2 * frames, "one": frames, "two": 0, "three": 0}


def test_a_publisher_that_moves_edge_keeps_its_stream_and_its_players() -> None:
    """The stream is the same at its players' edges; its tracks get new numbers, so that frames of the
    old session that are still under way are not taken for the new one's."""
    mesh = tree()
    camera = Camera(mesh, "origin")
    players = [mesh.play(edge, ALICE) for edge in ("one", "three")]
    camera.film(1.0)
    before = plans(mesh)
    known = {edge: list(mesh.nodes[edge].core.publications) for edge in ("one", "three")}
    camera.core.end_session(next(camera.core.edge.publishers()), "moved", mesh.now)
    mesh.run(0.2)
    moved = Camera(mesh, "two")
    counts = [len(player.rtp) for player in players if player is not None]
    moved.film(4.0)
    mesh.run(0.2)
    for edge in ("one", "three"):
        [publication], [same] = mesh.nodes[edge].core.publications, known[edge]
        assert publication is same and publication.ingress == mesh.nodes["two"].core.index
    for player, count in zip(players, counts, strict=True):
        assert player is not None and len(player.rtp) - count >= 60
        assert len({packet.ssrc for packet in player.rtp}) == 1
        sequences = [packet.sequence for packet in player.rtp]
        unbroken = [(sequences[0] + k) & 0xFFFF for k in range(len(sequences))]
        assert sequences == unbroken
    assert bits(mesh, moved) == {"one", "three"} and plans(mesh) == before


def test_an_edit_of_the_topology_moves_the_tree_and_not_the_bits() -> None:
    mesh = tree(TREE + "  - {between: [origin, two], delay_ms: 50}\n")
    camera = Camera(mesh, "origin")
    assert mesh.play("two", ALICE) is not None
    camera.film(1.0)
    controller = mesh.controller
    assert controller is not None
    wanted, before = bits(mesh, camera), plans(mesh)
    assert controller.state()["publications"][0]["paths"]["two"] == ["origin", "gate", "two"]  # type: ignore[index]
    edited = with_edits(mesh.topology, [{"between": ["gate", "two"], "extra_cost_ms": 30}])
    controller.apply_topology(edited, mesh.now)
    camera.film(1.0)
    assert controller.state()["publications"][0]["paths"]["two"] == ["origin", "two"]  # type: ignore[index]
    assert bits(mesh, camera) == wanted and plans(mesh) == before + 1
