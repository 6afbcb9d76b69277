"""One client of the packet benchmarks on a socket of its own: WHIP or WHEP, real ICE, DTLS and SRTP.

In: where a node's HTTP is, an offer's section. Out: a connected :class:`SocketClient`, which whoever
owns it must :meth:`~SocketClient.turn` now and then. Nothing here waits but for the answer to the offer.
"""

from __future__ import annotations

import http.client
import os
import socket
import time

from relaymesh.bench.packet_mesh import BenchFailed
from relaymesh.demo.plan import HOST
from relaymesh.netsim.descriptions import Direction, Section
from relaymesh.netsim.rtp_client import AnswerError, RtpClient
from relaymesh.webrtc import dtls
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.srtp import PROFILES, SrtpProfile

ROOM, PARTICIPANT = "bench", "publisher"
ANSWER_WITHIN_S = 10.0
BUFFER_BYTES = 4 << 20
DATAGRAM_BYTES = 2048
PROFILE_NAMES = {"gcm": "AEAD_AES_128_GCM", "cm": "AES128_CM_SHA1_80"}


def profile_called(name: str) -> SrtpProfile:
    """The profile that the option *name* (gcm, cm) stands for."""
    return next(profile for profile in PROFILES if profile.name == PROFILE_NAMES[name])


def offer_only(profile: SrtpProfile) -> None:
    """Let every client of this process offer *profile* alone, as a client does that has no other."""
    vars(dtls)["PROFILES"] = (profile,)  # for a process that only measures; the product has no such option


def open_socket(port: int = 0, host: str = HOST) -> socket.socket:
    """A UDP socket that never waits, with long queues, on loopback by default; port 0: a free one."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    sock.bind((host, port))
    sock.setblocking(False)
    return sock


class SocketClient:
    """A client's connection with its node."""

    def __init__(self, certificate: Certificate, host: str = HOST) -> None:
        self.socket = open_socket(host=host)
        self.rtp = RtpClient(certificate, os.urandom)

    def ask(self, node: tuple[str, int], direction: Direction, section: Section) -> str:
        """Offer *section* to the node whose HTTP is at *node*; the answer's text.

        Raises:
            BenchFailed: it refuses, or does not answer.
        """
        offer = self.rtp.offer(direction, [section], self.socket.getsockname()[:2])
        path = f"/{'whip' if direction == 'sendonly' else 'whep'}/{ROOM}/{PARTICIPANT}"
        connection = http.client.HTTPConnection(*node, timeout=ANSWER_WITHIN_S)
        try:
            connection.request("POST", path, offer.encode(), {"content-type": "application/sdp"})
            response = connection.getresponse()
            answer = response.read().decode()
            if response.status != 201:
                raise BenchFailed(f"{path}: {response.status} {answer.strip()}")
            self.rtp.accept(answer, time.monotonic())
        except (OSError, http.client.HTTPException, AnswerError) as error:
            raise BenchFailed(f"{path}: {error or type(error).__name__}") from None
        finally:
            connection.close()
        return answer

    def is_connected(self) -> bool:
        """Whether media can flow."""
        return self.rtp.connected

    def opened(self, packet: bytes, now: float) -> bytes | None:
        """The plain packet of an SRTP packet; ``None`` when it does not open."""
        self.rtp.handle_datagram(packet, now)
        received, self.rtp.received = self.rtp.received, []
        return received[0][1] if received else None

    def turn(self, now: float) -> None:
        """Timers that are due, and what is to be sent. Raises :class:`BenchFailed` when it is over."""
        due = self.rtp.next_timeout()
        if due is not None and due <= now:
            self.rtp.handle_timeout(now)
        self.flush()
        if self.rtp.closed:
            raise BenchFailed(f"a connection ended: {self.rtp.reason}")

    def flush(self) -> None:
        """Send what is queued."""
        for data in self.rtp.poll_datagrams():
            try:
                self.socket.sendto(data, self.rtp.peer)
            except OSError:
                pass  # a full buffer is a lost datagram

    def close(self) -> None:
        """Say goodbye."""
        if not self.rtp.closed:
            self.rtp.close(time.monotonic())
            self.flush()
        self.socket.close()
