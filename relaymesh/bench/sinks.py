"""Sockets that SRTP comes to, drained without opening it, but for those that are watched.

In: datagrams of a socket that never waits. Out: :class:`~relaymesh.bench.arrivals.Arrivals`. It knows no
session: whatever is no packet of the feed is for who makes one of these.
"""

from __future__ import annotations

import socket
import struct
import time

from relaymesh.bench.arrivals import Arrivals
from relaymesh.bench.packet_client import DATAGRAM_BYTES, open_socket, profile_called
from relaymesh.bench.packet_rows import MEDIA_BYTES
from relaymesh.webrtc.errors import SrtpError
from relaymesh.webrtc.srtp import SrtpReceiver

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
