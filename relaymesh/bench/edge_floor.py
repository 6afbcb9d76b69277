"""The floor beside ``bench edge``: the least that a Python process can do to fan a feed out as SRTP.

In: one SRTP stream on a UDP socket. Out: the same packets, each under the key of each of N receivers.
It opens a packet, writes another SSRC, and for each receiver protects (libsrtp by pylibsrtp, whichever
kernels the node has, so that the floor stays where it is) and sends it. There is no ICE, no DTLS, no RTCP,
no retransmission and no timer; it waits in ``recv``.
"""

from __future__ import annotations

import threading

from relaymesh.bench.packet_client import DATAGRAM_BYTES, open_socket, profile_called
from relaymesh.kernels.srtp_reference import SrtpFailure, SrtpReceiver, SrtpSender

TURN_S = 0.5  # a wake twice a second is nothing beside what is measured


class Floor:
    """The servant: its thread forwards, the rest of it waits for calls."""

    def __init__(self, profile_name: str, feed_key: bytes) -> None:
        profile = profile_called(profile_name)
        self._profile = profile.name
        self._receiver = SrtpReceiver(feed_key, self._profile)
        self._socket = open_socket()
        self._socket.setblocking(True)  # it waits in recv
        self._takers: list[tuple[SrtpSender, bytes, tuple[str, int]]] = []
        self._wait = threading.Event()

    def serve(self, keys: list[bytes], addresses: list[tuple[str, int]]) -> tuple[str, int]:
        """Fan out to *addresses*, each under its key (master key and salt); where to send the feed."""
        self._takers = [
            (SrtpSender(key, self._profile), number.to_bytes(4, "big"), address)
            for number, (key, address) in enumerate(zip(keys, addresses, strict=True), 1)
        ]
        threading.Thread(target=self._run, daemon=True).start()
        address: tuple[str, int] = self._socket.getsockname()[:2]
        return address

    def _run(self) -> None:
        receive, send, open_packet = self._socket.recv, self._socket.sendto, self._receiver.unprotect_rtp
        takers = [(sender.protect_rtp, ssrc, address) for sender, ssrc, address in self._takers]
        while True:
            try:
                packet = open_packet(receive(DATAGRAM_BYTES))
            except SrtpFailure:
                continue
            except OSError:
                return
            head, payload = packet[:8], packet[12:]
            for protect, ssrc, address in takers:
                send(protect(head + ssrc + payload), address)

    def turn(self) -> None:
        """Nothing is due here."""
        self._wait.wait(TURN_S)

    def close(self) -> None:
        """End it."""
        self._socket.close()
