"""One WebRTC connection: what a publisher sends us, or what a player gets from us.

A session owns its transport (ICE-lite, DTLS, SRTP) and the ends of its tracks;
it turns RTP and RTCP into calls on those and their reports into RTCP. It is
driven by its edge with datagrams and ``now``, and knows no socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from relaymesh.node.egress import EgressTrack
from relaymesh.node.ingress import IngressTrack
from relaymesh.node.streams import Stream
from relaymesh.protocol.frames import MediaFrame
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.errors import RtpError, SrtpError
from relaymesh.webrtc.rtp import RtpPacket, parse_rtp, rtx_unwrap
from relaymesh.webrtc.transport import Closed, Connected, Transport
from relaymesh.webrtc.twcc import TwccReceiver, parse_transport_feedback

REPAIR_TICK = 0.01  # s; how often missing packets are looked at while there are some
FEEDBACK_INTERVAL = 0.05  # s; transport-wide feedback (libwebrtc sends at 50–250 ms)
REPORT_INTERVAL = 1.0  # s; receiver and sender reports

Address = tuple[str, int]


class Session:
    """What publishers and players have in common: a transport, an identity, a report clock."""

    role: ClassVar[str] = "session"

    def __init__(
        self, session_id: str, stream: Stream, transport: Transport, *, ssrc: int, now: float
    ) -> None:
        """*ssrc*: our own, for the reports we send."""
        self.id = session_id
        self.stream = stream
        self.transport = transport
        self.ssrc = ssrc
        self.created_at = now
        self.connected_at: float | None = None
        self.closed: str | None = None  # why, once it is
        self.undecodable = 0  # SRTP that does not open, RTP or RTCP that does not parse
        self._next_report = now + REPORT_INTERVAL

    def handle_packet(self, data: bytes, is_rtcp: bool, now: float) -> None:
        """One SRTP or SRTCP datagram of this session; a bad one is counted, never more."""
        try:
            if is_rtcp:
                for packet in rtcp.parse_rtcp(self.transport.unprotect_rtcp(data)):
                    self._handle_rtcp(packet, now)
            else:
                self._handle_rtp(parse_rtp(self.transport.unprotect_rtp(data)), now)
        except (SrtpError, RtpError):
            self.undecodable += 1

    def drain_events(self, now: float) -> None:
        """Act on what the transport tells; afterwards ``closed`` may say why it is over."""
        for event in self.transport.poll_events():
            if isinstance(event, Connected):
                self.connected_at = now
                self._on_connected(now)
            elif isinstance(event, Closed) and self.closed is None:
                self.closed = event.reason

    def next_timeout(self) -> float | None:
        own = self._next_own_timeout() if self.connected_at is not None else None
        transport = self.transport.next_timeout()
        return min((t for t in (own, transport) if t is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        self.transport.handle_timeout(now)
        if self.connected_at is None:
            return
        self._handle_own_timeout(now)
        if now >= self._next_report:
            self._next_report = now + REPORT_INTERVAL
            report = self._report(now)
            if report:
                self.transport.send_rtcp(report)

    def close(self, reason: str, now: float) -> None:
        """Tell the peer and stop; idempotent."""
        if self.closed is None:
            self.closed = reason
        self.transport.close(now)

    # What the two kinds fill in.
    def _handle_rtp(self, packet: RtpPacket, now: float) -> None:
        raise NotImplementedError

    def _handle_rtcp(self, packet: rtcp.RtcpPacket, now: float) -> None:
        raise NotImplementedError

    def _on_connected(self, now: float) -> None:
        pass

    def _report(self, now: float) -> bytes:
        raise NotImplementedError

    def _next_own_timeout(self) -> float | None:
        return self._next_report

    def _handle_own_timeout(self, now: float) -> None:
        pass

    def debug_state(self) -> dict[str, object]:
        return {
            "session": self.id[:8],  # whoever knows all of it may end the session
            "role": self.role,
            "room": self.stream.name.room,
            "participant": self.stream.name.participant,
            "undecodable": self.undecodable,
            "transport": self.transport.debug_state(),
        }


class PublisherSession(Session):
    """A client that sends: its packets become media frames of its stream."""

    role = "publisher"

    def __init__(
        self,
        session_id: str,
        stream: Stream,
        transport: Transport,
        *,
        ssrc: int,
        now: float,
        originate: Callable[[Stream, MediaFrame, float], None],
        clock_changed: Callable[[IngressTrack, float], None],
    ) -> None:
        """*originate* takes every media frame; *clock_changed* hears of each sender report."""
        super().__init__(session_id, stream, transport, ssrc=ssrc, now=now)
        self._originate = originate
        self._clock_changed = clock_changed
        self.tracks: list[IngressTrack] = []
        self._by_ssrc: dict[int, tuple[IngressTrack, bool]] = {}  # → (track, is RTX)
        self._by_type: dict[int, list[tuple[IngressTrack, bool]]] = {}
        self._by_mid: dict[str, IngressTrack] = {}
        self._mid_id: int | None = None
        self._transport_id: int | None = None
        self._twcc = TwccReceiver()
        self._next_feedback = now
        self._next_repair = now

    def add_track(self, ingress: IngressTrack, mid: str, ssrcs: Iterable[tuple[int, int | None]]) -> None:
        """Expect *ingress* under its signalled SSRCs, or, unsignalled, under its mid or payload type."""
        self.tracks.append(ingress)
        self._by_mid[mid] = ingress
        codec = ingress.codec
        self._by_type.setdefault(codec.payload_type, []).append((ingress, False))
        if codec.rtx is not None:
            self._by_type.setdefault(codec.rtx, []).append((ingress, True))
        for ssrc, rtx_ssrc in list(ssrcs)[:1]:  # one encoding
            self._bind(ssrc, ingress, is_rtx=False)
            if rtx_ssrc is not None:
                self._bind(rtx_ssrc, ingress, is_rtx=True)

    def use_extensions(self, *, mid_id: int | None, transport_id: int | None) -> None:
        """The publisher's RTP extension ids for mid and for transport-wide sequence numbers."""
        self._mid_id = mid_id
        self._transport_id = transport_id

    def _handle_rtp(self, packet: RtpPacket, now: float) -> None:
        if self._transport_id is not None:
            number = packet.extensions.get(self._transport_id)
            if number is not None and len(number) == 2:
                self._twcc.record(int.from_bytes(number, "big"), now)
        bound = self._by_ssrc.get(packet.ssrc) or self._bind_by_content(packet)
        if bound is None:
            return
        ingress, is_rtx = bound
        if is_rtx:
            if not packet.payload:
                return  # a bandwidth probe
            packet.sequence, packet.payload = rtx_unwrap(packet.payload)
        frame = ingress.handle_rtp(packet, now, retransmission=is_rtx)
        if frame is not None:
            self._originate(self.stream, frame, now)

    def _bind(self, ssrc: int, ingress: IngressTrack, *, is_rtx: bool) -> None:
        self._by_ssrc[ssrc] = (ingress, is_rtx)
        if is_rtx:
            ingress.rtx_ssrc = ssrc
        else:
            ingress.ssrc = ssrc

    def _bind_by_content(self, packet: RtpPacket) -> tuple[IngressTrack, bool] | None:
        """An SSRC nobody signalled: by the mid it carries, else by a payload type that only one track has."""
        candidates = self._by_type.get(packet.payload_type, [])
        mid = packet.extensions.get(self._mid_id) if self._mid_id is not None else None
        if mid is not None:
            wanted = self._by_mid.get(mid.decode("ascii", "replace"))
            candidates = [entry for entry in candidates if entry[0] is wanted]
        # A track takes the first SSRC that fits; another one would be a second encoding.
        candidates = [(t, rtx) for t, rtx in candidates if (t.rtx_ssrc if rtx else t.ssrc) is None]
        if len(candidates) != 1:
            return None
        ingress, is_rtx = candidates[0]
        self._bind(packet.ssrc, ingress, is_rtx=is_rtx)
        return ingress, is_rtx

    def _handle_rtcp(self, packet: rtcp.RtcpPacket, now: float) -> None:
        if isinstance(packet, rtcp.SenderReport):
            bound = self._by_ssrc.get(packet.ssrc)
            if bound is not None and not bound[1]:
                ingress = bound[0]
                ingress.track.main.clock = ingress.handle_sender_report(packet, now)
                self._clock_changed(ingress, now)

    def request_keyframe(self, ingress: IngressTrack) -> None:
        """Ask the publisher's encoder for a keyframe (PLI, RFC 4585 §6.3.1)."""
        if ingress.ssrc is not None:
            self.transport.send_rtcp(rtcp.build_pli(self.ssrc, ingress.ssrc))

    def _next_own_timeout(self) -> float | None:
        times = [self._next_report]
        if self._transport_id is not None:
            times.append(self._next_feedback)
        if any(t.is_waiting for t in self.tracks):
            times.append(self._next_repair)
        for ingress in self.tracks:
            at = ingress.track.main.keyframe_wish.next_timeout()
            if at is not None and ingress.ssrc is not None:
                times.append(at)
        return min(times)

    def _handle_own_timeout(self, now: float) -> None:
        if now >= self._next_repair:
            self._next_repair = now + REPAIR_TICK
            for ingress in self.tracks:
                due = ingress.nacks_due(now)
                if due and ingress.ssrc is not None:
                    self.transport.send_rtcp(rtcp.build_nack(self.ssrc, ingress.ssrc, due))
        for ingress in self.tracks:
            if ingress.ssrc is not None and ingress.track.main.keyframe_wish.due(now):
                self.request_keyframe(ingress)
        if self._transport_id is not None and now >= self._next_feedback:
            self._next_feedback = now + FEEDBACK_INTERVAL
            media = next((t.ssrc for t in self.tracks if t.ssrc is not None), 0)
            feedback = self._twcc.feedback(self.ssrc, media)
            if feedback is not None:
                self.transport.send_rtcp(feedback)

    def _report(self, now: float) -> bytes:
        blocks = [block for t in self.tracks if (block := t.report_block(now)) is not None]
        if not blocks:
            return b""
        return rtcp.build_receiver_report(self.ssrc, blocks) + rtcp.build_sdes(self.ssrc, f"rm-{self.id}")

    def debug_state(self) -> dict[str, object]:
        return {**super().debug_state(), "tracks": [t.debug_state() for t in self.tracks]}


