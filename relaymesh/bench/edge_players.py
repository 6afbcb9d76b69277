"""All players of ``bench edge``, in one process: they connect as browsers do, and only count what comes.

In: calls of a :class:`~relaymesh.bench.worker.Worker`. Out: a :class:`~relaymesh.bench.arrivals.Tally` of
each run. What arrives is drained without opening it, but for a few players who open everything, so that
what the others count is known to be what it should be. Consent checks, receiver reports each second and,
where asked for, transport-wide feedback each 100 ms go back, as from a browser. Where the time of arrival
matters the kernel notes it, so that this process may be late.
"""

from __future__ import annotations

import resource
import select
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

from relaymesh.bench.arrivals import Tally, tally
from relaymesh.bench.janus import JanusViewer
from relaymesh.bench.packet_client import SocketClient, offer_only, profile_called
from relaymesh.bench.packet_mesh import BenchFailed
from relaymesh.bench.packet_rows import header_extension
from relaymesh.bench.sinks import PlainSink, Sink
from relaymesh.netsim.descriptions import Section, accepted_in, answered_sources
from relaymesh.runtime.process import settle_heap
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.twcc import TwccReceiver

Feedback = Literal["none", "twcc"]

WATCHED = 2  # players of all, or a few more, who open everything; the last of the fan-out among them
CONNECTED_WITHIN_S = 5.0
REPORT_INTERVAL, FEEDBACK_INTERVAL, SWEEP_INTERVAL = 1.0, 0.1, 0.02  # seconds
NAP_S = 0.001  # between two looks: a wake for each packet would take a core from who is measured
OWN_SSRC = 0x20F0


