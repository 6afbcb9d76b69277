"""One track as a player gets it: media frames in, RTP of the player's own numbering out.

Starts video on a keyframe, answers NACKs from the encoding's packets (as RTX
where the player offered it), and relays the publisher's clock in sender
reports, so that audio and video stay in step across the mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from struct import Struct

from relaymesh.node.rewrite import Rewriter
from relaymesh.node.streams import Encoding
from relaymesh.protocol.frames import MediaFrame
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.rtcp import build_sdes, build_sender_report
from relaymesh.webrtc.rtp import ONE_BYTE_PROFILE, build_extensions, build_rtp

RESEND_GUARD = 0.01  # s; a second NACK for the same packet within this is the same request
RESENT_KEPT = 512
# One NACK of 250 bytes can ask for a thousand packets: beyond this a player is not served. A tenth of the
# packets of a 20 Mbit/s stream, asked for ten times each, is 2000 a second.
ASKED_PER_S = 2000.0
ASKED_BURST = 2048.0
GONE_AFTER = 0.15  # s; a packet we lack is asked for again after this: upstream will not bring it any more
GONE_KEPT = 512
U16 = Struct("!H")
# RFC 8285 §4.2: profile, words, id and length − 1, the number, one byte of padding.
TRANSPORT_NUMBER_ONLY = Struct("!HHBHx")


@dataclass(frozen=True, slots=True)
class EgressNumbers:
    """What identifies this copy of the track towards the player; all random but the ids."""

    ssrc: int
    rtx_ssrc: int | None
    first_sequence: int  # 16 bits
    first_rtx_sequence: int  # 16 bits
    transport_id: int | None  # RTP extension id for the transport-wide sequence number
    extension_ids: dict[int, int]  # frame extension kind → the player's RTP extension id


class EgressTrack:
    """The sending end of one played track."""

    def __init__(
        self,
        mid: str,
        codec: Codec,
        numbers: EgressNumbers,
        *,
        cname: str,
        send: Callable[[bytes], None],
        next_transport_sequence: Callable[[], int],
    ) -> None:
        self.mid = mid
        self.codec = codec
        self.numbers = numbers
        self._cname = cname
        self._send = send
        self._next_transport_sequence = next_transport_sequence
        self._rewriter = Rewriter(
            clock_rate=codec.clock_rate,
            codec_name=codec.name,
            first_sequence=numbers.first_sequence,
        )
        self.encoding: Encoding | None = None
        self._source: Encoding | None = None  # the encoding the current era belongs to
        self._rtx_sequence = numbers.first_rtx_sequence
        self._resent: dict[int, float] = {}
        self._may_ask = ASKED_BURST  # packets, at _may_ask_at
        self._may_ask_at = -inf
        self._lacking: dict[int, float] = {}  # asked for and not there → since when
        self.started_at: float | None = None
        self.packets = self.octets = 0
        self.nacked = self.retransmitted = self.unavailable = self.keyframe_requests = 0
        self.fraction_lost = 0.0

    @property
    def is_video(self) -> bool:
        return self.codec.name.lower() != "opus"

    # --- source --------------------------------------------------------------------------------

    def attach(self, encoding: Encoding, now: float) -> None:
        """Take packets from *encoding* from now on; video begins with its next keyframe."""
        self.detach()
        self.encoding = encoding
        encoding.takers.append(self)
        if self.is_video:
            encoding.keyframe_wish.ask(now)

    def detach(self) -> None:
        """Take nothing any more; what was sent can still be asked for again."""
        if self.encoding is not None:
            self._rewriter.close_era()
            self.encoding.takers.remove(self)
            self.encoding = None

    # --- media ---------------------------------------------------------------------------------

    def take(self, frame: MediaFrame, now: float) -> None:
        """Send *frame* on under this player's numbers."""
        if self._source is not self.encoding:
            if self.is_video and not frame.keyframe:
                return
            assert self.encoding is not None, "only an attached encoding hands out packets"
            self._rewriter.begin(self.encoding, frame, now)
            self._source = self.encoding
            if self.started_at is None:
                self.started_at = now
        renamed = self._rewriter.rename(frame, now)
        if renamed is None:
            return
        sequence, timestamp, payload, extensions = renamed
        self.packets += 1
        self.octets += len(payload)
        self._send(
            build_rtp(
                self.codec.payload_type,
                frame.marker,
                sequence & 0xFFFF,
                timestamp,
                self.numbers.ssrc,
                payload,
                self._extensions(extensions),
            )
        )

    def skip(self, first: int, packets: int, pictures: int) -> None:
        """These of the source's packets were left out on the way, by intent: nothing to wait for."""
        if self._source is self.encoding:
            self._rewriter.skip(first, packets, pictures)

    def _extensions(self, extensions: tuple[tuple[int, bytes], ...]) -> bytes:
        if not extensions:  # nearly every packet: this is the hot path
            number = self.numbers.transport_id
            if number is None:
                return b""
            return TRANSPORT_NUMBER_ONLY.pack(
                ONE_BYTE_PROFILE, 1, number << 4 | 1, self._next_transport_sequence()
            )
        items: list[tuple[int, bytes]] = []
        ids = self.numbers.extension_ids
        for kind, value in extensions:
            number = ids.get(kind)
            if number is not None:
                items.append((number, value))
        if self.numbers.transport_id is not None:
            items.append((self.numbers.transport_id, U16.pack(self._next_transport_sequence())))
        return build_extensions(items) if items else b""

    # --- feedback ------------------------------------------------------------------------------

    def handle_nack(self, sequences: list[int] | tuple[int, ...], now: float) -> None:
        """Send again what is asked for and still kept; a gap that came from upstream is simply not there."""
        self._may_ask = min(ASKED_BURST, self._may_ask + (now - self._may_ask_at) * ASKED_PER_S)
        self._may_ask_at = now
        for sequence in sequences[: int(self._may_ask)]:
            self._may_ask -= 1.0
            self.nacked += 1
            found = self._rewriter.find(sequence)
            if found is None:
                self.unavailable += 1
                self._note_lacking(sequence, now)
                continue
            out, timestamp, payload, extensions, frame = found
            if now - self._resent.get(out, float("-inf")) < RESEND_GUARD:
                continue
            self._resent[out] = now
            while len(self._resent) > RESENT_KEPT:
                del self._resent[next(iter(self._resent))]
            self.retransmitted += 1
            self._send_again(frame, out & 0xFFFF, timestamp, payload, extensions)

    def _note_lacking(self, sequence: int, now: float) -> None:
        """A hole that came from upstream and stays can only be answered by a keyframe.

        Players come to that by themselves, but late: libwebrtc waits 3 s for a decodable frame.
        """
        since = self._lacking.setdefault(sequence, now)
        while len(self._lacking) > GONE_KEPT:
            del self._lacking[next(iter(self._lacking))]
        if self.is_video and self.encoding is not None and now - since >= GONE_AFTER:
            self._lacking.clear()
            self.encoding.keyframe_wish.ask(now)

    def _send_again(
        self,
        frame: MediaFrame,
        sequence: int,
        timestamp: int,
        payload: bytes,
        carried: tuple[tuple[int, bytes], ...],
    ) -> None:
        extensions = self._extensions(carried)
        rtx_type, rtx_ssrc = self.codec.rtx, self.numbers.rtx_ssrc
        if rtx_type is None or rtx_ssrc is None:
            packet = build_rtp(
                self.codec.payload_type,
                frame.marker,
                sequence,
                timestamp,
                self.numbers.ssrc,
                payload,
                extensions,
            )
        else:
            # RFC 4588 §4: the original sequence number goes in front of the payload.
            packet = build_rtp(
                rtx_type,
                frame.marker,
                self._rtx_sequence,
                timestamp,
                rtx_ssrc,
                U16.pack(sequence) + payload,
                extensions,
            )
            self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
        self._send(packet)

    def handle_keyframe_request(self, now: float) -> None:
        """The player's decoder is stuck."""
        self.keyframe_requests += 1
        if self.is_video and self.encoding is not None:
            self.encoding.keyframe_wish.ask(now)

    def sender_report(self, now: float) -> bytes:
        """SR and SDES, extrapolated from the publisher's clock; empty while that is not known."""
        era = self._rewriter.era
        if era is None or era.encoding.clock is None:
            return b""
        clock = era.encoding.clock
        elapsed = now - clock.received_at
        ntp = (clock.ntp + int(elapsed * (1 << 32))) & 0xFFFFFFFFFFFFFFFF
        timestamp = (
            clock.timestamp + int(elapsed * self.codec.clock_rate) + era.timestamp_offset
        ) & 0xFFFFFFFF
        report = build_sender_report(
            self.numbers.ssrc, ntp, timestamp, self.packets & 0xFFFFFFFF, self.octets & 0xFFFFFFFF
        )
        return report + build_sdes(self.numbers.ssrc, self._cname)

    def debug_state(self) -> dict[str, object]:
        return {
            "mid": self.mid,
            "codec": self.codec.name,
            "started": self.started_at is not None,
            "packets": self.packets,
            "nacked": self.nacked,
            "retransmitted": self.retransmitted,
            "unavailable": self.unavailable,
            "keyframe_requests": self.keyframe_requests,
            "fraction_lost": round(self.fraction_lost, 4),
        }
