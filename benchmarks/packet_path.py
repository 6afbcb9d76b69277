"""What a packet costs in each role of a node, without sockets: CPU time, and its ratio to bare AES-GCM.

    python benchmarks/packet_path.py [PACKETS]

The baseline is one AES-128-GCM seal and one open of the same bytes, measured
in the same run. Roles: ingress (SRTP in, one sealed relay datagram out),
transit (relay datagram in, relay datagram out), egress (relay datagram in,
SRTP to N players out, per packet and player). 400 packets a second come in bursts of 8, in virtual time:
each role's timers, acknowledgements, reports and the players' feedback are part of its cost.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.messages import Forward, SubscribeReply
from relaymesh.webrtc.rtp import build_rtp
from relaymesh.webrtc.twcc import TwccReceiver
from tests.node.browser import Browser, offer_text
from tests.node.mesh import NAME, Mesh, relay_address

PAYLOAD = b"\x10\x01\x00" + bytes(1097)
ROUNDS = 5
PLAYERS = 20
ROLES = ("ingress", "transit", "egress")
BURST, TICK, WAKE = 8, 0.02, 0.001  # packets, s, s between two wakes at least
WARM_TICKS, IDLE_TICKS = 200, 50
TRANSPORT_NUMBER = 3  # extension id of chromium-whep


def cpu_us(run: Callable[[], int]) -> float:
    """Microseconds of CPU for each unit that *run* says it did; the median of some rounds."""
    results = []
    for _ in range(ROUNDS):
        start = time.process_time()
        units = run()
        results.append((time.process_time() - start) / units * 1e6)
    return statistics.median(results)


class Bench:
    """Three nodes in a row: a publisher at the first, players at the last."""

    def __init__(self) -> None:
        self.mesh = Mesh(3, [(1, 2), (2, 3)])
        self.mesh.routes(1, {1: {2: {2, 3}}, 2: {1: {1}, 3: {3}}, 3: {2: {1, 2}}})
        self.mesh.run(1.0)
        self.roles = dict(zip(ROLES, (self.mesh.cores[k] for k in (1, 2, 3)), strict=True))
        first, last = self.mesh.cores[1], self.mesh.cores[3]
        self.publisher = Browser()
        session, answer = first.publish(NAME, offer_text("chromium-whip"), ("VP8",), self.mesh.now)
        self.publisher.accept(answer)
        self.publisher.connect(first, self.mesh.now)
        publication = session.publication
        assert publication is not None
        first.handle_message(Forward(NAME, encode_set(1 << 3)), self.mesh.now)
        last.handle_message(SubscribeReply(1, publication.info(), 1), self.mesh.now)
        held = last.publications.get(NAME)
        assert held is not None
        video = next(t for t in session.receivers if t.track.is_video)
        self.type, self.ssrc = video.codec.payload_type, video.encodings[0].ssrc
        self.sequence = self.received = 0
        self.players = {}
        for k in range(PLAYERS):
            player = Browser(("198.51.100.2", 6000 + k))
            _, answer = last.play(held, offer_text("chromium-whep"), self.mesh.now)
            player.accept(answer)
            player.connect(last, self.mesh.now)
            self.players[player.address] = player, TwccReceiver()
        self.mesh.run(1.0)  # what is wanted is said
        self.now = self.mesh.now
        self.media: dict[str, list[tuple[bytes, tuple[str, int]]]] = {role: [] for role in ROLES}
        self.relay: dict[str, list[bytes]] = {role: [] for role in ROLES}

    def film(self) -> None:
        """The next burst of the publisher."""
        for _ in range(BURST):
            keyframe = self.sequence == 0
            payload = bytes((0x10, 0 if keyframe else 1)) + PAYLOAD[2:]
            stamp = self.sequence // BURST * 1800 & 0xFFFFFFFF
            packet = build_rtp(self.type, True, self.sequence & 0xFFFF, stamp, self.ssrc, payload)
            self.media["ingress"].append((self.publisher.protect(packet), self.publisher.address))
            self.sequence += 1

    def tick(self, *, films: bool) -> dict[str, float]:
        """One burst's time: what each role needed, seconds of CPU."""
        self.now += TICK
        if films:
            self.film()
        costs: dict[str, float] = {}
        for role, core in self.roles.items():
            media, self.media[role] = self.media[role], []
            relay, self.relay[role] = self.relay[role], []
            start = time.process_time()
            for data, address in media:
                core.handle_media_datagram(data, address, self.now)
            if relay:
                core.handle_relay_batch(relay, self.now)
            at, sealed, protected = self.now, [], []
            while at < self.now + TICK:  # as a ring does it: at once, then whenever something is due
                core.handle_timeout(at)
                sealed += core.poll_relay_datagrams()
                protected += core.poll_media_datagrams()
                at = max(at + WAKE, core.next_timeout() or inf)
            costs[role] = time.process_time() - start
            for data, address in sealed:
                self.relay[next(r for k, r in enumerate(ROLES, 1) if address == relay_address(k))].append(
                    data
                )
            if role == "egress":
                self.take(protected)
        return costs

    def take(self, datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
        """The players count, and say what arrived."""
        heard = set()
        for data, address in datagrams:
            player, twcc = self.players[address]
            player.rtp, player.padding = [], []
            player.take(data)
            self.received += sum(len(packet.payload) > 1000 for packet in player.rtp)
            for packet in player.rtp + player.padding:
                twcc.record(int.from_bytes(packet.extensions[TRANSPORT_NUMBER], "big"), self.now)
                heard.add((address, packet.ssrc))
        for address, ssrc in heard:
            player, twcc = self.players[address]
            if (report := twcc.feedback(1, ssrc)) is not None:
                self.media["egress"].append((player.protect(report, rtcp=True), address))


def main() -> None:
    packets = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    key, nonce, head = AESGCM(bytes(16)), bytes(12), bytes(12)

    def baseline() -> int:
        for _ in range(packets):
            key.decrypt(nonce, key.encrypt(nonce, PAYLOAD, head), head)
        return packets

    bench = Bench()
    base = cpu_us(baseline)
    for _ in range(WARM_TICKS):
        bench.tick(films=True)
    received = bench.received
    ticks = [bench.tick(films=True) for _ in range(packets // BURST)]
    for _ in range(IDLE_TICKS):
        bench.tick(films=False)
    sent = (bench.received - received) / PLAYERS
    assert sent >= 0.99 * len(ticks) * BURST, (
        f"{sent:.0f} of {len(ticks) * BURST} packets reached each player"
    )
    print(f"{'role':<28}{'µs of CPU':>12}{'ratio':>8}")
    print(f"{'AES-GCM seal + open':<28}{base:>12.2f}{1:>8.1f}")
    for role in ROLES:
        share = PLAYERS if role == "egress" else 1
        cost = sum(tick[role] for tick in ticks) / (len(ticks) * BURST * share) * 1e6
        label = f"{role}, each of {PLAYERS} players" if role == "egress" else role
        print(f"{label:<28}{cost:>12.2f}{cost / base:>8.1f}")


if __name__ == "__main__":
    main()
