"""The main job in virtual time: publish at one edge, play at another, and what may happen meanwhile."""

from collections.abc import Callable
from pathlib import Path

import pytest

from relaymesh.node.refusals import SignallingError
from relaymesh.protocol.messages import ParticipantName
from relaymesh.topology import load_topology
from relaymesh.webrtc import rtcp
from tests.node.browser import Browser, offer_text
from tests.whole_mesh import WholeMesh

TOPOLOGIES = Path(__file__).parent.parent / "topologies"
ALICE = ParticipantName("demo", "alice")
KEY, DELTA = b"\x10\x00\x00key", b"\x10\x01\x00delta"


def square(seed: int = 1, **options) -> WholeMesh:
    mesh = WholeMesh(load_topology(TOPOLOGIES / "square.yaml"), seed=seed, **options)
    for name in ("a", "t1", "t2", "c"):
        mesh.start_node(name)
    mesh.run(3.0)
    return mesh


class Camera:
    """Sends 30 packets a second while time passes; answers a PLI with a keyframe."""

    def __init__(self, mesh: WholeMesh, at: str, *, credential: bytes = b"") -> None:
        self.mesh = mesh
        self.core = mesh.nodes[at].core
        self.browser = mesh.publish(at, ALICE, credential=credential)
        self.sequence = 100
        self.answered = 0
        session = next(self.core.edge.publishers())
        video = next(t for t in session.receivers if t.track.is_video)
        self.payload_type, self.ssrc = video.codec.payload_type, video.encodings[0].ssrc

    def film(self, seconds: float) -> None:
        for _ in range(round(seconds * 30)):
            requests = sum(isinstance(p, rtcp.PictureLossIndication) for p in self.browser.rtcp)
            payload = KEY if requests > self.answered else DELTA
            self.answered = requests
            assert self.ssrc is not None
            self.browser.send_rtp(
                self.core,
                self.mesh.now,
                self.sequence,
                payload,
                payload_type=self.payload_type,
                ssrc=self.ssrc,
            )
            self.sequence += 1
            self.mesh.run(1 / 30)


def path_of(mesh: WholeMesh) -> list[str]:
    assert mesh.controller is not None
    [publication] = mesh.controller.state()["publications"]  # type: ignore[misc]
    return publication["paths"]["c"]


def test_a_stream_crosses_two_hops_and_the_transit_node_holds_nothing_of_it():
    mesh = square()
    camera = Camera(mesh, "a")
    camera.film(1.0)
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(3.0)
    mesh.run(0.1)
    assert path_of(mesh) == ["a", "t1", "c"]
    assert player.rtp[0].payload == KEY
    sequences = [p.sequence for p in player.rtp]
    assert sequences == [(sequences[0] + k) & 0xFFFF for k in range(len(sequences))]
    assert len(sequences) >= 85
    transit = mesh.nodes["t1"].core
    assert transit.forwarder.forwarded > 0
    assert len(transit.publications) == 0
    assert mesh.nodes["t2"].core.forwarder.forwarded == 0


def test_ten_players_at_one_edge_cost_one_forward_and_one_copy_on_the_path():
    mesh = square()
    camera = Camera(mesh, "a")
    camera.film(0.2)
    players = [mesh.play("c", ALICE) for _ in range(10)]
    mesh.run(0.2)  # the edge's demand arrives
    before = mesh.nodes["a"].core.forwarder.originated
    sent = camera.sequence
    camera.film(1.0)
    mesh.run(0.1)
    assert mesh.nodes["a"].core.forwarder.originated - before == camera.sequence - sent
    counts = [len(p.rtp) for p in players if p is not None]
    assert len(counts) == 10
    assert min(counts) > 0


def test_nobody_publishes_means_nothing_to_play():
    assert square().play("c", ParticipantName("demo", "nobody")) is None


def test_a_node_that_joins_later_gets_links_and_routes_by_joining():
    mesh = WholeMesh(load_topology(TOPOLOGIES / "square.yaml"))
    for name in ("a", "t2", "c"):
        mesh.start_node(name)
    mesh.run(3.0)
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(0.5)
    assert path_of(mesh) == ["a", "t2", "c"]
    mesh.start_node("t1")
    camera.film(5.0)
    mesh.run(0.1)
    assert path_of(mesh) == ["a", "t1", "c"], "the better way is taken"
    sequences = [p.sequence for p in player.rtp]
    assert sorted(sequences) == list(range(sequences[0], sequences[0] + len(sequences))), "nothing lost by it"
    assert len(set(sequences)) == len(sequences), "nothing twice"


@pytest.mark.parametrize("seed", range(5))
def test_media_comes_back_when_the_transit_node_dies(seed):
    mesh = square(seed)
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    assert player.rtp
    mesh.kill("t1")
    camera.film(2.0)
    before = len(player.rtp)
    camera.film(1.0)
    assert len(player.rtp) - before >= 28
    assert path_of(mesh) == ["a", "t2", "c"]


