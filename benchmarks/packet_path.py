"""What a packet costs in each role of a node, without sockets: CPU time, and its ratio to bare AES-GCM.

    python benchmarks/packet_path.py [PACKETS]

The baseline is one AES-128-GCM seal and one open of the same bytes, measured
in the same run. Roles: ingress (SRTP in, one sealed relay datagram out),
transit (relay datagram in, relay datagram out), egress (relay datagram in,
SRTP to N players out, per player).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relaymesh.node.core import NodeCore
from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.messages import Forward, SubscribeReply
from tests.node.browser import Browser, exchange, offer_text
from tests.node.mesh import NAME, Mesh, relay_address

PAYLOAD = b"\x10\x01\x00" + bytes(1097)
ROUNDS = 5
PLAYERS = 20


def cpu_us(run: Callable[[], int]) -> float:
    """Microseconds of CPU for each unit that *run* says it did; the median of some rounds."""
    results = []
    for _ in range(ROUNDS):
        start = time.process_time()
        units = run()
        results.append((time.process_time() - start) / units * 1e6)
    return statistics.median(results)


def towards(core: NodeCore, node: int) -> list[bytes]:
    """What *core* sends to *node*; acknowledgements to others are part of the cost, not of the count."""
    return [data for data, address in core.poll_relay_datagrams() if address == relay_address(node)]


class Bench:
    """Three nodes in a row: a publisher at the first, players at the last."""

    def __init__(self, packets: int) -> None:
        self.packets = packets
        self.mesh = Mesh(3, [(1, 2), (2, 3)])
        self.mesh.routes(1, {1: {2: {2, 3}}, 2: {1: {1}, 3: {3}}, 3: {2: {1, 2}}})
        self.mesh.run(1.0)
        self.first, self.middle, self.last = (self.mesh.cores[k] for k in (1, 2, 3))
        self.publisher = Browser()
        session, answer = self.first.publish(NAME, offer_text("chromium-whip"), ("VP8",), self.mesh.now)
        self.publisher.accept(answer)
        self.publisher.connect(self.first, self.mesh.now)
        publication = session.publication
        assert publication is not None
        self.first.handle_message(Forward(NAME, encode_set(1 << 3)), self.mesh.now)
        self.last.handle_message(SubscribeReply(1, publication.info(), 1), self.mesh.now)
        held = self.last.publications.get(NAME)
        assert held is not None
        video = next(t for t in session.receivers if t.track.is_video)
        self.type, self.ssrc = video.codec.payload_type, video.encodings[0].ssrc
        self.sequence = 0
        self.players = []
        for k in range(PLAYERS):
            player = Browser(("198.51.100.2", 6000 + k))
            _, answer = self.last.play(held, offer_text("chromium-whep"), self.mesh.now)
            player.accept(answer)
            player.connect(self.last, self.mesh.now)
            self.players.append(player)

    def srtp(self) -> list[bytes]:
        from relaymesh.webrtc.rtp import build_rtp

        out = []
        for _ in range(self.packets):
            payload = b"\x10\x00\x00" + PAYLOAD[3:] if self.sequence == 0 else PAYLOAD
            packet = build_rtp(
                self.type, True, self.sequence & 0xFFFF, self.sequence * 3000 & 0xFFFFFFFF, self.ssrc, payload
            )
            out.append(self.publisher.protect(packet))
            self.sequence += 1
        return out

    def ingress(self, packets: list[bytes]) -> list[bytes]:
        for data in packets:
            self.first.handle_media_datagram(data, self.publisher.address, self.mesh.now)
        exchange(self.first, self.mesh.now)
        return towards(self.first, 2)

    def transit(self, datagrams: list[bytes]) -> list[bytes]:
        for data in datagrams:
            self.middle.handle_relay_datagram(data, self.mesh.now)
        return towards(self.middle, 3)

    def egress(self, datagrams: list[bytes]) -> int:
        sent = 0
        for data in datagrams:
            self.last.handle_relay_datagram(data, self.mesh.now)
            sent += len(self.last.poll_media_datagrams())
        return sent


def main() -> None:
    packets = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    key, nonce, head = AESGCM(bytes(16)), bytes(12), bytes(12)

    def baseline() -> int:
        for _ in range(packets):
            key.decrypt(nonce, key.encrypt(nonce, PAYLOAD, head), head)
        return packets

    bench = Bench(packets)
    base = cpu_us(baseline)
    costs: dict[str, list[float]] = {"ingress": [], "transit": [], "egress": []}
    for _ in range(ROUNDS):
        srtp = bench.srtp()
        start = time.process_time()
        sealed = bench.ingress(srtp)
        between = time.process_time()
        passed_on = bench.transit(sealed)
        third = time.process_time()
        sent = bench.egress(passed_on)
        end = time.process_time()
        assert len(sealed) == len(passed_on) == packets
        assert sent >= 0.99 * packets * PLAYERS
        costs["ingress"].append((between - start) / packets * 1e6)
        costs["transit"].append((third - between) / packets * 1e6)
        costs["egress"].append((end - third) / sent * 1e6)
    print(f"{'role':<28}{'µs of CPU':>12}{'ratio':>8}")
    print(f"{'AES-GCM seal + open':<28}{base:>12.2f}{1:>8.1f}")
    for role, values in costs.items():
        cost = statistics.median(values)
        label = f"{role}, each of {PLAYERS} players" if role == "egress" else role
        print(f"{label:<28}{cost:>12.2f}{cost / base:>8.1f}")


if __name__ == "__main__":
    main()
