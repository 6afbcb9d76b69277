"""Synthetic media, receiving: a player that judges what arrives of a :class:`SyntheticPublisher`.

In: RTP (already unprotected) and ``now``. Out: RTCP to send, and what a viewer
would have seen: when each frame could be shown, what came late or never, when
the picture stood still. A jitter buffer holds frames back by what the network's
delay varies; missing video is asked for again (NACK), a broken picture asks for
a keyframe (PLI). It knows no clock, socket or task.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from math import inf

from relaymesh.netsim.reception import LayerChange, Picture, ReceivedEncoding, ShownLayers, Whole
from relaymesh.netsim.synthetic_rtp import RTP_HEADER, STAMP, head_bytes
from relaymesh.netsim.track_specs import TrackSpec
from relaymesh.protocol.seqnum import distance
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtp import parse_rtp
from relaymesh.webrtc.twcc import TwccReceiver

NACK_DELAY = 0.010  # s; a younger gap may be reordering
NACK_REPEAT = 0.100  # s
NACK_TRIES = 10  # libwebrtc's bound
MAX_MISSING = 1000  # a longer gap is an outage: only a keyframe helps
STUCK_AFTER = 0.200  # s; a video frame that waits so long for another makes the player ask for a keyframe
KEYFRAME_RETRY = 0.5  # s
BUFFER = 0.050  # s; what the jitter buffer adds to the delay it sees
FREEZE_LEAST = 0.150  # s; with this over the frame interval, and three intervals, playout is frozen
FEEDBACK_INTERVAL = 0.100  # s; of transport-wide feedback, as libwebrtc begins
TL0PICIDX_AT = 4  # in VP9's descriptor
MAX_AHEAD = 1 << 20  # packet numbers; a stamp beyond is none
MAX_SECONDS = 24 * 3600
BINS_PER_SECOND = 10_000  # of delay histograms: a tenth of a millisecond


class PlayedTrack:
    """One track at a player: what came, what was missing, what a viewer saw.

    It lives as long as the player does, over all its connections.
    """

    def __init__(self, spec: TrackSpec, *, joined_at: float) -> None:
        self.spec = spec
        self.joined_at = joined_at
        self.left_at: float | None = None
        self.delays: dict[int, int] = {}  # publisher to player: tenth of a millisecond → packets
        self.received: dict[int, ReceivedEncoding] = {}  # by the publisher's number of the encoding
        self._layers = ShownLayers()  # of video
        self.temporal = bytearray()  # by second of the run: highest temporal layer that came, and 1; 0: none
        self.octets = 0  # of payload
        self.packets = self.copies = self.late = self.nacked = self.keyframe_requests = 0
        self.plays = array("d")  # when each frame could be shown, s, in order
        self.first_frame_at: float | None = None
        self.frames_late = self.frames_lost = 0
        self.freezes = array("d")  # (from, to) pairs, s: when the picture stood still
        self._video = spec.kind == "video"
        self._interval = spec.interval  # s, between frames
        self._codec = spec.codec
        self._head_bytes = None if spec.codec == "VP9" else head_bytes(spec.codec, b"")  # None: look at each
        self._picture_id_at = {"VP8": 2, "VP9": 1}.get(spec.codec, 0)
        self._last_frame = -1
        self._last_base = 0
        self._pictures: int | None = None  # the highest so far, extended
        self._partial: dict[int, int] = {}  # frame → packets here
        self._pending: dict[int, Picture] = {}  # picture → its frames so far; only with spatial layers
        self._ready: dict[int, Whole] = {}  # complete, but an earlier frame is missing
        self._delay: float | None = None  # s from sending to showing, as the jitter buffer has it
        self._shown_at = -inf
        self._stuck_since: float | None = None
        self._asked_keyframe_at = -inf
        self.ssrc = self.rtx_ssrc = 0
        self._highest: int | None = None  # extended sequence number of this connection
        self._missing: dict[int, list[float]] = {}  # extended → [since, asked at, tries]

    @property
    def layers(self) -> list[LayerChange]:
        """What was shown when; of video."""
        return self._layers.changes

    def connected(self, ssrc: int, rtx_ssrc: int | None, now: float) -> None:
        """A (new) connection brings the track under these numbers."""
        self.ssrc = ssrc
        self.rtx_ssrc = -1 if rtx_ssrc is None else rtx_ssrc
        self._highest = None
        self._missing.clear()
        self._stuck_since = None

    # --- packets -------------------------------------------------------------------------------

    def handle_rtp(
        self, sequence: int, payload: bytes, now: float, *, retransmission: bool, marker: bool = False
    ) -> None:
        """One packet: its own (not RTX) sequence number, payload, and marker."""
        at = self._head_bytes
        if at is None:
            at = head_bytes(self._codec, payload)
        if len(payload) < at + STAMP.size:
            self._note_sequence(sequence, now)  # a probe, or nothing of ours
            return
        number, frame, sent_at, place, count, keyframe, encoding, layers = STAMP.unpack_from(payload, at)
        if self._video:
            frame = self._picture(payload)
        again, highest = retransmission, self._highest
        if highest is not None and sequence == highest + 1 & 0xFFFF:
            self._highest = highest + 1
        else:
            again = self._note_sequence(sequence, now) or retransmission
        received = self.received.get(encoding)
        if received is None:
            received = self.received[encoding] = ReceivedEncoding()
        if number - len(received.arrived) > MAX_AHEAD or not received.take(number, again=again):
            self.copies += 1
            return
        self.packets += 1
        self.octets += len(payload)
        if self._video:
            second, temporal = int(now), self.temporal
            if second >= len(temporal) or temporal[second] <= layers & 0x0F:
                self._note_temporal(layers & 0x0F, second)
        delay = int((now - sent_at) * BINS_PER_SECOND)
        delays = self.delays
        delays[delay] = delays.get(delay, 0) + 1
        if frame <= self._last_frame and (self._video or now - sent_at > (self._delay or 0.0)):
            self.late += 1
            return
        if keyframe and self._video:
            self._layers.note_keyframe(encoding, sent_at)
        if self.spec.spatial > 1:
            base = payload[TL0PICIDX_AT]
            whole = Whole(sent_at, keyframe != 0, encoding, layers >> 4, number - place, layers & 0x0F, base)
            self._take_layer(frame, whole, count, marker, now)
            return
        if count > 1:
            here = self._partial.get(frame, 0) + 1
            if here < count:
                self._partial[frame] = here
                return
            self._partial.pop(frame, None)
        self._complete(frame, Whole(sent_at, keyframe != 0, encoding, 0, number - place), now)

    def _picture(self, payload: bytes) -> int:
        """The picture's number as a decoder counts it: by picture ids, which close up what was left out."""
        at = self._picture_id_at
        picture_id = (payload[at] & 0x7F) << 8 | payload[at + 1]
        if self._pictures is None:
            self._pictures = picture_id
        ahead = (picture_id - self._pictures + 0x4000 & 0x7FFF) - 0x4000  # distance() of 15 bits
        number = self._pictures + ahead
        if ahead > 0:
            self._pictures = number
        return number

    def _note_sequence(self, sequence: int, now: float) -> bool:
        """Track what is missing; whether this one was asked for again."""
        highest = self._highest
        if highest is None:
            self._highest = 0x10000 + sequence
            return False
        extended = highest + distance(sequence, highest)
        if extended == highest + 1:
            self._highest = extended
        elif extended > highest:
            if extended - highest > MAX_MISSING:
                self._missing.clear()
            elif self._video:
                for lost in range(highest + 1, extended):
                    self._missing[lost] = [now, -inf, 0]
            self._highest = extended
        else:
            asked = self._missing.pop(extended, None)
            return asked is not None and asked[2] > 0
        return False

    # --- frames --------------------------------------------------------------------------------

    def _take_layer(self, picture: int, part: Whole, count: int, marker: bool, now: float) -> None:
        """A packet of one layer's frame of *count*; *part* says which. A picture ends with the marker."""
        pending = self._pending.get(picture)
        if pending is None:
            pending = self._pending[picture] = Picture(part)
        pending.take(part, count, marker=marker)
        if pending.complete:
            del self._pending[picture]
            self._complete(picture, pending.whole, now)

    def _complete(self, frame: int, whole: Whole, now: float) -> None:
        if frame <= self._last_frame:
            return  # audio out of order, or video that a keyframe has overtaken
        if not self._follows(frame, whole):
            self._ready[frame] = whole
            if self._stuck_since is None:
                self._stuck_since = now
            return
        if self._ready or self._partial or self._pending:
            self._drop_before(frame)
        self._show(frame, whole, now)
        for following in sorted(self._ready):
            if self._follows(following, self._ready[following]):
                self._show(following, self._ready.pop(following), now)
        self._stuck_since = now if self._ready else None

    def _follows(self, frame: int, whole: Whole) -> bool:
        """Whether all that the frame is built on was shown."""
        if whole.keyframe or self._codec != "VP9":
            return whole.keyframe or frame == self._last_frame + 1
        # A decoder needs no picture of a higher temporal layer, and sees by these numbers that it lacks none
        # of the lowest: picture ids, which tell references as differences, do not close up.
        return whole.base == (self._last_base + (whole.temporal == 0)) & 0xFF

    def _drop_before(self, frame: int) -> None:
        held: dict[int, Whole] | dict[int, int] | dict[int, Picture]
        for held in (self._ready, self._partial, self._pending):
            for old in [f for f in held if f < frame]:
                del held[old]

    def _show(self, frame: int, whole: Whole, now: float) -> None:
        sent_at = whole.sent_at
        if self._last_frame >= 0:
            self.frames_lost += frame - self._last_frame - 1
        else:
            self.first_frame_at = now
        self._last_frame, self._last_base = frame, whole.base
        self.plays.append(now)
        transit = now - sent_at
        if self._delay is None:
            self._delay = transit + BUFFER
        elif transit > self._delay:
            self.frames_late += 1
            self._delay = transit
        else:
            self._delay += 0.01 * (transit + BUFFER - self._delay)
        shown_at = max(sent_at + self._delay, self._shown_at)
        gap = shown_at - self._shown_at
        interval = self._interval
        if gap != inf and gap > max(3 * interval, interval + FREEZE_LEAST):
            self.freezes.append(self._shown_at + interval)
            self.freezes.append(shown_at)
        self._shown_at = shown_at
        if self._video:
            self._note_layer(whole, shown_at, now)

    def _note_layer(self, whole: Whole, at: float, now: float) -> None:
        """Record what is shown where it is another encoding or spatial layer than before."""
        last = self.layers[-1] if self.layers else None
        if not self._layers.show(whole, at, now):
            return
        if last is None or last.encoding != whole.encoding:
            if last is not None:
                self.received[last.encoding].leave()
            self.received[whole.encoding].enter(whole.first)

    def _note_temporal(self, layer: int, second: int) -> None:
        if second >= len(self.temporal):
            self.temporal.extend(bytes(min(second, MAX_SECONDS) + 1 - len(self.temporal)))
        if second < len(self.temporal) and self.temporal[second] <= layer:
            self.temporal[second] = layer + 1

    # --- feedback ------------------------------------------------------------------------------

    def poll_rtcp(self, sender_ssrc: int, now: float) -> list[bytes]:
        """NACKs and keyframe requests due; call it about every 10 ms while :attr:`is_waiting`."""
        out: list[bytes] = []
        due = []
        for sequence, state in list(self._missing.items()):
            since, asked_at, tries = state
            if tries >= NACK_TRIES:
                del self._missing[sequence]
            elif now - since >= NACK_DELAY and now - asked_at >= NACK_REPEAT:
                state[1] = now
                state[2] = tries + 1
                due.append(sequence & 0xFFFF)
        if due:
            self.nacked += len(due)
            out.append(rtcp.build_nack(sender_ssrc, self.ssrc, due))
        if self._wants_keyframe(now):
            self.keyframe_requests += 1
            self._asked_keyframe_at = now
            out.append(rtcp.build_pli(sender_ssrc, self.ssrc))
        return out

    def _wants_keyframe(self, now: float) -> bool:
        stuck = self._stuck_since
        return (
            stuck is not None
            and now - stuck >= STUCK_AFTER
            and now - self._asked_keyframe_at >= KEYFRAME_RETRY
        )

    @property
    def is_waiting(self) -> bool:
        """Whether something is missing, so that :meth:`poll_rtcp` should be asked soon."""
        return bool(self._missing) or self._stuck_since is not None

    # --- what a viewer saw ---------------------------------------------------------------------

    def take_delays(self) -> dict[int, int]:
        """The delays of the packets since the last call."""
        delays, self.delays = self.delays, {}
        return delays

    def longest_gap(self, start: float, end: float) -> float:
        """The longest time without a new frame within *start* … *end*, less one frame interval; seconds.

        A gap is between two frames one of which at least lies in the window, or between a frame and the
        end of the window or of the player's stay. 0 when the player saw nothing before the window's end.
        """
        end = min(end, inf if self.left_at is None else self.left_at)
        plays = self.plays
        first = bisect_left(plays, start)
        last = bisect_right(plays, end)
        if end <= start or last == 0:
            return 0.0
        longest = 0.0
        before = plays[max(first - 1, 0)]
        for at in plays[first:last]:
            longest = max(longest, at - before)
            before = at
        after = plays[last] if last < len(plays) else end
        longest = max(longest, min(after, end) - before)
        return max(0.0, longest - self.spec.interval)

    def frozen(self, start: float, end: float) -> float:
        """Seconds within *start* … *end* in which the picture stood still."""
        return sum(self.stills(start, end))

    def stills(self, start: float, end: float) -> list[float]:
        """How long the picture stood still each time, of that what is within *start* … *end*; seconds."""
        freezes = self.freezes
        pairs = [(freezes[at], freezes[at + 1]) for at in range(0, len(freezes), 2)]
        if self.plays and self.left_at is None and end - self._shown_at > FREEZE_LEAST + self.spec.interval:
            pairs.append((self._shown_at + self.spec.interval, end))  # it never came back
        return [max(0.0, min(over, end) - max(begun, start)) for begun, over in pairs]


