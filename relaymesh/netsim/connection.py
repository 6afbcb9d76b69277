"""The client's end of a session over :class:`~relaymesh.netsim.plain_transport.PlainTransport`.

In: an SDP answer, datagrams. Out: connectivity checks until the node answers
and for as long as it does, RTP and RTCP, and word of the end: the node said
goodbye, or it answers no more. Everything happens inside the network's
deliveries and timers; there is no task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from relaymesh.netsim.descriptions import (
    Direction,
    Section,
    codec_lines,
    extension_lines,
    payload_types,
    source_lines,
)
from relaymesh.netsim.net import Network
from relaymesh.netsim.plain_transport import GOODBYE
from relaymesh.webrtc.errors import StunError
from relaymesh.webrtc.stun import build_binding_request, parse_binding_response

Address = tuple[str, int]

FIRST_CHECKS = 0.05  # s between checks until the first answer (RFC 8445 §14.2)
CHECKS = 2.5  # s between checks afterwards (browsers do the same)
LOST_AFTER = 5.0  # s without an answer; browsers call a connection disconnected then
FINGERPRINT = "sha-256 " + ":".join(["00"] * 32)  # of no certificate: nobody shakes hands


class Connection:
    """One session, as its client has it."""

    def __init__(
        self,
        network: Network,
        host: str,
        answer: str,
        *,
        rng: Random,
        on_connected: Callable[[float], None],
        on_packet: Callable[[bytes, bool, float], None],
        on_over: Callable[[str], None],
    ) -> None:
        """*on_packet*: (data, whether it is RTCP, now); *on_over* is told why, once."""
        self._network, self._timeline = network, network.timeline
        self._port = network.udp_port(host, 0)
        self._port.deliver_to(self._arrive)
        self._on_connected = on_connected
        self._on_packet = on_packet
        self._on_over = on_over
        self._rng = rng
        self._ufrag = _attribute(answer, "ice-ufrag")
        self._password = _attribute(answer, "ice-pwd")
        _, _, _, _, node_host, node_port, *_ = _attribute(answer, "candidate").split()
        self._node: Address = node_host, int(node_port)
        self._began = network.now
        self._answered_at: float | None = None
        self._over = False
        self._check()

    @property
    def connected(self) -> bool:
        return self._answered_at is not None and not self._over

    def send(self, packets: list[bytes]) -> None:
        """Send RTP or RTCP packets, once there is a connection."""
        if self.connected and packets:
            node = self._node
            self._port.send_batch([(packet, node) for packet in packets])

    def close(self, *, say: bool = True) -> None:
        """End it from this side; :meth:`on_over` is not called."""
        if not self._over:
            if say:
                self.send([GOODBYE])
            self._over = True
            self._port.close()

    def _check(self) -> None:
        if self._over:
            return
        now = self._network.now
        last = self._began if self._answered_at is None else self._answered_at
        if now - last > LOST_AFTER:
            self._end("no answer")
            return
        check = build_binding_request(
            username=f"{self._ufrag}:sim",
            password=self._password,
            transaction_id=self._rng.randbytes(12),
            use_candidate=True,
        )
        self._port.send_batch([(check, self._node)])
        pause = FIRST_CHECKS if self._answered_at is None or now - self._answered_at > CHECKS else CHECKS
        self._network.at(now + pause, self._check)

    def _arrive(self, data: bytes, source: Address) -> None:
        now = self._timeline.now
        first = data[0]
        if first >= 0x80:
            self._on_packet(data, 192 <= data[1] <= 223, now)
        elif first == GOODBYE[0]:
            self._end("the node said goodbye")
        else:
            self._take_answer(data, now)

    def _take_answer(self, data: bytes, now: float) -> None:
        try:
            parse_binding_response(data, self._password)
        except StunError:
            return
        first = self._answered_at is None
        self._answered_at = now
        if first:
            self._on_connected(now)

    def _end(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._port.close()
            self._on_over(why)


def _attribute(sdp: str, name: str) -> str:
    found = re.search(rf"(?m)^a={name}:(.*?)\r?$", sdp)
    if found is None:
        raise ValueError(f"an answer without {name}")
    return found[1]


# --- descriptions -----------------------------------------------------------------------------------


def plain_offer(direction: Direction, sections: Sequence[Section]) -> str:
    """The offer of a client without cryptography."""
    mids = " ".join(str(mid) for mid in range(len(sections)))
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", f"a=group:BUNDLE {mids}"]
    for mid, section in enumerate(sections):
        lines += [
            f"m={section.kind} 9 UDP/TLS/RTP/SAVPF {payload_types(section)}",
            "c=IN IP4 0.0.0.0",
            "a=ice-ufrag:simu",
            "a=ice-pwd:simulatedsimulatedsimul",
            f"a=fingerprint:{FINGERPRINT}",
            "a=setup:actpass",
            f"a=mid:{mid}",
            "a=rtcp-mux",
            *extension_lines(section),
            *codec_lines(section),
            f"a={direction}",
            *source_lines(section),
        ]
    return "\r\n".join(lines) + "\r\n"
