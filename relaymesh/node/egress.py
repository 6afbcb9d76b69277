"""One track as a player gets it: media frames in, RTP of the player's own numbering out.

A :class:`Sender` takes one encoding of its track and goes on with it until the one it
should switch to has a keyframe; of the encoding it sends the layers that its filter
lets through. Video begins with the packets kept since the last keyframe, or with
the next one. NACKs are answered from the encoding's packets (as RTX where the
player offered it), and the publisher's clock is relayed in sender reports, so
that audio and video stay in step across the mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from msgspec import structs

from relaymesh.kernels.fan_out import FanOut, Path
from relaymesh.node.backlog import Backlog, in_order
from relaymesh.node.egress_rows import EgressNumbers, EgressRow
from relaymesh.node.encodings import Encoding
from relaymesh.node.followers import Place
from relaymesh.node.publications import Track
from relaymesh.node.resending import Resending
from relaymesh.node.rewrite import Extensions, Rewriter
from relaymesh.node.selector import LayerChoice, LayerFilter
from relaymesh.node.starvation import Starvation
from relaymesh.protocol.frames import EXTENSION_DEPENDENCY_DESCRIPTOR, MediaFrame
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.red import converter
from relaymesh.webrtc.rtcp import build_sdes, build_sender_report

VIDEO_CLOCK = 90_000
# A start waits this long for a keyframe where what is kept is too much for the player's rate, and a switch
# in any case, before it takes what is kept: a publisher that heard the request has answered by then.
START_PATIENCE = 0.4  # s
SWITCH_PATIENCE = 1.0  # s
COLLECTED_PATIENCE = 0.15  # s
REMOTE_PATIENCE = 0.3  # s; the ingress sends what it keeps by itself when demand is new
LEAST_PACE_BPS = 20_000.0  # whatever the estimate says: about two packets a second
REPLAY_TICK_MS = 1  # between the pictures of a burst, in media time: a decoder shows them as they come


class Sender:
    """The sending end of one played track."""

    def __init__(
        self,
        mid: str,
        codec: Codec,
        numbers: EgressNumbers,
        *,
        cname: str,
        send: Callable[[EgressRow, float], None],
    ) -> None:
        self.mid = mid
        self.codec = codec
        self.numbers = numbers
        self._cname = cname
        self._send = send
        self._rewriter = Rewriter(
            clock_rate=codec.clock_rate,
            codec_name=codec.name,
            first_sequence=numbers.first_sequence,
        )
        self.track: Track | None = None
        self.touch: Callable[[], None] | None = None  # told when its timeout may have moved
        self._place: Place | None = None  # where it may follow an encoding
        self._packets = self._octets = 0
        self._sent_as: str | None = None  # the format of what comes, in lower case
        self._convert: Callable[[bytes], bytes] | None = None  # into the player's
        self.current: Encoding | None = None  # whose packets go on
        self.pending: Encoding | None = None  # waits for its keyframe to become the current one
        self._filter = LayerFilter()
        self._target: LayerChoice | None = None
        self.is_stalled = False  # stepped down: nothing is sent until the keyframe of something cheaper
        self._starvation = Starvation()
        self._begun_at = -inf  # when the current encoding began
        self._wanted_at = -inf  # when the pending one was chosen
        self._answers_from = 0  # extended sequence number; what was taken back before it is not sent again
        self._pending_since = inf
        self._burst_bytes = 0  # what a start may send at once
        self._dropped: tuple[int, int, int] | None = None  # (first, packets, pictures) the filter held back
        self._replayed: tuple[Encoding, Backlog] | None = None  # which says what was added to timestamps
        self._backlog: Backlog | None = None  # what waits of the current encoding, while anything does
        self._pace_bps = inf  # for what is more than may be sent at once
        self.resending = Resending(codec, numbers)
        self.started_at: float | None = None
        self.keyframe_requests = 0
        self.switches = self.replays = self.unreadable = 0
        self.fraction_lost = 0.0
        self._reported = 0  # packets, of which the last report may tell

    @property
    def packets(self) -> int:
        """Packets sent, less what was sent again."""
        self._catch_up_with_followers()
        return self._packets

    @property
    def octets(self) -> int:
        """Bytes of their payload."""
        self._catch_up_with_followers()
        return self._octets

    @property
    def is_video(self) -> bool:
        return self.track.is_video if self.track is not None else self.codec.clock_rate == VIDEO_CLOCK

    # --- source --------------------------------------------------------------------------------

    @property
    def is_flat(self) -> bool:
        """Whether the player cannot put spatial layers together: AV1 tells them by the descriptor alone.

        Without it libwebrtc takes each layer for a picture of its own, and decodes nothing after the first.
        """
        described = EXTENSION_DEPENDENCY_DESCRIPTOR in self.numbers.extension_ids
        return self.codec.name.lower() == "av1" and not described

    def attach(self, track: Track) -> None:
        """Play *track* from now on; :meth:`choose` says which of its encodings."""
        if self.track is not track:
            self.detach()
            self.track = track
            if track.info.codec.lower() != self._sent_as:
                self._sent_as = track.info.codec.lower()
                self._convert = converter(self._sent_as, self.codec.name, self.numbers.block_type)
                self._answers_from = self._rewriter.highest + 1  # what is kept of before is of another format

    def choose(
        self, choice: LayerChoice | None, now: float, *, burst_bytes: int = 0, down: bool = False
    ) -> None:
        """Send this encoding up to these layers; ``None``: nothing.

        The old encoding goes on until a keyframe of the new one is there; with *down* (the path does not
        carry it) nothing goes on until then. *burst_bytes*: how much of what is kept since the last
        keyframe may be sent at once to begin.
        """
        track = self.track
        encoding = track.encodings.get(choice.encoding) if track is not None and choice is not None else None
        if encoding is None or choice is None:
            self._target = None
            self._drop_pending()
            self._leave_current()
            self._stall(down)
            return
        if self.touch is not None:
            self.touch()
        if self.wanted_layers != (choice.spatial, choice.temporal):
            encoding.track.publication.demand_changed()
        self._target = choice
        if encoding is self.current:
            self._drop_pending()
            if self._backlog is None and (choice.spatial, choice.temporal) != self._filter.wanted:
                self.unfollow()
                self._filter.want(choice.spatial, choice.temporal)
            if self._filter.wants_keyframe and self.is_video:
                encoding.keyframe_wish.ask(now)
            return
        if encoding is self.pending:
            return
        self._drop_pending()
        self._stall(down)
        if down or (self.current is not None and not self.current.track.live(self.current.number)):
            self._leave_current()  # it is too much, or nothing comes of it: the new one begins as a first one
        self.pending = encoding
        self._pending_since = self._wanted_at = now
        self._burst_bytes = burst_bytes
        encoding.add_taker(self)
        if self.is_video and not self._replay_to_begin(now):
            asks_itself = encoding.track.is_remote and len(encoding.takers) == 1
            patience = REMOTE_PATIENCE if asks_itself else 0.0
            if self.current is not None:  # it has a picture, and time
                patience = max(patience, encoding.track.keyframe_requests.patience(now))
            encoding.keyframe_wish.ask(now, patience=patience)

    def pace(self, bps: float) -> None:
        """From now on what is too much to be sent at once goes at *bps*, on the wire; infinite: at once."""
        self._pace_bps = max(bps, LEAST_PACE_BPS)
        if self._backlog is not None:
            self._backlog.bps = self._pace_bps

    @property
    def catching_up_bps(self) -> float:
        """What more could be used now, to get through with what waits."""
        return self._backlog.waiting_bps if self._backlog is not None else 0.0

    def detach(self) -> None:
        """Take nothing any more; what was sent can still be asked for again."""
        self._drop_pending()
        self._leave_current()
        self.track = self._target = None

    @property
    def wanted_layers(self) -> tuple[int, int]:
        """The highest (spatial, temporal) layer it wants of what it takes."""
        return (self._target.spatial, self._target.temporal) if self._target is not None else (0, 0)

    @property
    def choice(self) -> LayerChoice | None:
        """The encoding and the layers chosen, whether they are here yet or not."""
        return self._target

    def starved(self, now: float) -> set[int]:
        """The encodings that do not get through to here though their publisher sends them."""
        return self._starvation.avoided(self.current, self._begun_at, self.pending, self._wanted_at, now)

    @property
    def is_settled(self) -> bool:
        """Whether time alone changes nothing of what is to be chosen."""
        starves = self.track is not None and self.track.is_remote and len(self.track.encodings) > 1
        return self._backlog is None and not starves and not self.is_stalled

    def _stall(self, stalled: bool) -> None:
        self._catch_up_with_followers()
        self.is_stalled = stalled and self.started_at is not None
        if self.is_stalled:
            self._answers_from = self._rewriter.highest + 1

    def _drop_pending(self) -> None:
        if self.pending is not None:
            self.pending.remove_taker(self)
            self.pending = None
            self._pending_since = inf

    def _leave_current(self) -> None:
        self.unfollow()
        self._backlog = None
        if self.current is not None:
            if self._dropped is not None:  # the era ends with what was sent
                self._rewriter.skip(*self._dropped)
            self._rewriter.close_era()
            self.current.remove_taker(self)
            self.current = None
            self._dropped = None

    # --- following -------------------------------------------------------------------------------

    def leave_path(self) -> None:
        """Every packet is to be handed to this sender."""
        self.unfollow()
        self._place = None

    def use_path(self, fan_out: FanOut, path: Path) -> None:
        """Packets that go on as they are may be sent on *path* without being handed to this sender."""
        if self.numbers.send_time_id is None and self._place is None:
            self._place = Place(fan_out, path)

    def _follow(self) -> None:
        """From the next packet on they go on as they are, as long as nothing else is to be done to them."""
        encoding, era = self.current, self._rewriter.era
        if encoding is None or era is None or self._backlog is not None:
            return
        if self._dropped is not None or self._convert is not None or not self._filter.is_settled:
            return
        if self._place is not None and not self._place.is_behind:
            self._place.take(self, encoding, era, self._filter.wanted)

    def unfollow(self) -> None:
        """Something else is to be done to the next packet: it is to be handed over."""
        if self._place is not None and self._place.is_taken:
            self._catch_up_with_followers()
            self._place.leave(self)

    def _catch_up_with_followers(self) -> None:
        """Count, and number from, what went on as it was."""
        if self._place is None or (news := self._place.news()) is None:
            return
        packets, octets, frame, at = news
        self._packets += packets
        self._octets += octets
        self._rewriter.caught_up(frame, at)
        self._filter.passed(frame)

    # --- beginning and switching -----------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When a pending encoding is begun with what is kept, or more of that is due; ``None``: never."""
        pending, backlog = self._patience_ends(), self._backlog
        if backlog is None:
            return pending
        return backlog.next_timeout() if pending is None else min(pending, backlog.next_timeout())

    def _patience_ends(self) -> float | None:
        if self.pending is None or not self.is_video:
            return None
        return self._pending_since + (START_PATIENCE if self.current is None else SWITCH_PATIENCE)

    def handle_timeout(self, now: float) -> None:
        """Send on what waits; no keyframe came in time: begin with what is kept since the last one."""
        self._catch_up(now)
        at = self._patience_ends()
        if at is None or now < at:
            return
        assert self.pending is not None, "there is a timeout only while an encoding is pending"
        self._pending_since = now  # looked at again later; the wish goes on
        self.pending.keyframe_wish.ask(now)
        frames = self.pending.since_keyframe.frames()
        if frames:
            self._replay(frames, now)

    def collected(self, encoding: Encoding, now: float) -> None:
        """The ingress sent what it kept: begin with it, if that is waited for."""
        if encoding is self.pending and self.current is None and not self._replay_to_begin(now):
            # More than this player's path takes at once; the ingress has asked for a keyframe already.
            encoding.keyframe_wish.ask(now, patience=COLLECTED_PATIENCE)

    def _replay_to_begin(self, now: float) -> bool:
        """Begin with what is kept of the pending encoding, or for the time being of a cheaper one."""
        assert self.pending is not None, "an encoding is about to begin"
        if self.current is not None:
            return False
        if frames := self._kept(self.pending, now):
            if self.pending.since_keyframe.size_bytes > self._burst_bytes:
                self.pending.keyframe_wish.ask(now)  # it does not answer; or was late once, and does
            self._replay(frames, now)
            return True
        cheaper = self.pending.track.ranked()
        for encoding in reversed(cheaper[: cheaper.index(self.pending)]):
            # An edge keeps what somebody there takes: that comes on, and costs the mesh nothing.
            if encoding.track.live(encoding.number) and (frames := self._kept(encoding, now)):
                wanted, self.pending = self.pending, encoding
                encoding.add_taker(self)
                self._replay(frames, now)
                self.pending, self._pending_since = wanted, now
                return False
        return False

    def _kept(self, encoding: Encoding, now: float) -> list[MediaFrame]:
        """What can be begun with at once: within the player's rate, unless asking brings nothing better."""
        kept = encoding.since_keyframe
        small = kept.size_bytes <= self._burst_bytes or encoding.keyframe_wish.is_ignored(now)
        return kept.frames() if small else []

    def _replay(self, frames: list[MediaFrame], now: float) -> None:
        """Begin the pending encoding with *frames*, squeezed in media time: a decoder shows the last at once.

        With their own timestamps a player would keep all of their age as its delay.
        """
        assert self.pending is not None, "an encoding is about to begin"
        kept = self.pending.since_keyframe
        bps = inf if kept.size_bytes <= self._burst_bytes else self._pace_bps
        step = self.codec.clock_rate * REPLAY_TICK_MS // 1000
        backlog = Backlog(in_order(frames, kept.skips), bps, step, now)
        first = frames[0]
        stamp = (first.timestamp + backlog.stamp(first)) & 0xFFFFFFFF
        self._begin(structs.replace(first, timestamp=stamp), now)
        assert self.current is not None, "it has just begun"
        self._replayed, self._backlog = (self.current, backlog), backlog
        self.replays += 1
        if bps < inf:
            self._filter.want(self._filter.spatial, 0)  # the least that moves: it catches up sooner
        self._catch_up(now)

    def _catch_up(self, now: float) -> None:
        """Send of what waits as much as is due."""
        backlog = self._backlog
        if backlog is None:
            return
        assert self.current is not None, "what waits is of the current encoding"
        while (entry := backlog.pop(now)) is not None:
            if isinstance(entry, MediaFrame):
                before = self._packets
                self._forward(entry, now)
                if self._packets > before:
                    backlog.spend(len(entry.payload), now)
            else:
                self._close_up(*entry)
        if not backlog:
            self._backlog = None
            self._filter.want(*self.wanted_layers)

    def _wait(self, backlog: Backlog, frame: MediaFrame, now: float) -> None:
        """*frame* comes while others wait: behind them, or, of a keyframe, in their place."""
        encoding = self.current
        assert encoding is not None, "what waits is of the current encoding"
        if not backlog.is_followed_by(frame) and not backlog.is_full:
            backlog.add(frame)
            self._catch_up(now)
            return
        encoding.add_taker(self)  # before it is left, so that it is kept on
        self._leave_current()
        self.pending, self._pending_since = encoding, now
        if frame.keyframe:
            self._begin(frame, now)
            self._forward(frame, now)
        else:
            self._stall(True)
            encoding.keyframe_wish.ask(now)

    def _begin(self, frame: MediaFrame, now: float) -> None:
        """*frame* is the first of the pending encoding: the other one is left."""
        assert self.pending is not None, "only a pending encoding begins"
        encoding, self.pending, self._pending_since = self.pending, None, inf
        if self.current is not None:
            self.switches += 1
        self._leave_current()
        self.current = encoding
        self._begun_at = now
        self.is_stalled = False
        assert self._target is not None, "an encoding is pending because it was chosen"
        self._filter.want(self._target.spatial, self._target.temporal)
        self._filter.begin()
        self._rewriter.begin(encoding, frame, now)
        if self.started_at is None:
            self.started_at = now

    # --- media ---------------------------------------------------------------------------------

    def take(self, frame: MediaFrame, now: float) -> None:
        """Send *frame* on under this player's numbers."""
        self.unfollow()  # it comes late, else it would not be handed over
        if self.pending is not None and frame.encoding == self.pending.number:
            if self.is_video and not frame.keyframe:
                return
            encoding = self.pending
            self._begin(frame, now)
            self._forward(frame, now)
            # Of a keyframe whose first packet was lost and comes late, the rest is here.
            for later in encoding.after(frame.sequence):
                self._forward(later, now)
            return
        if self.current is None or frame.encoding != self.current.number:
            return
        if self._backlog is not None:
            self._wait(self._backlog, frame, now)
            return
        self._forward(frame, now)
        if frame.sequence == self.current.highest:
            self._follow()

    def _forward(self, frame: MediaFrame, now: float) -> None:
        if not self._filter.passes(frame):
            self._hold_back(frame)
            return
        if self._dropped is not None and frame.sequence > self._dropped[0]:
            self._rewriter.skip(*self._dropped)
            self._dropped = None
        marker = self._filter.ends_picture(frame)
        renamed = self._rewriter.rename(frame, now, self._squeezed(frame))
        if renamed is None:
            return
        sequence, timestamp, payload, extensions = renamed
        if self._convert is not None:
            try:
                payload = self._convert(payload)
            except RtpError:
                self.unreadable += 1
                return
        self._packets += 1
        self._octets += len(payload)
        self._send(
            EgressRow(
                "video" if self.is_video else "audio",
                self.codec.payload_type,
                marker,
                sequence & 0xFFFF,
                timestamp,
                self.numbers.ssrc,
                payload,
                self._extensions(extensions) if extensions else (),
                self.numbers.transport_id,
                self.numbers.send_time_id,
            ),
            now,
        )

    def _hold_back(self, frame: MediaFrame) -> None:
        """*frame* is of a layer that is not sent: what follows closes up."""
        ends = int((frame.layer_end or frame.marker) and frame.spatial == 0)
        if self._dropped is not None:
            first, packets, pictures = self._dropped
            if frame.sequence == first + packets:
                self._dropped = first, packets + 1, pictures + ends
                return
            self._rewriter.skip(*self._dropped)
        self._dropped = frame.sequence, 1, ends

    def _squeezed(self, frame: MediaFrame) -> int:
        """The time added to *frame*'s, if it was among those that an encoding was begun with."""
        if self._replayed is None:
            return 0
        encoding, backlog = self._replayed
        if frame.encoding != encoding.number or frame.track_id != encoding.track.id:
            return 0
        return backlog.stamp(frame) if backlog is self._backlog else backlog.added.get(frame.timestamp, 0)

    def skip(self, encoding: Encoding, first: int, packets: int, pictures: int) -> None:
        """These of the source's packets were left out on the way, by intent: nothing to wait for."""
        if encoding is self.current:
            self.unfollow()
        if encoding is self.current and self._backlog is not None:
            self._backlog.add((first, packets, pictures))
        elif encoding is self.current:
            self._close_up(first, packets, pictures)

    def _close_up(self, first: int, packets: int, pictures: int) -> None:
        if self._dropped is not None and first > self._dropped[0]:
            self._rewriter.skip(*self._dropped)
            self._dropped = None
        self._rewriter.skip(first, packets, pictures)

    def _extensions(self, extensions: Extensions) -> Extensions:
        """Those the player knows, by its own identifiers."""
        ids = self.numbers.extension_ids
        return tuple((ids[kind], value) for kind, value in extensions if kind in ids)

    # --- feedback ------------------------------------------------------------------------------

    def handle_nack(self, sequences: Sequence[int], now: float, answer_s: float = 0.0) -> None:
        """Send again what is asked for and still kept; *answer_s* as in :meth:`Resending.is_new`."""
        self._catch_up_with_followers()
        for sequence in self.resending.served(sequences, now):
            found = self._rewriter.find(sequence)
            if found is None:  # a gap that came from upstream
                if self.resending.is_gone(sequence, now):
                    self._close_hole(now)
                continue
            if found[0] < self._answers_from:
                self.resending.unavailable += 1
                continue
            out, timestamp, payload, extensions, frame = found
            if not self.resending.is_new(out, now, answer_s):
                continue
            if self._convert is not None:
                payload = self._convert(payload)
            marker = self._filter.ends_picture(frame)
            timestamp = (timestamp + self._squeezed(frame)) & 0xFFFFFFFF
            named = self._extensions(extensions) if extensions else ()
            self._send(self.resending.row(out & 0xFFFF, marker, timestamp, payload, named), now)

    def _close_hole(self, now: float) -> None:
        if self.is_video and self.current is not None:
            self.resending.forget_gone()
            self.current.keyframe_wish.ask(now)

    @property
    def may_pad(self) -> bool:
        """Whether padding of this track can probe the path.

        It need not have begun: a video that does not fit what the path is taken to carry would never.
        """
        return self.track is not None and self.resending.may_pad

    def padding(self) -> EgressRow | None:
        """A packet of padding to probe the path with; ``None`` where there is none."""
        self._catch_up_with_followers()
        return self.resending.padding(self._rewriter.last_timestamp) if self.may_pad else None

    def handle_report(self, fraction_lost: float) -> int:
        """The player's loss since its last report; how many packets were sent to it in that time."""
        self.fraction_lost = fraction_lost
        sent = self.packets
        packets, self._reported = sent - self._reported, sent
        return packets

    def handle_keyframe_request(self, now: float) -> None:
        """The player's decoder is stuck."""
        self.keyframe_requests += 1
        if self.is_video and self.current is not None:
            self.current.keyframe_wish.ask(now)

    def sender_report(self, now: float) -> bytes:
        """SR and SDES, extrapolated from the publisher's clock; empty while that is not known."""
        era = self._rewriter.era
        if era is None or era.encoding.clock is None:
            return b""
        packets, octets = self.packets, self.octets
        clock = era.encoding.clock
        elapsed = now - clock.received_at
        ntp = (clock.ntp + int(elapsed * (1 << 32))) & 0xFFFFFFFFFFFFFFFF
        timestamp = (
            clock.timestamp + int(elapsed * self.codec.clock_rate) + era.timestamp_offset
        ) & 0xFFFFFFFF
        report = build_sender_report(
            self.numbers.ssrc, ntp, timestamp, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF
        )
        return report + build_sdes(self.numbers.ssrc, self._cname)

    def debug_state(self) -> dict[str, object]:
        return {
            "mid": self.mid,
            "codec": self.codec.name,
            "track": self.track.number if self.track is not None else None,
            "encoding": self.current.number if self.current is not None else None,
            "pending": self.pending.number if self.pending is not None else None,
            "layers": self._filter.at,
            "wanted_layers": self.wanted_layers,
            "switches": self.switches,
            "replays": self.replays,
            "unreadable": self.unreadable,
            "started": self.started_at is not None,
            "packets": self.packets,
            **self.resending.debug_state(),
            "keyframe_requests": self.keyframe_requests,
            "fraction_lost": round(self.fraction_lost, 4),
        }