def test_media_comes_back_when_a_link_is_cut_in_one_direction_only():
    mesh = square()
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    mesh.cut.add(("t1", "c"))
    camera.film(3.0)
    before = len(player.rtp)
    camera.film(1.0)
    assert len(player.rtp) - before >= 28
    mesh.cut.clear()
    camera.film(8.0)
    assert path_of(mesh) == ["a", "t1", "c"], "a link that returned is taken back"


def test_the_controller_dies_and_media_does_not_notice():
    mesh = square()
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    first = len(player.rtp)
    mesh.stop_controller()
    camera.film(5.0)
    assert len(player.rtp) - first >= 148
    joined_without = mesh.play("c", ALICE)
    assert joined_without is not None, "the edge knows the stream"
    indexes = {name: node.core.index for name, node in mesh.nodes.items()}
    mesh.start_controller()
    camera.film(12.0)
    mesh.run(0.1)
    assert {name: node.core.index for name, node in mesh.nodes.items()} == indexes
    assert path_of(mesh) == ["a", "t1", "c"]
    sequences = [p.sequence for p in player.rtp]
    assert len(sequences) == len(set(sequences))
    assert sequences == [(sequences[0] + k) & 0xFFFF for k in range(len(sequences))], "not one packet"
    other = mesh.play("t2", ALICE)
    assert other is not None, "the new controller learned the stream from its ingress"


def test_a_wrong_token_and_a_taken_name_are_refused_and_nobody_else_notices():
    mesh = square()
    generation = mesh.controller.state()["generation"]  # type: ignore[union-attr]
    intruder = mesh.nodes["t1"]
    real, real_core, real_boot = intruder.channel, intruder.core, intruder.boot
    intruder.boot = 99
    mesh.join("t1")
    mesh.run(0.5)
    assert intruder.refused is not None
    assert intruder.refused.code == "name-taken"
    intruder.channel, intruder.core, intruder.boot = real, real_core, real_boot
    mesh.run(2.0)
    assert mesh.controller.state()["generation"] == generation  # type: ignore[union-attr]


def test_the_publisher_leaves_and_comes_back_at_another_edge():
    mesh = square()
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    core = mesh.nodes["a"].core
    core.end_session(next(core.edge.publishers()), "moved", mesh.now)
    mesh.run(0.2)
    moved = Camera(mesh, "t2")
    before = len(player.rtp)
    moved.film(4.0)
    mesh.run(0.1)
    assert len(player.rtp) - before >= 60
    sequences = [p.sequence for p in player.rtp]
    assert sequences == [(sequences[0] + k) & 0xFFFF for k in range(len(sequences))], "one unbroken stream"


@pytest.mark.parametrize("loss", [0.02, 0.1])
def test_a_lossy_mesh_stays_up_and_keyframe_requests_get_through(loss):
    mesh = square(3, loss=loss)
    mesh.run(5.0)
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(4.0)
    assert player.rtp, "a lost keyframe request, or a lost keyframe, is repeated"
    assert player.rtp[0].payload == KEY


def test_a_newcomer_does_not_take_the_index_of_a_node_that_comes_back_later():
    mesh = square()
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    indexes = {name: mesh.nodes[name].core.index for name in ("a", "t2", "c")}
    mesh.stop_controller()
    mesh.kill("t1")
    camera.film(2.0)
    # The new controller hears first of a node that just started, then of the others.
    for name in ("a", "t2", "c"):
        mesh.nodes[name].alive = False
    mesh.start_controller()
    mesh.start_node("t1")
    mesh.run(0.3)
    for name in ("a", "t2", "c"):
        mesh.nodes[name].alive = True
        mesh.join(name)
    mesh.run(0.3)
    if mesh.nodes["t1"].core.index in indexes.values():
        mesh.join("t1")  # its channel was closed: it joins again
    camera.film(12.0)
    mesh.run(0.1)
    after = {name: mesh.nodes[name].core.index for name in mesh.nodes}
    assert {name: after[name] for name in indexes} == indexes
    assert len(set(after.values())) == 4
    before = len(player.rtp)
    camera.film(1.0)
    assert len(player.rtp) - before >= 28


def gap_of(mesh: WholeMesh, camera: Camera, player: Browser, hurt: Callable[[], None]) -> float:
    """The longest time without a packet at *player* after *hurt* was done, in seconds."""
    hurt()
    longest, last, seen = 0.0, mesh.now, len(player.rtp)
    for _ in range(60):
        camera.film(1 / 30)
        if len(player.rtp) > seen:
            longest, last, seen = max(longest, mesh.now - last), mesh.now, len(player.rtp)
    return max(longest, mesh.now - last)


