"""One end of our relay link as a process: payloads by UDP on loopback, sealed datagrams to the other end.

The smallest program around a :class:`~relaymesh.protocol.link.Link`, driven as a
node drives it, so that the link can stand where ``srt-live-transmit`` stands. Each
payload travels as one MEDIA frame of the class of base video; what the link hands
up goes out as it came in.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from random import Random

import trio

from relaymesh.protocol.datagram import SHORT_HEADER_BYTES, TAG_BYTES
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import HEAD_BYTES, MEDIA, MediaFrame, decode_media, encode_media
from relaymesh.protocol.frames.compact import FULL_BYTES
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.link import Link
from relaymesh.runtime.process import settle_heap, wait_for_stop
from relaymesh.runtime.timer import Timer
from relaymesh.runtime.udp import Address, UdpPort

PROGRAM = (sys.executable, "-c", "from relaymesh.bench.srt_relay import main; main()")
KEYS = "RELAYMESH_BENCH_KEYS"  # environment: the key from 1 to 2 and the one back, in hexadecimal
PROBE_INTERVAL, DEAD_AFTER = 0.05, 0.2  # seconds; a node's defaults
NEAR, FAR = 1, 2  # node indices
BASE_VIDEO = 2  # priority class
PICTURE_PACKETS, PICTURE_TICKS = 5, 450  # at 1,000 packets/s and 90 kHz


def media_frame(sequence: int, payload: bytes) -> bytes:
    """*payload* as a packet of video: its headers change as those of video do."""
    picture, place = divmod(sequence, PICTURE_PACKETS)
    last = place == PICTURE_PACKETS - 1
    frame = MediaFrame(
        TrackId(1, 1, 0), 0, sequence & 0xFFFFFFFF, picture * PICTURE_TICKS & 0xFFFFFFFF, payload,
        marker=last, layer_start=place == 0, layer_end=last,
        priority=BASE_VIDEO, hop_limit=16, generation=1, destinations=1 << FAR,
    )  # fmt: skip
    return encode_media(frame)


def header_bytes() -> int:
    """What a datagram has around its payload, once the headers of its stream were told."""
    return SHORT_HEADER_BYTES + FULL_BYTES + TAG_BYTES


class RelayEnd:
    """A link between *wire*, which leads to *peer*, and *tap*, whose payloads it carries to its *sink*."""

    def __init__(self, link: Link, wire: UdpPort, peer: Address, tap: UdpPort, sink: Address) -> None:
        self.refused: Counter[str] = Counter()  # datagrams, by ProtocolError.reason
        self._link = link
        self._wire = wire
        self._peer = peer
        self._tap = tap
        self._sink = sink
        self._sequence = 0
        self._timer = Timer(link.next_timeout, self._on_timeout)

    async def run(self) -> None:
        """Never returns; cancel it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._timer.run)
            nursery.start_soon(self._carry)
            nursery.start_soon(self._deliver)

    async def _carry(self) -> None:
        while True:
            batch = await self._tap.receive()
            now = trio.current_time()
            datagrams = []
            for payload, _ in batch:
                # None while it waits for its turn.
                sealed = self._link.send(media_frame(self._sequence, payload), now)
                datagrams += [(datagram, self._peer) for datagram in sealed]
                self._sequence += 1
            self._wire.send_batch(datagrams)
            self._drive(now)

    async def _deliver(self) -> None:
        while True:
            batch = await self._wire.receive()
            now = trio.current_time()
            payloads = []
            for datagram, _ in batch:
                try:
                    frames = self._link.handle_datagram(datagram, now)
                    payloads += [
                        (decode_media(f, HEAD_BYTES).payload, self._sink) for f in frames if f[0] == MEDIA
                    ]
                except ProtocolError as error:
                    self.refused[error.reason] += 1
            self._tap.send_batch(payloads)
            self._drive(now)

    def _on_timeout(self, now: float) -> None:
        self._link.handle_timeout(now)
        self._drive(now)

    def _drive(self, now: float) -> None:
        self._wire.send_batch([(datagram, self._peer) for datagram in self._link.poll_datagrams(now)])
        self._link.poll_events()
        self._timer.poke()


async def _run(own: int, peer_index: int, wire: Address, peer: Address, tap: Address, sink: Address) -> None:
    link = Link(
        own_index=own, peer_index=peer_index, probe_interval=PROBE_INTERVAL, dead_after=DEAD_AFTER,
        rng=Random(own),
    )  # fmt: skip
    keys = [bytes.fromhex(word) for word in os.environ[KEYS].split(",")]
    send_key, receive_key = keys if own == NEAR else keys[::-1]
    link.install_key(1, send_key, receive_key, trio.current_time())
    ports = UdpPort.open(*wire), UdpPort.open(*tap)
    end = RelayEnd(link, ports[0], peer, ports[1], sink)
    settle_heap()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end.run)
            await wait_for_stop()
            nursery.cancel_scope.cancel()
    finally:
        for port in ports:
            port.close()
    print({**link.debug_state(), "refused": dict(end.refused)})


def main() -> None:
    """Arguments: own and the peer's index; HOST:PORT of own wire, the peer's, own tap, where to deliver."""
    own, peer_index = int(sys.argv[1]), int(sys.argv[2])
    wire, peer, tap, sink = (
        (host, int(port)) for host, _, port in (a.rpartition(":") for a in sys.argv[3:7])
    )
    trio.run(_run, own, peer_index, wire, peer, tap, sink)