class SyntheticPlayer:
    """All tracks that one player has of one publisher."""

    def __init__(self, tracks: list[PlayedTrack], *, ssrc: int) -> None:
        """*ssrc*: the player's own, for what it asks."""
        self.tracks = tracks
        self._ssrc = ssrc
        self._by_ssrc: dict[int, tuple[PlayedTrack, bool]] = {}
        self._transport_id: int | None = None  # of the header extension with transport-wide numbers
        self._twcc = TwccReceiver()
        self.feedback_at = inf  # when :meth:`poll_feedback` has something, s; ∞: not before something comes
        self.undecodable = 0

    def connected(
        self, ssrcs: Iterable[tuple[int, int | None]], now: float, *, transport_id: int | None = None
    ) -> None:
        """A (new) connection; *ssrcs*: (media, its retransmissions) of each track, in order.

        *transport_id*: the header extension with transport-wide sequence numbers, if they are to be
        reported.
        """
        self._by_ssrc.clear()
        self._transport_id = transport_id
        self._twcc = TwccReceiver()
        self.feedback_at = inf
        for track, (ssrc, rtx_ssrc) in zip(self.tracks, ssrcs, strict=True):
            track.connected(ssrc, rtx_ssrc, now)
            self._by_ssrc[ssrc] = track, False
            if rtx_ssrc is not None:
                self._by_ssrc[rtx_ssrc] = track, True

    def handle_rtp(self, data: bytes, now: float) -> bool:
        """One RTP packet; whether its track is waiting for others now."""
        first, second, sequence, _, ssrc = RTP_HEADER.unpack_from(data)
        payload = data[RTP_HEADER.size :]
        if first != 0x80:
            try:
                packet = parse_rtp(data)
            except RtpError:
                self.undecodable += 1
                return False
            payload = packet.payload
            if self._transport_id is not None:
                self._note_transport(packet.extensions.get(self._transport_id), now)
        entry = self._by_ssrc.get(ssrc)
        if entry is None:
            self.undecodable += 1
            return False
        track, is_rtx = entry
        marker = second > 0x7F
        if not is_rtx:
            track.handle_rtp(sequence, payload, now, retransmission=False, marker=marker)
        elif len(payload) >= 2:
            original = payload[0] << 8 | payload[1]
            track.handle_rtp(original, payload[2:], now, retransmission=True, marker=marker)
        return track.is_waiting

    def _note_transport(self, number: bytes | None, now: float) -> None:
        if number is not None and len(number) == 2:
            self._twcc.record(int.from_bytes(number, "big"), now)
            if self.feedback_at == inf:
                self.feedback_at = now + FEEDBACK_INTERVAL

    def poll_feedback(self, now: float) -> list[bytes]:
        """The transport-wide feedback due now."""
        if now < self.feedback_at:
            return []
        self.feedback_at = inf
        found = []
        while (packet := self._twcc.feedback(self._ssrc, self.tracks[0].ssrc)) is not None:
            found.append(packet)
        return found

    @property
    def is_waiting(self) -> bool:
        for track in self.tracks:  # noqa: SIM110  (asked after every packet: a generator costs three times as much)
            if track.is_waiting:
                return True
        return False

    def poll_rtcp(self, now: float) -> list[bytes]:
        """Feedback due now; call it about every 10 ms while :attr:`is_waiting`."""
        out: list[bytes] = []
        for track in self.tracks:
            if track.is_waiting:
                out += track.poll_rtcp(self._ssrc, now)
        return out