@pytest.mark.parametrize("controller", ["lives", "is dead"])
@pytest.mark.parametrize("failure", ["link", "node"])
@pytest.mark.parametrize("seed", range(3))
def test_the_nodes_next_to_a_failure_repair_it_by_themselves(seed, failure, controller):
    mesh = square(seed)
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    if controller == "is dead":
        mesh.stop_controller()
    cut = {("t1", "c"), ("c", "t1")}
    gap = gap_of(mesh, camera, player, lambda: mesh.kill("t1") if failure == "node" else mesh.cut.update(cut))
    assert gap <= 0.25
    sequences = [p.sequence for p in player.rtp]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences))), "each once, and in order"
    [encoding] = [e for s in mesh.nodes["c"].core.publications for e in s.encodings() if e.track.is_video]
    assert encoding.duplicates == 0, "what was sent by two ways says so"
    assert sum(n.core.forwarder.salvaged for n in mesh.nodes.values()) > 0


def test_a_stalled_transit_node_is_gone_around_and_not_one_packet_is_lost():
    mesh = square()
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    mesh.stall("t1")
    camera.film(0.4)
    assert mesh.nodes["a"].core.forwarder.detoured > 0 or path_of(mesh) == ["a", "t2", "c"]
    mesh.go_on("t1")
    camera.film(2.0)
    mesh.run(14.0)
    assert path_of(mesh) == ["a", "t1", "c"], "taken back, with care"
    camera.film(0.5)
    mesh.run(0.1)
    sequences = sorted(p.sequence for p in player.rtp)
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences))), "each once"


def test_a_link_that_died_and_returned_unseen_by_the_controller_is_taken_back_by_a_new_plan():
    mesh = square()
    camera = Camera(mesh, "a")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(0.5)
    mesh.stop_controller()
    mesh.cut |= {("t1", "c"), ("c", "t1")}
    camera.film(0.5)
    mesh.cut.clear()
    camera.film(1.0)
    transit = mesh.nodes["t1"].core
    assert transit.repair.waiting()
    before = len(player.rtp)
    mesh.start_controller()
    camera.film(12.0)
    mesh.run(0.1)
    assert not transit.repair.active
    assert path_of(mesh) == ["a", "t1", "c"]
    sequences = sorted(p.sequence for p in player.rtp[before:])
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences))), "nothing lost by it"


@pytest.mark.parametrize("at", ["a", "t2", "c"])
def test_a_publisher_that_died_takes_over_at_this_or_another_node_by_its_credential(at):
    mesh = square()
    camera = Camera(mesh, "a", credential=b"digest")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    mesh.run(0.05)
    before, died_at = len(player.rtp), mesh.now
    again = Camera(mesh, at, credential=b"digest")  # a moment later: nothing has noticed the death
    again.sequence = 40_000
    again.film(1.5)
    mesh.run(0.1)
    assert mesh.now - died_at < 2.0
    assert len(player.rtp) - before >= 30
    sequences = [p.sequence for p in player.rtp]
    assert sequences == [(sequences[0] + k) & 0xFFFF for k in range(len(sequences))]
    assert mesh.controller is not None
    [publication] = mesh.controller.state()["publications"]  # type: ignore[misc]
    assert publication["ingress"] == at
    assert [len(list(node.core.edge.publishers())) for node in mesh.nodes.values()].count(1) == 1


@pytest.mark.parametrize("credential", [b"", b"another"])
def test_without_its_credential_a_name_stays_with_its_publisher(credential):
    mesh = square()
    camera = Camera(mesh, "a", credential=b"digest")
    player = mesh.play("c", ALICE)
    assert player is not None
    camera.film(1.0)
    with pytest.raises(SignallingError, match="already publishes"):
        mesh.publish("c", ALICE, credential=credential)
    mesh.publish("t2", ALICE, credential=credential)  # knows nothing of it: the controller refuses
    camera.film(1.0)
    assert mesh.controller is not None
    [publication] = mesh.controller.state()["publications"]  # type: ignore[misc]
    assert publication["ingress"] == "a"
    assert len(mesh.nodes["t2"].core.publications) == 0


def test_a_picture_is_fetched_while_the_first_player_of_an_edge_shakes_hands() -> None:
    mesh = square()
    camera = Camera(mesh, "a")
    camera.film(1.0)
    edge = mesh.nodes["c"].core
    edge.directory.subscribe(ALICE)
    camera.film(0.2)
    publication = edge.directory.find(ALICE)
    assert publication is not None
    session, _ = edge.play(publication, offer_text("chromium-whep"), mesh.now)
    camera.film(0.3)
    [encoding] = [e for e in publication.encodings() if e.track.is_video]
    assert session.connected_at is None
    assert encoding.takers == []
    assert encoding.since_keyframe.frames(), "what a joiner needs is here before it has connected"
    edge.end_session(session, "the client left", mesh.now)
    assert encoding.since_keyframe.size_bytes == 0, "nothing is fetched ahead for nobody"
