"""A node of a whole mesh turns hostile on its control channel: the media of the others does not notice."""

from __future__ import annotations

import random

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import LinkReport, Report, decode_node_message, encode_message
from tests.test_whole_mesh import ALICE, Camera, path_of, square


def test_a_hostile_node_moves_nobodys_media() -> None:
    mesh = square()
    camera = Camera(mesh, "a")
    camera.film(1.0)
    player = mesh.play("c", ALICE)
    assert player is not None and mesh.controller is not None
    camera.film(1.0)
    # t2 lies beside the way that is taken: by t1, 10 ms instead of 13.
    liar = mesh.nodes["t2"]
    assert liar.channel is not None
    rng, refused = random.Random(3), 0
    plans = mesh.controller.counters["plans"]
    everybody = [n.core.index for n in mesh.nodes.values() if n.name != "t2"]
    for turn in range(400):
        rtt_ms = (0.0, float("nan"), -5.0, 1e9)[turn % 4]
        links = [LinkReport(peer or 0, True, rtt_ms, 0.0, 0.0, 0.0, 1, 1) for peer in everybody]
        links += [LinkReport(rng.randrange(2040), turn % 2 == 0, 1.0, 0.0, 0.0, 0.0, 1, 1) for _ in range(3)]
        try:
            message = decode_node_message(encode_message(Report(tuple(links))))
        except ProtocolError:
            refused += 1  # by the channel, which would be closed
        else:
            mesh.controller.handle_message(liar.channel, message, mesh.now)
        if turn % 20 == 0:
            camera.film(0.2)
    camera.film(3.0)
    mesh.run(0.2)
    assert refused == 300
    assert path_of(mesh) == ["a", "t1", "c"]
    assert mesh.controller.counters["plans"] == plans
    sequences = [packet.sequence for packet in player.rtp]
    assert sequences == [(sequences[0] + k) & 0xFFFF for k in range(len(sequences))], "nothing lost or twice"
    assert len(sequences) > 200
    intake = mesh.controller.debug_state()["intake"]
    assert set(intake["dropped_by_node"]) == {liar.core.index}  # type: ignore[index]
