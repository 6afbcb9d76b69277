"""All players of ``bench edge``, in one process: they connect as browsers do, and only count what comes.

In: calls of a :class:`~relaymesh.bench.worker.Worker`. Out: a :class:`~relaymesh.bench.arrivals.Tally` of
each run. What arrives is drained without opening it, but for a few players who open everything, so that
what the others count is known to be what it should be. Consent checks, receiver reports each second and,
where asked for, transport-wide feedback each 100 ms go back, as from a browser. Where the time of arrival
matters the kernel notes it, so that this process may be late.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Literal

from relaymesh.bench.arrivals import Arrivals, Tally, tally
from relaymesh.bench.packet_client import (
    DATAGRAM_BYTES,
    SocketClient,
    offer_only,
    open_socket,
    profile_called,
)
from relaymesh.bench.packet_mesh import BenchFailed
from relaymesh.bench.packet_rows import MEDIA_BYTES, header_extension
from relaymesh.netsim.descriptions import Section, accepted_in, answered_sources
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.errors import RtpError, SrtpError
from relaymesh.webrtc.srtp import SrtpReceiver
from relaymesh.webrtc.twcc import TwccReceiver

Feedback = Literal["none", "twcc"]

WATCHED = 4  # players of all who open everything; the last of the fan-out among them
CONNECTED_WITHIN_S = 5.0
REPORT_INTERVAL, FEEDBACK_INTERVAL, SWEEP_INTERVAL = 1.0, 0.1, 0.02  # seconds
NAP_S = 0.001  # between two looks: a wake for each packet would take a core from who is measured
OWN_SSRC = 0x20F0
_SO_TIMESTAMPNS = 35  # socket(7), Linux on x86-64 and aarch64; not in Python's socket
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)


class Sink:
    """A socket that SRTP comes to, and nothing else is known of."""

    def __init__(self, sock: socket.socket, *, watched: bool, timed: bool) -> None:
        """*watched*: it opens everything, and is timed; *timed*: :attr:`came_at` is to be exact."""
        self.socket = sock
        self.watched = watched
        self.came_at = 0.0  # of the packet under work, monotonic seconds
        self.arrivals = Arrivals()
        self._buffer = bytearray(DATAGRAM_BYTES)
        self._view = memoryview(self._buffer)
        self._timed = timed or watched
        if self._timed:
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def drain(self, now: float) -> None:
        """Take all that is there; *now*: monotonic seconds."""
        if self._timed:
            self._drain_timed(now)
            return
        self.came_at = now
        receive, buffer = self.socket.recv_into, self._buffer
        while True:
            try:
                size = receive(buffer)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of something sent before
            if size > MEDIA_BYTES and buffer[0] >> 6 == 2:
                self.note_media(buffer)
            else:
                self.take(bytes(self._view[:size]), now)

    def _drain_timed(self, now: float) -> None:
        since_1970 = time.time() - time.monotonic()
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(DATAGRAM_BYTES, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            came_at = seconds + nanoseconds / 1e9
            self.came_at = came_at - since_1970
            if len(data) <= MEDIA_BYTES or data[0] >> 6 != 2:
                self.take(data, now)
                continue
            self.note_media(data)
            if self.watched:
                plain = self.open(data, now)
                if plain is None:
                    self.arrivals.refused += 1
                else:
                    self.arrivals.look_into(plain, came_at)

    def note_media(self, packet: bytes | bytearray) -> None:
        """An SRTP packet of the feed came; *packet* may be longer than it."""
        self.arrivals.media += 1

    def open(self, packet: bytes, now: float) -> bytes | None:
        """The plain packet; ``None`` when it does not open."""
        raise NotImplementedError

    def take(self, data: bytes, now: float) -> None:
        """Anything else that came."""

    def close(self) -> None:
        """Let go of the socket."""
        self.socket.close()


class PlainSink(Sink):
    """A receiver of the floor program: SRTP with keys agreed before."""

    def __init__(self, key: bytes, profile_name: str, *, watched: bool) -> None:
        super().__init__(open_socket(), watched=watched, timed=False)
        self._receiver = SrtpReceiver(key, profile_called(profile_name))

    def open(self, packet: bytes, now: float) -> bytes | None:
        try:
            return self._receiver.unprotect_rtp(packet)
        except SrtpError:
            return None


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
        client = self.client.rtp
        client.handle_datagram(packet, now)
        received, client.received = client.received, []
        return received[0][1] if received else None

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
    """The servant: all players of one node, and the sockets of the floor program."""

    def __init__(self, profile_name: str, feedback: Feedback) -> None:
        offer_only(profile_called(profile_name))
        self._profile_name = profile_name
        self._feedback: Feedback = feedback
        self._certificate = Certificate.generate(time.time())
        self._epoll = select.epoll()
        self._sinks: dict[int, Sink] = {}
        self._players: list[Player] = []
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
            deadline = time.monotonic() + CONNECTED_WITHIN_S
            while not player.client.rtp.connected or (media and not player.media_seen):
                if time.monotonic() > deadline:
                    what = "media" if media else "connection"
                    raise BenchFailed(f"player {number + 1} of {count} has no {what}")
                self._sweep_at = 0.0  # a handshake waits for nobody's turn
                self.turn()

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

    # --- turns ---------------------------------------------------------------------------------

    def turn(self) -> None:
        """Drain what is there, and do what is due."""
        ready = self._epoll.poll(SWEEP_INTERVAL / 2)
        now = time.monotonic()
        for descriptor, _ in ready:
            self._sinks[descriptor].drain(now)
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_INTERVAL
            for player in self._players:
                player.client.turn(now)
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
