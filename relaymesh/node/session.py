"""One client's WebRTC connection: receivers for what it publishes, senders for what it plays, a transport.

A session owns its transport (ICE-lite, DTLS, SRTP), its negotiation and the ends of its
tracks; it turns RTP and RTCP into calls on those and their reports into RTCP. It
is driven by its edge with datagrams and ``now``, and knows no socket.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from relaymesh.kernels.fan_out import FanOut
from relaymesh.node.allocation import Layer, Subscription, allocate
from relaymesh.node.binding import SsrcBinder
from relaymesh.node.budget import Budget, guess
from relaymesh.node.egress import Sender
from relaymesh.node.encodings import Encoding
from relaymesh.node.ingress import IngressEncoding, IngressTrack
from relaymesh.node.layer_options import layer_options, rate_of
from relaymesh.node.pairing import pair
from relaymesh.node.publications import AnyPublication, LocalPublication, Track
from relaymesh.node.refusals import RefusedSection
from relaymesh.node.send_side import SendSide
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.messages import ParticipantName
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.errors import RtpError, SrtpError
from relaymesh.webrtc.negotiation import Negotiation
from relaymesh.webrtc.rtp import RtpPacket, parse_rtp, rtx_unwrap
from relaymesh.webrtc.transport import AddressChanged, Closed, Connected, Transport
from relaymesh.webrtc.twcc import TwccReceiver

REPAIR_TICK = 0.01  # s; how often missing packets are looked at while there are some
FEEDBACK_INTERVAL = 0.05  # s; transport-wide feedback (libwebrtc sends at 50–250 ms)
REPORT_INTERVAL = 1.0  # s; receiver and sender reports
MEASURE_INTERVAL = 0.2  # s; of what comes: which encodings are live, at what rate
CHOICE_INTERVAL = 0.1  # s; between choices of layers by the newest estimate, …
CHOICE_SOONEST = 0.02  # … and where feedback says that it is too little for what was chosen
# What a player begins with at once may take so long; more than that, and a keyframe is asked for first.
BURST_S = 0.4
CATCH_UP_SHARE = 0.9  # of what is free of the budget goes into what waits of a track
MIN_BURST_BYTES = 12_000
MAX_BURST_BYTES = 1_500_000

Address = tuple[str, int]


class Session:
    """One client's connection."""

    def __init__(
        self,
        session_id: str,
        name: ParticipantName,
        transport: Transport,
        negotiation: Negotiation,
        *,
        ssrc: int,
        now: float,
        originate: Callable[[Track, MediaFrame, float], None],
        clock_changed: Callable[[Encoding, float], None],
    ) -> None:
        """*name*: who publishes, or who is played; *ssrc*: our own, for the reports we send.

        *originate* takes every media frame; *clock_changed* hears of each sender report.
        """
        self.id = session_id
        self.name = name
        self.transport = transport
        self.negotiation = negotiation
        self.ssrc = ssrc
        self.created_at = now
        self.connected_at: float | None = None
        self.closed: str | None = None  # why, once it is
        self.contends_since: float | None = None  # s; for an address that another session has
        self.undecodable = 0  # SRTP that does not open, RTP or RTCP that does not parse or is not expected
        self.refused: tuple[RefusedSection, ...] = ()  # of what its client offered
        self.publication: LocalPublication | None = None  # what it feeds
        self.played: AnyPublication | None = None
        self.receivers: list[IngressTrack] = []
        self.senders: dict[int, Sender] = {}  # by media SSRC
        self.send_side = SendSide(transport.send_rtp, transport.path, now)
        self._fan_out: FanOut | None = None
        self._touch: Callable[[], None] = _nothing
        self._budget = Budget()
        self._layers_changed = False
        self._goodbyes: set[int] = set()
        self._originate = originate
        self._clock_changed = clock_changed
        self._binder = SsrcBinder()
        self._transport_id: int | None = None
        self._twcc = TwccReceiver()
        self._next_feedback = now
        self._next_repair = now
        self._next_measure = now
        self._next_choice = inf
        self._chosen_at = now
        self._enough_bps = inf  # a budget from which on nothing better could be chosen; infinite: who knows
        self._next_report = now + REPORT_INTERVAL

    @property
    def role(self) -> str:
        """``publisher``, ``player``, or ``participant`` for one that is both."""
        if self.publication is None:
            return "player"
        return "participant" if self.played is not None else "publisher"

    # --- what is negotiated ----------------------------------------------------------------------

    def use_edge(self, fan_out: FanOut, touch: Callable[[], None]) -> None:
        """Send by *fan_out* what can be; *touch* is told of something to poll, or perhaps a new timeout."""
        self._fan_out, self._touch = fan_out, touch
        self.transport.touch = self.send_side.touch = touch
        self.transport.fan_out = fan_out
        for sender in self.senders.values():
            self._connect(sender)
        for track in self.receivers:
            track.track.keyframe_requests.touch = touch
        touch()

    def _connect(self, sender: Sender) -> None:
        sender.touch = self._touch
        if self._fan_out is not None and not self.send_side.sees_each and not self.transport.is_on_stream:
            sender.use_path(self._fan_out, self.transport.path)

    def add_receiver(self, track: IngressTrack, ssrcs: list[tuple[int, int | None]], now: float) -> None:
        """Expect *track* from the client, under *ssrcs* (media, retransmission) where they are signalled."""
        self.receivers.append(track)
        track.track.keyframe_requests.touch = self._touch
        self._binder.add(track, ssrcs, now)

    def use_extensions(
        self, *, mid_id: int | None, rid_id: int | None, repaired_rid_id: int | None, transport_id: int | None
    ) -> None:
        """The client's RTP extension ids for mid, rids and transport-wide sequence numbers."""
        self._binder.use_extensions(mid_id, rid_id, repaired_rid_id)
        self._transport_id = transport_id

    def add_sender(self, sender: Sender) -> None:
        """Send a track to the client."""
        self.senders[sender.numbers.ssrc] = sender
        self._connect(sender)
        self.send_side.add_sender(sender)

    # --- datagrams -------------------------------------------------------------------------------

    def handle_packet(self, data: bytes, is_rtcp: bool, address: Address, now: float) -> None:
        """One SRTP or SRTCP datagram of this session; a bad one is counted, never more."""
        transport = self.transport
        try:
            if is_rtcp:
                for packet in rtcp.parse_rtcp(transport.unprotect_rtcp(data, address, now)):
                    self._handle_rtcp(packet, now)
            else:
                self._handle_rtp(parse_rtp(transport.unprotect_rtp(data, address, now)), now)
        except (SrtpError, RtpError):
            self.undecodable += 1

    def drain_events(self, now: float) -> None:
        """Act on what the transport tells; afterwards ``closed`` may say why it is over."""
        for event in self.transport.poll_events():
            if isinstance(event, Connected):
                self.connected_at = now
                if self.played is not None:
                    self.attach(self.played, now)
            elif isinstance(event, AddressChanged):
                self._follow_address()
            elif isinstance(event, Closed) and self.closed is None:
                self.closed = event.reason

    def _follow_address(self) -> None:
        """Packets for a stream are none for the fan-out, which sends datagrams."""
        for sender in self.senders.values():
            if self.transport.is_on_stream:
                sender.leave_path()
            else:
                self._connect(sender)

    def close(self, reason: str, now: float) -> None:
        """Tell the peer and stop; idempotent."""
        if self.closed is None:
            self.closed = reason
        self.transport.close(now)

    # --- what comes ------------------------------------------------------------------------------

    def _handle_rtp(self, packet: RtpPacket, now: float) -> None:
        if not self.receivers:
            self.undecodable += 1  # a player has nothing to send
            return
        if self._transport_id is not None:
            number = packet.extensions.get(self._transport_id)
            if number is not None and len(number) == 2:
                self._twcc.record(int.from_bytes(number, "big"), now)
        bound = self._binder.find(packet, now)
        if bound is None:
            return
        ingress, is_rtx = bound
        if is_rtx:
            if not packet.payload:
                return  # a bandwidth probe
            packet.sequence, packet.payload = rtx_unwrap(packet.payload)
        for frame in ingress.handle_rtp(packet, now, retransmission=is_rtx):
            self._originate(ingress.track, frame, now)

    def _handle_rtcp(self, packet: rtcp.RtcpPacket, now: float) -> None:
        if isinstance(packet, rtcp.SenderReport):
            bound = self._binder.get(packet.ssrc)
            if bound is not None and not bound[1]:
                bound[0].handle_sender_report(packet, now)
                self._clock_changed(bound[0].encoding, now)
        if isinstance(packet, rtcp.ReceiverReport | rtcp.SenderReport):
            for block in packet.blocks:
                sender = self.senders.get(block.ssrc)
                if sender is not None:
                    packets = sender.handle_report(block.fraction_lost / 256)
                    self.send_side.handle_report(sender.fraction_lost, packets, now)
        elif isinstance(packet, rtcp.Nack):
            sender = self.senders.get(packet.media_ssrc)
            if sender is not None:
                sender.handle_nack(packet.sequences, now, self.send_side.answer_s)
        elif isinstance(packet, rtcp.PictureLossIndication):
            sender = self.senders.get(packet.media_ssrc)
            if sender is not None:
                sender.handle_keyframe_request(now)
        elif isinstance(packet, rtcp.FullIntraRequest):
            for ssrc in packet.ssrcs:
                if ssrc in self.senders:
                    self.senders[ssrc].handle_keyframe_request(now)
        elif isinstance(packet, rtcp.TransportFeedback):
            self.send_side.handle_feedback(packet, now)
            if self.send_side.is_short:
                self._next_choice = min(self._next_choice, max(now, self._chosen_at + CHOICE_SOONEST))
        elif isinstance(packet, rtcp.Bye):
            self._handle_bye(packet.ssrcs)
        elif isinstance(packet, rtcp.Remb):
            self.send_side.handle_remb(packet, now)

    def _handle_bye(self, ssrcs: tuple[int, ...]) -> None:
        """A publisher all of whose sources said goodbye (RFC 3550 §6.6) is gone and not waited for."""
        self._goodbyes.update(ssrcs)
        sources = {ingress.ssrc for ingress in self._encodings() if ingress.ssrc is not None}
        self._goodbyes &= sources
        if sources and sources == self._goodbyes and self.closed is None:
            self.closed = "the publisher said goodbye"

    # --- what is played --------------------------------------------------------------------------

    def play(self, publication: AnyPublication) -> None:
        """Play *publication* as soon as the transport is connected."""
        self.played = publication
        publication.sessions[self] = None
        if self.connected_at is None:
            publication.connecting.add(self)
            publication.demand_changed()

    def attach(self, publication: AnyPublication, now: float) -> None:
        """Take *publication*'s tracks; what was taken of others is let go.

        A session that cannot carry what is published now is over: its client has to ask again.
        """
        if self.played is not publication:
            self.stop_playing()
            self.play(publication)
        if self.connected_at is None:
            return
        pairs, why_over = pair(self.senders.values(), publication.tracks.values())
        if why_over is not None and self.closed is None:
            self.closed = why_over
            self._touch()
        for taker in self.senders.values():
            if (source := pairs.get(taker)) is not None:
                taker.attach(source)
            else:
                taker.detach()  # the track ended: nothing comes of it, and it takes no part of the budget
        self.choose_layers(now)
        publication.connected(self)

    def choose_layers(self, now: float) -> None:
        """Choose for every sender the encoding and the layers it sends, within what the path carries."""
        self._chosen_at, self._next_choice = now, now + CHOICE_INTERVAL
        self._touch()
        options = {
            sender: layer_options(sender.track, sender.starved(now), flat=sender.is_flat)
            for sender in self.senders.values()
            if sender.track
        }
        allocation = allocate(
            self._budget_bps(options, now),
            [
                Subscription(sender, "video" if sender.is_video else "audio", offered, current=sender.choice)
                for sender, offered in options.items()
            ],
        )
        budget = self.send_side.budget_bps if not self.send_side.may_try else inf
        for sender, offered in options.items():
            choice = allocation.choices[sender]
            sender.pace(max(budget - allocation.used_bps, 0.0) * CATCH_UP_SHARE + rate_of(offered, choice))
            if choice != sender.choice:
                down = rate_of(offered, choice) < rate_of(offered, sender.choice)
                sender.choose(choice, now, burst_bytes=self._burst_bytes(), down=down)
                if down and sender.is_stalled:
                    self.send_side.discard(sender)
        is_settled = not allocation.paused and all(
            sender.is_settled and (not offered or sender.choice == offered[-1].choice)
            for sender, offered in options.items()
        )
        self._enough_bps = allocation.used_bps if is_settled else inf
        waiting = sum(sender.catching_up_bps for sender in options)
        wanted = max(allocation.wanted_bps, allocation.used_bps + waiting)
        self.send_side.want(wanted, now, granted_bps=allocation.used_bps, paused=allocation.paused)

    def _budget_bps(self, options: dict[Sender, tuple[Layer, ...]], now: float) -> float:
        estimate = self.send_side.budget_bps
        audio = sum(
            offered[-1].rate_bps for sender, offered in options.items() if offered and not sender.is_video
        )
        videos = [
            (sender, offered[0].rate_bps)
            for sender, offered in options.items()
            if offered and sender.is_video
        ]
        if self.send_side.may_try:
            return guess(estimate, audio, videos[0][1] if videos else 0.0)
        return self._budget.spend(estimate, audio, [rate for sender, rate in videos if sender.choice], now)

    def _burst_bytes(self) -> int:
        """What is kept since a keyframe may be sent at once up to this: as much as soon has passed."""
        return int(min(float(MAX_BURST_BYTES), max(MIN_BURST_BYTES, self.send_side.budget_bps / 8 * BURST_S)))

    def stop_playing(self) -> None:
        """Take nothing any more."""
        for sender in self.senders.values():
            sender.detach()
        if self.played is not None:
            self.played.sessions.pop(self, None)
            self.played.connected(self)
            self.played = None

    # --- time ------------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When something is due; −inf once it is over, to be let go."""
        if self.closed is not None:
            return -inf
        times = [t for t in (self.transport.next_timeout(),) if t is not None]
        if self.connected_at is not None:
            times.append(self._next_report)
            if self.receivers:
                times.append(self._next_measure)
                times += self._receiving_timeouts()
            if self.senders:
                times += self._sending_timeouts()
        return min(times, default=None)

    def _receiving_timeouts(self) -> list[float]:
        times = [self._next_feedback] if self._transport_id is not None else []
        for ingress in self._encodings():
            if ingress.is_waiting:
                times.append(self._next_repair)
            at = ingress.encoding.keyframe_wish.next_timeout()
            if at is not None and self._can_answer(ingress):
                times.append(at)
        return times

    def _sending_timeouts(self) -> list[float]:
        times = [at for sender in self.senders.values() if (at := sender.next_timeout()) is not None]
        if self.send_side.is_adaptive:
            if not self._is_settled:
                times.append(self._next_choice)
            if (at := self.send_side.next_timeout()) is not None:
                times.append(at)
        return times

    @property
    def _is_settled(self) -> bool:
        """Whether everything is sent that is there, and the budget is enough for it: no choice is left."""
        return self.send_side.budget_bps >= self._enough_bps

    def _encodings(self) -> list[IngressEncoding]:
        return [ingress for track in self.receivers for ingress in track.encodings.values()]

    def handle_timeout(self, now: float) -> None:
        self.transport.handle_timeout(now)
        if self.connected_at is None:
            return
        if self.receivers:
            self._handle_receiving_timeout(now)
        if self.senders:
            for sender in self.senders.values():
                sender.handle_timeout(now)
            self.send_side.handle_timeout(now)
            if self.send_side.is_adaptive and now >= self._next_choice and not self._is_settled:
                self.choose_layers(now)
        if now >= self._next_report:
            self._next_report = now + REPORT_INTERVAL
            report = self._report(now)
            if report:
                self.transport.send_rtcp(report)

    def _handle_receiving_timeout(self, now: float) -> None:
        encodings = self._encodings()
        if now >= self._next_repair:
            self._next_repair = now + REPAIR_TICK
            for ingress in encodings:
                due = ingress.nacks_due(now)
                if due and ingress.ssrc is not None:
                    self.transport.send_rtcp(rtcp.build_nack(self.ssrc, ingress.ssrc, due))
        for ingress in encodings:
            if self._can_answer(ingress) and ingress.encoding.keyframe_wish.due(now):
                self.request_keyframe(ingress)
        if self._transport_id is not None and now >= self._next_feedback:
            self._next_feedback = now + FEEDBACK_INTERVAL
            media = next((e.ssrc for e in encodings if e.ssrc is not None), 0)
            feedback = self._twcc.feedback(self.ssrc, media)
            if feedback is not None:
                self.transport.send_rtcp(feedback)
        if now >= self._next_measure:
            self._next_measure = now + MEASURE_INTERVAL
            for track in self.receivers:
                self._layers_changed |= track.measure(now)

    def take_layers_changed(self) -> bool:
        """Whether an encoding of what it publishes started or stopped since the last call."""
        changed, self._layers_changed = self._layers_changed, False
        return changed

    @staticmethod
    def _can_answer(ingress: IngressEncoding) -> bool:
        """Whether asking for a keyframe of it makes sense.

        An encoding that its publisher has stopped begins with one when it comes back; asked before that,
        libwebrtc makes one of each other encoding, again and again.
        """
        return ingress.ssrc is not None and ingress.track.live(ingress.encoding.number)

    def request_keyframe(self, ingress: IngressEncoding) -> None:
        """Ask the publisher's encoder for a keyframe (PLI, RFC 4585 §6.3.1)."""
        if ingress.ssrc is not None:
            self.transport.send_rtcp(rtcp.build_pli(self.ssrc, ingress.ssrc))

    def _report(self, now: float) -> bytes:
        blocks = [block for e in self._encodings() if (block := e.report_block(now)) is not None]
        reports = b"".join(sender.sender_report(now) for sender in self.senders.values())
        if blocks:
            blocks = blocks[: rtcp.MAX_BLOCKS]
            reports = (
                rtcp.build_receiver_report(self.ssrc, blocks)
                + rtcp.build_sdes(self.ssrc, f"rm-{self.id}")
                + reports
            )
        return reports

    def debug_state(self) -> dict[str, object]:
        return {
            "session": self.id[:8],  # whoever knows all of it may end the session
            "role": self.role,
            "room": self.name.room,
            "participant": self.name.participant,
            "undecodable": self.undecodable,
            "transport": self.transport.debug_state(),
            "negotiation": self.negotiation.debug_state(),
            "refused": [str(section) for section in self.refused],
            "receives": [track.debug_state() for track in self.receivers],
            "sends": [sender.debug_state() for sender in self.senders.values()],
            "send_side": self.send_side.debug_state(),
        }


def _nothing() -> None:
    pass
