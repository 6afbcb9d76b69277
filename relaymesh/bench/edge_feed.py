"""The publisher of the packet benchmarks, in a process of its own: a paced feed, to a node or to the floor.

In: calls of a :class:`~relaymesh.bench.worker.Worker`. Out: how many packets left, and how late. Towards a
node it is a WHIP client with a real connection, which answers keyframe requests and reports each second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from relaymesh.bench.packet_client import (
    DATAGRAM_BYTES,
    SocketClient,
    offer_only,
    open_socket,
    profile_called,
)
from relaymesh.bench.packet_mesh import BenchFailed
from relaymesh.bench.packet_rows import RTX_SSRC, SSRC, Feed, Row
from relaymesh.netsim.descriptions import Section, accepted_in
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.srtp import SrtpSender

CONNECTED_WITHIN_S = 5.0
REPORT_INTERVAL = 1.0  # seconds
LOOK_INTERVAL = 0.02  # seconds between two looks at what came back
TURN_S = 0.01
_EPOCH_NTP = 2_208_988_800  # 1970 in seconds since 1900


@dataclass(frozen=True, slots=True)
class Sent:
    """What a run of the feed did."""

    packets: int
    seconds: float
    late_p99_ms: float  # of the bursts


class Publisher:
    """The servant."""

    def __init__(self, profile_name: str, feedback: bool) -> None:
        self._profile = profile_called(profile_name)
        offer_only(self._profile)
        self._feedback = feedback
        self._client: SocketClient | None = None
        self._feed = Feed()
        self._report_at = self._look_at = 0.0
        self._floor_socket = open_socket()
        self._floor: tuple[SrtpSender, tuple[str, int]] | None = None
        self._floor_feed = Feed()
        self._plain_feeds: dict[tuple[str, int], Feed] = {}  # a receiver knows a stream by its numbers

    # --- calls ---------------------------------------------------------------------------------

    def connect(self, node: tuple[str, int]) -> None:
        """Publish at the node whose HTTP is at *node*. Raises :class:`BenchFailed`."""
        client = self._client = SocketClient(Certificate.generate(time.time()))
        section = Section("video", SSRC, RTX_SSRC, feedback=self._feedback)
        answer = client.ask(node, "sendonly", section)
        self._feed = Feed(accepted_in(answer)[0].transport_cc)
        deadline = time.monotonic() + CONNECTED_WITHIN_S
        while not client.rtp.connected:
            if time.monotonic() > deadline:
                raise BenchFailed("the publisher gets no connection")
            self._look_at = 0.0
            self.turn()

    def aim(self, address: tuple[str, int], key: bytes) -> None:
        """Where the floor program listens, and the master key and salt of what it gets."""
        self._floor = SrtpSender(key, self._profile), address

    def run(self, row: Row, seconds: float, goal: str) -> Sent:
        """Send *row* for so many seconds to *goal*: ``node`` or ``floor``."""
        to_node = goal == "node"
        return self._pace(
            self._feed if to_node else self._floor_feed,
            row,
            seconds,
            self._send if to_node else self._send_to_floor,
        )

    def run_plain(self, row: Row, seconds: float, address: tuple[str, int]) -> Sent:
        """Send the same as plain RTP to *address*."""

        def send(packets: list[bytes]) -> None:
            for packet in packets:
                self._floor_socket.sendto(packet, address)

        return self._pace(self._plain_feeds.setdefault(address, Feed()), row, seconds, send)

    # --- parts ---------------------------------------------------------------------------------

    def _pace(self, feed: Feed, row: Row, seconds: float, send: Callable[[list[bytes]], None]) -> Sent:
        feed.wants_keyframe = True
        bursts = max(1, round(seconds / row.interval))
        start, late = time.monotonic() + 0.01, []
        for number in range(bursts):
            due = start + number * row.interval
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, LOOK_INTERVAL))
                self._look(time.monotonic())
            late.append(time.monotonic() - due)
            send(feed.frame(row, time.time()))
            self._look(time.monotonic())
        late.sort()
        took = time.monotonic() - start
        return Sent(bursts * row.burst, took, late[min(bursts - 1, int(0.99 * bursts))] * 1e3)

    def turn(self) -> None:
        """Keep the connection."""
        time.sleep(TURN_S)
        self._look(time.monotonic())

    def close(self) -> None:
        """End it."""
        if self._client is not None:
            self._client.close()
        self._floor_socket.close()

    def _send(self, packets: list[bytes]) -> None:
        assert self._client is not None, "it is connected"
        for packet in packets:
            self._client.rtp.send_rtp(packet)
        self._client.flush()

    def _send_to_floor(self, packets: list[bytes]) -> None:
        assert self._floor is not None, "it was aimed"
        sender, address = self._floor
        for packet in packets:
            self._floor_socket.sendto(sender.protect_rtp(packet), address)

    def _look(self, now: float) -> None:
        """What came back, and what is due, now and then."""
        client = self._client
        if client is None or now < self._look_at:
            return
        self._look_at = now + LOOK_INTERVAL
        while True:
            try:
                client.rtp.handle_datagram(client.socket.recv(DATAGRAM_BYTES), now)
            except BlockingIOError:
                break
            except OSError:
                continue
        received, client.rtp.received = client.rtp.received, []
        for kind, packet in received:
            if kind == "rtcp":
                self._handle_rtcp(packet)
        if client.rtp.connected and self._feed.packets and now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL
            ntp = int((time.time() + _EPOCH_NTP) * 2**32)
            feed = self._feed
            client.rtp.send_rtcp(
                rtcp.build_sender_report(
                    SSRC, ntp, feed.timestamp, feed.packets & 0xFFFFFFFF, feed.octets & 0xFFFFFFFF
                )
            )
        client.turn(now)

    def _handle_rtcp(self, packet: bytes) -> None:
        try:
            reports = rtcp.parse_rtcp(packet)
        except RtpError:
            return
        if any(isinstance(one, rtcp.PictureLossIndication | rtcp.FullIntraRequest) for one in reports):
            self._feed.wants_keyframe = True