class PlayerSession(Session):
    """A client that receives: each of its tracks takes an encoding of a stream."""

    role = "player"

    def __init__(
        self, session_id: str, stream: Stream, transport: Transport, *, ssrc: int, now: float
    ) -> None:
        super().__init__(session_id, stream, transport, ssrc=ssrc, now=now)
        self.tracks: dict[int, EgressTrack] = {}  # by track kind's order in the offer: media SSRC → track
        self._transport_sequence = 0
        self.feedback_packets = 0
        self.feedback_lost = 0

    def next_transport_sequence(self) -> int:
        """One counter for the whole transport (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2)."""
        self._transport_sequence = (self._transport_sequence + 1) & 0xFFFF
        return self._transport_sequence

    def add_track(self, egress: EgressTrack) -> None:
        self.tracks[egress.numbers.ssrc] = egress

    def attach(self, stream: Stream, now: float) -> None:
        """Take *stream*'s tracks, each by kind and order; before that, what was taken is let go."""
        self.stream = stream
        if self.connected_at is None:
            return
        for kind_is_video in (False, True):
            sources = [t for t in stream.tracks.values() if t.is_video is kind_is_video]
            takers = [t for t in self.tracks.values() if t.is_video is kind_is_video]
            for source, taker in zip(sources, takers, strict=False):
                # A codec the player did not negotiate cannot begin in mid-session.
                same = source.info.codec.lower() == taker.codec.name.lower()
                if same and taker.encoding is not source.main:
                    taker.attach(source.main, now)

    def detach(self) -> None:
        """Take nothing any more."""
        for egress in self.tracks.values():
            egress.detach()

    def _on_connected(self, now: float) -> None:
        self.attach(self.stream, now)

    def _handle_rtp(self, packet: RtpPacket, now: float) -> None:
        self.undecodable += 1  # a player has nothing to send

    def _handle_rtcp(self, packet: rtcp.RtcpPacket, now: float) -> None:
        if isinstance(packet, rtcp.Nack):
            egress = self.tracks.get(packet.media_ssrc)
            if egress is not None:
                egress.handle_nack(packet.sequences, now)
        elif isinstance(packet, rtcp.PictureLossIndication):
            egress = self.tracks.get(packet.media_ssrc)
            if egress is not None:
                egress.handle_keyframe_request(now)
        elif isinstance(packet, rtcp.FullIntraRequest):
            for ssrc in packet.ssrcs:
                if ssrc in self.tracks:
                    self.tracks[ssrc].handle_keyframe_request(now)
        elif isinstance(packet, rtcp.ReceiverReport | rtcp.SenderReport):
            for block in packet.blocks:
                if block.ssrc in self.tracks:
                    self.tracks[block.ssrc].fraction_lost = block.fraction_lost / 256
        elif isinstance(packet, rtcp.TransportFeedback):
            feedback = parse_transport_feedback(packet.body)
            self.feedback_packets += len(feedback.arrivals)
            self.feedback_lost += sum(1 for _, arrival in feedback.arrivals if arrival is None)

    def _report(self, now: float) -> bytes:
        return b"".join(egress.sender_report(now) for egress in self.tracks.values())

    def debug_state(self) -> dict[str, object]:
        return {
            **super().debug_state(),
            "feedback_packets": self.feedback_packets,
            "feedback_lost": self.feedback_lost,
            "tracks": [t.debug_state() for t in self.tracks.values()],
        }
