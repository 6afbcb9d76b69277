"""What a player asks for again, within bounds, and the rows that bring it: RTX where the player offered it.

In: the sequence numbers of NACKs, ``now``; what is to be sent again. Out: which of them are to be answered,
which are gone for good, rows. Knows nothing of encodings; the sender finds the packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from relaymesh.node.egress_rows import PADDING_BYTES, U16, EgressNumbers, EgressRow
from relaymesh.node.rewrite import Extensions
from relaymesh.webrtc.codecs import Codec

RESEND_GUARD = 0.01  # s; a second NACK for the same packet within this is the same request
RESENT_KEPT = 2048  # as many as a player may ask for at once
# One NACK of 250 bytes can ask for a thousand packets: beyond this a player is not served. A tenth of the
# packets of a 20 Mbit/s stream, asked for ten times each, is 2000 a second.
ASKED_PER_S = 2000.0
ASKED_BURST = 2048.0
GONE_AFTER = 0.15  # s; a packet we lack is asked for again after this: upstream will not bring it any more
GONE_KEPT = 512
AGAIN_WITHIN = 2.0  # s after a packet was first sent again, it is sent once more when that was lost, …
AGAIN_TRIES = 5  # … up to so many times
AGAIN_KEPT = 1024  # retransmissions under way


class LostAgain:
    """Retransmissions that the path lost as well, by the transport-wide feedback of their player.

    Behind a full queue libwebrtc was seen to ask once and no more, and then to wait 3 s for a picture that
    lacked one packet. Who sent it knows sooner.
    """

    def __init__(self) -> None:
        self._under_way: dict[
            int, tuple[int, int]
        ] = {}  # transport-wide number → (RTX SSRC, sequence), 16 bits
        self._tried: dict[tuple[int, int], tuple[float, int]] = {}  # → (first sent at, how often)

    def note_sent(self, number: int, ssrc: int, payload: bytes, now: float) -> None:
        """A retransmission left as packet *number* (RFC 4588 §4: its payload begins with what it repeats)."""
        if len(payload) < U16.size:
            return
        (sequence,) = U16.unpack_from(payload)
        self._under_way[number] = packet = ssrc, sequence
        since, tries = self._tried.get(packet, (now, 0))
        self._tried[packet] = (since, tries + 1) if now - since < AGAIN_WITHIN else (now, 1)
        while len(self._under_way) > AGAIN_KEPT:
            del self._under_way[next(iter(self._under_way))]
        while len(self._tried) > AGAIN_KEPT:
            del self._tried[next(iter(self._tried))]

    def take_lost(self, numbers: Sequence[int], now: float) -> list[tuple[int, int]]:
        """Of the packets *numbers*, which were lost, what is sent once more: (RTX SSRC, sequence)."""
        found: list[tuple[int, int]] = []
        for number in numbers:
            packet = self._under_way.pop(number, None)
            if packet is None:
                continue
            since, tries = self._tried.get(packet, (-inf, 0))
            if tries < AGAIN_TRIES and now - since < AGAIN_WITHIN:
                found.append(packet)
        return found


class Resending:
    """The requests of one player for one track, and its retransmission stream."""

    def __init__(self, codec: Codec, numbers: EgressNumbers) -> None:
        self.nacked = self.retransmitted = self.unavailable = 0  # packets
        # Whether padding can probe the path: its player counts what arrives of the retransmissions.
        self.may_pad = numbers.tells_path and numbers.rtx_ssrc is not None
        self._codec, self._numbers = codec, numbers
        self._rtx_sequence = numbers.first_rtx_sequence
        self._resent: dict[int, float] = {}  # extended sequence number → when
        self._may_ask = ASKED_BURST  # packets, at _may_ask_at
        self._may_ask_at = -inf
        self._lacking: dict[int, float] = {}  # asked for and not there → since when

    # --- requests ------------------------------------------------------------------------------

    def served(self, sequences: Sequence[int], now: float) -> Sequence[int]:
        """Those of *sequences* (16 bits) that are looked at: a player may ask for so many a second."""
        self._may_ask = min(ASKED_BURST, self._may_ask + (now - self._may_ask_at) * ASKED_PER_S)
        self._may_ask_at = now
        served = sequences[: int(self._may_ask)]
        self._may_ask -= len(served)
        self.nacked += len(served)
        return served

    def is_new(self, out: int, now: float, answer_s: float) -> bool:
        """Whether *out* (extended) is to be sent, and note it.

        *answer_s*: what is sent now is with the player after so many seconds; asked for again before, it is
        the same request.
        """
        if now - self._resent.get(out, -inf) < max(RESEND_GUARD, answer_s):
            return False
        self._resent[out] = now
        while len(self._resent) > RESENT_KEPT:
            del self._resent[next(iter(self._resent))]
        self.retransmitted += 1
        return True

    def is_gone(self, sequence: int, now: float) -> bool:
        """Whether *sequence*, which is not here, is asked for so long that it will not come any more.

        Only a keyframe answers such a hole. Players come to that by themselves, but late: libwebrtc waits
        3 s for a decodable frame.
        """
        self.unavailable += 1
        since = self._lacking.setdefault(sequence, now)
        while len(self._lacking) > GONE_KEPT:
            del self._lacking[next(iter(self._lacking))]
        return now - since >= GONE_AFTER

    def forget_gone(self) -> None:
        """A keyframe was asked for: it closes all holes before it."""
        self._lacking.clear()

    # --- rows ------------------------------------------------------------------------------------

    def row(
        self, sequence: int, marker: bool, timestamp: int, payload: bytes, extensions: Extensions
    ) -> EgressRow:
        """The packet with *sequence* (16 bits) once more; *extensions* have the player's identifiers."""
        codec, numbers = self._codec, self._numbers
        payload_type, ssrc = codec.payload_type, numbers.ssrc
        if codec.rtx is not None and numbers.rtx_ssrc is not None:
            # RFC 4588 §4: the original sequence number goes in front of the payload.
            payload_type, ssrc, payload = codec.rtx, numbers.rtx_ssrc, U16.pack(sequence) + payload
            sequence = self._next_rtx_sequence()
        return EgressRow(
            "retransmission",
            payload_type,
            marker,
            sequence,
            timestamp,
            ssrc,
            payload,
            extensions,
            numbers.transport_id,
            numbers.send_time_id,
        )

    def padding(self, timestamp: int) -> EgressRow | None:
        """A packet of padding to probe the path with, on the SSRC of retransmissions; ``None`` without one.

        There no player misses it, and libwebrtc counts it in its feedback.
        """
        codec, numbers = self._codec, self._numbers
        if codec.rtx is None or numbers.rtx_ssrc is None:
            return None
        return EgressRow(
            "padding",
            codec.rtx,
            False,
            self._next_rtx_sequence(),
            timestamp,
            numbers.rtx_ssrc,
            b"",
            (),
            numbers.transport_id,
            numbers.send_time_id,
            PADDING_BYTES,
        )

    def _next_rtx_sequence(self) -> int:
        sequence, self._rtx_sequence = self._rtx_sequence, (self._rtx_sequence + 1) & 0xFFFF
        return sequence

    def debug_state(self) -> dict[str, object]:
        return {
            "nacked": self.nacked,
            "retransmitted": self.retransmitted,
            "unavailable": self.unavailable,
        }