class Player(Sink):
    """One WHEP player."""

    def __init__(self, certificate: Certificate, feedback: Feedback, *, watched: bool) -> None:
        self.client = SocketClient(certificate)
        super().__init__(self.client.socket, watched=watched, timed=feedback == "twcc")
        self.media_seen = False  # since it joined
        self._feedback = feedback
        self._ssrc = self._transport_id = 0
        self._twcc = TwccReceiver()
        self._highest = 0  # RTP sequence number, extended
        self._reported = (0, 0)  # highest number, packets, of the last report
        self._media = 0
        self._sender_report = (0, 0.0)  # middle of its NTP time, when it came

    def join(self, node: tuple[str, int]) -> None:
        """Ask the node. Raises :class:`BenchFailed`."""
        section = Section("video", feedback=self._feedback == "twcc")
        answer = self.client.ask(node, "recvonly", section)
        (source,) = answered_sources(answer)
        if source is None:
            raise BenchFailed("the node sends no video")
        self._ssrc = source[0]
        self._transport_id = accepted_in(answer)[0].transport_cc or 0

    def is_ready(self, media: bool) -> bool:
        """Whether it is connected and, with *media*, has its first packet."""
        return self.client.is_connected() and (self.media_seen or not media)

    def note_media(self, packet: bytes | bytearray) -> None:
        if int.from_bytes(packet[8:12], "big") == self._ssrc:
            self.arrivals.media += 1
            self._media += 1
            self.media_seen = True
            ahead = ((packet[2] << 8 | packet[3]) - self._highest) & 0xFFFF
            if ahead < 0x8000:
                self._highest += ahead
        else:
            self.arrivals.other += 1
        self._record(packet)

    def _record(self, packet: bytes | bytearray) -> None:
        if self._transport_id:
            number = header_extension(packet, self._transport_id)
            if number is not None:
                self._twcc.record(number, self.came_at)

    def open(self, packet: bytes, now: float) -> bytes | None:
        return self.client.opened(packet, now)

    def take(self, data: bytes, now: float) -> None:
        client = self.client.rtp
        client.handle_datagram(data, now)
        received, client.received = client.received, []
        for kind, packet in received:
            if kind == "rtp":
                self.arrivals.other += 1
                self._record(packet)
            else:
                self._read_reports(packet, now)
        self.client.flush()

    def _read_reports(self, packet: bytes, now: float) -> None:
        try:
            reports = [one for one in rtcp.parse_rtcp(packet) if isinstance(one, rtcp.SenderReport)]
        except RtpError:
            self.arrivals.refused += 1
            return
        for report in reports:
            if report.ssrc == self._ssrc:
                self._sender_report = report.ntp >> 16 & 0xFFFFFFFF, now

    def report(self, now: float) -> None:
        """The receiver report of each second."""
        if not self._media:
            return
        highest, packets = self._reported
        expected = (self._highest - highest) or 1
        lost = max(0, expected - (self._media - packets)) if packets else 0
        self._reported = self._highest, self._media
        last, came_at = self._sender_report
        delay = int((now - came_at) * 65536) & 0xFFFFFFFF if last else 0
        block = rtcp.ReportBlock(
            self._ssrc, min(255, lost * 256 // expected), 0, self._highest & 0xFFFFFFFF, 0, last, delay
        )
        self._send(rtcp.build_receiver_report(OWN_SSRC, [block]))

    def feed_back(self) -> None:
        """The transport-wide feedback of each 100 ms."""
        if self._transport_id and (packet := self._twcc.feedback(OWN_SSRC, self._ssrc)) is not None:
            self._send(packet)

    def _send(self, packet: bytes) -> None:
        self.client.rtp.send_rtcp(packet)
        self.client.flush()

    def close(self) -> None:
        """Say goodbye."""
        self.client.close()


class Players:
    """The servant: all players of one node, the sockets of the floor program, the viewers of Janus."""

    def __init__(self, profile_name: str, feedback: Feedback) -> None:
        offer_only(profile_called(profile_name))
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket for each player
        self._profile_name = profile_name
        self._feedback: Feedback = feedback
        self._certificate = Certificate.generate(time.time())
        self._epoll = select.epoll()
        self._sinks: dict[int, Sink] = {}
        self._players: list[Player] = []
        self._viewers: list[JanusViewer] = []
        self._sweep_at = self._report_at = self._feedback_at = 0.0

    # --- calls ---------------------------------------------------------------------------------

    def join(self, node: tuple[str, int], count: int, media: bool = False) -> None:
        """Let *count* players join, one after the other; with *media* each waits for its first packet.

        Raises:
            BenchFailed: one cannot.
        """
        for number in range(count):
            player = Player(self._certificate, self._feedback, watched=is_watched(number, count))
            self._players.append(player)
            self._add(player)
            player.join(node)
            self._wait_for(partial(player.is_ready, media), f"player {number + 1} of {count}")
        settle_heap()  # a full collection would look like a late packet

    def leave(self) -> None:
        """All players say goodbye."""
        for player in self._players:
            self._remove(player)
        self._players = []

    def listen(self, keys: list[bytes]) -> list[tuple[str, int]]:
        """A socket for each key (master key and salt) of the floor program; their addresses."""
        addresses = []
        for number, key in enumerate(keys):
            sink = PlainSink(key, self._profile_name, watched=is_watched(number, len(keys)))
            self._add(sink)
            addresses.append(sink.socket.getsockname()[:2])
        return addresses

    def begin(self) -> None:
        """Forget what was counted."""
        for sink in self._sinks.values():
            sink.arrivals.clear()

    def arrived(self) -> int:
        """Packets of the feed since :meth:`begin`."""
        return sum(sink.arrivals.media for sink in self._sinks.values())

    def end(self) -> Tally:
        """What came since :meth:`begin`."""
        now = time.monotonic()
        for sink in self._sinks.values():
            sink.drain(now)
        return tally(sink.arrivals for sink in self._sinks.values())

    def watch_janus(self, api: str, count: int) -> None:
        """Let *count* viewers join the Janus whose API is at *api*. Raises :class:`BenchFailed`."""
        for number in range(count):
            viewer = JanusViewer(self._certificate, watched=is_watched(number, count))
            self._viewers.append(viewer)
            self._add(viewer)
            viewer.join(api)
            self._wait_for(viewer.client.is_connected, "a viewer of Janus")

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + CONNECTED_WITHIN_S
        while not condition():
            if time.monotonic() > deadline:
                raise BenchFailed(f"{what} has no connection, or no media")
            self._sweep_at = 0.0  # a handshake waits for nobody's turn
            self.turn()

    # --- turns ---------------------------------------------------------------------------------

    def turn(self) -> None:
        """Drain what is there, and do what is due."""
        ready = self._epoll.poll(SWEEP_INTERVAL / 2)
        now = time.monotonic()
        for descriptor, _ in ready:
            self._sinks[descriptor].drain(now)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_INTERVAL
            for client in (*(p.client for p in self._players), *(v.client for v in self._viewers)):
                client.turn(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL
            for player in self._players:
                player.report(now)
        if now >= self._feedback_at:
            self._feedback_at = now + FEEDBACK_INTERVAL
            for player in self._players:
                player.feed_back()
        time.sleep(NAP_S)

    def close(self) -> None:
        """End all."""
        for sink in list(self._sinks.values()):
            self._remove(sink)
        self._epoll.close()

    def _add(self, sink: Sink) -> None:
        descriptor = sink.socket.fileno()
        self._sinks[descriptor] = sink
        self._epoll.register(descriptor, select.EPOLLIN)

    def _remove(self, sink: Sink) -> None:
        descriptor = sink.socket.fileno()
        self._epoll.unregister(descriptor)
        del self._sinks[descriptor]
        sink.close()


def is_watched(number: int, count: int) -> bool:
    """Every so manieth, counted from the last."""
    return (count - 1 - number) % max(1, count // WATCHED) == 0
