"""How much one subscriber's path carries, estimated by the sender from what the peer feeds back.

In: every packet sent (:meth:`~BandwidthEstimator.on_sent`), transport-wide feedback, REMB, receiver
reports, the rate that could be used, ``now``. Out: :attr:`~BandwidthEstimator.estimate_bps`, probe
clusters, the next time to be called. It knows no tracks, layers, sockets or packets' bytes.

Google Congestion Control in its send-side form (draft-ietf-rmcat-gcc-02, libwebrtc's ``goog_cc``): the
least of the delay-based rate (`delay`, `aimd`) and the bound by loss (`loss`), raised at once by
probes (`probing`). REMB is a cap. A peer that feeds back no arrivals is followed by its REMB, and by the loss
in its receiver reports (draft §6), which may bring the rate below it; padding lets both rise (`filling`).

While the media offers less than the estimate, which is the rule where layers are whole steps, the estimate
neither grows (beyond 1.5 × what arrives) nor decays; probes find out what is beyond. Their packets, and
those sent while a probe's queue empties, are kept from the delay detector: a probe that was too much
must not cost a layer.

A peer that agreed to report arrivals and never does is followed after a while as one that did not agree, from
the start rate unless it reported loss.

Whatever a peer claims, the estimate stays within ``min_bps`` and ``max_bps``, and only packets that were
sent count.
"""

from __future__ import annotations

import math
from collections import deque

from relaymesh.webrtc.bwe.acked import SHORT_WINDOW, AckedRate
from relaymesh.webrtc.bwe.aimd import AHEAD, AHEAD_BPS, AimdRate
from relaymesh.webrtc.bwe.delay import PACKET_BITS, DelayDetector, Usage
from relaymesh.webrtc.bwe.expected import ExpectedQueue
from relaymesh.webrtc.bwe.filling import Filler
from relaymesh.webrtc.bwe.history import FeedbackBatch, PacketResult, SendHistory
from relaymesh.webrtc.bwe.loss import CONFIDENCE, HIGH, LOW, PAUSE, WEIGHT, LossBound
from relaymesh.webrtc.bwe.probing import ProbeCluster, ProbeController
from relaymesh.webrtc.bwe.remb import KEPT as REMB_KEPT
from relaymesh.webrtc.bwe.reported import ReportedLoss
from relaymesh.webrtc.bwe.sent import SentRate
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtcp import TransportFeedback
from relaymesh.webrtc.twcc import parse_transport_feedback

START_BPS = 300_000.0  # libwebrtc's default
MIN_BPS = 30_000.0  # audio goes on
MAX_BPS = 20_000_000.0  # of one subscriber; no peer can claim more
# Seconds and a round trip after a packet of which nothing is heard; browsers report each 50 – 250 ms.
FEEDBACK_TIMEOUT = 1.0
SILENT_FACTOR = 0.5  # × the estimate, for each such second
# Seconds without REMB and reports, where no arrivals come: three of RTCP's 5 s (libwebrtc), five of REMB's.
REPORT_TIMEOUT = 15.0
REMB_TIMEOUT = 5.0
# Seconds of sending after which a peer that reported no arrivals is taken for one that never does.
UNSEEN_AFTER = 3.0
REPORT_GROWTH = 1.08  # × per second while less than 2 % are lost (draft §6: 1.05 per report)
DIP = 0.75  # × what was sent in the last second: REMB of more than that …
DIP_MARGIN = 1.1  # … and less than that, by the noise of a layer's rate above it, …
DIP_PATIENCE = 3.0  # … is followed after so many seconds, …
DIP_RISEN, RISING_PATIENCE = 1.05, 6.0  # … or so many while it is so far above the lowest
SHORT_PACKETS = 6  # large packets that a rate is measured over at least, however slow the path
RTT_SHARE = 0.125  # of a new round trip in the smoothed one (RFC 6298 §2)
START_RTT = 0.1  # seconds, until one is measured
BIG_DROP = 0.66  # × the estimate before: libwebrtc's kBitrateDropThreshold
DROP_WITHIN = 3.0  # seconds
FILLED = 0.8  # × the estimate: so much media fills it
DRAIN_SHARE = 0.25  # of the estimate, at least, is taken to empty a probe's queue
BLIND_KEPT = 1.0  # seconds behind what feedback is about
BLIND_FILLED = 0.15  # … and where media fills the estimate, for its own queue must be seen
BLIND_MOST = 0.6  # seconds after a probe, at most, that the delays are not looked at


class BandwidthEstimator:
    """The estimate for one session."""

    def __init__(
        self,
        *,
        now: float,
        start_bps: float = START_BPS,
        min_bps: float = MIN_BPS,
        max_bps: float = MAX_BPS,
        transport_feedback: bool = True,
    ) -> None:
        """*transport_feedback*: the peer has agreed to report arrivals."""
        self.malformed = 0  # feedback packets that could not be read
        self.ignored = 0  # feedback packets about nothing that was sent
        self.timeouts = 0
        self.rtt = START_RTT  # seconds, smoothed
        self._min, self._max = min_bps, max_bps
        self._start = start_bps
        self._negotiated = self._expects_arrivals = transport_feedback
        self._history = SendHistory()
        self._sent = SentRate()
        self._acked = AckedRate()
        self._expected = ExpectedQueue()
        self._delay = DelayDetector()
        self._aimd = AimdRate(min(max(start_bps, min_bps), max_bps), min_bps, max_bps)
        self._loss = LossBound(min_bps)
        self._probes = ProbeController(start_bps, max_bps)
        self._filler = Filler()
        self._proven = False  # the start rate was confirmed, or replaced
        self._constrained = False  # something told that the path does not carry more
        self._arrivals_seen = False
        self._filled = False  # the media is about as much as the estimate
        self._reported = ReportedLoss()
        self._first_sent: float | None = None
        self._unanswered: float | None = None  # when the first packet left of which nothing was heard
        self._heard_at = now
        self._remb: tuple[float, float] | None = None  # bit/s, until
        self._reported_at: float | None = None
        self._report_reduced_at = -math.inf
        self._dip: tuple[float, float] | None = None  # REMB is a little too low: since when, the lowest
        self._loss_leads = False  # reports brought the rate below what REMB says
        self._highs: deque[tuple[float, float]] = deque()  # estimates of the last seconds, falling
        # Times of sending between which a probe and its queue stand; and the running cluster's id.
        self._blind: deque[tuple[float, float]] = deque(maxlen=8)
        self._blind_probe: int | None = None

    @property
    def estimate_bps(self) -> float:
        """Bit/s on the wire that this path is taken to carry."""
        rate = min(self._aimd.rate_bps, self._loss.bound_bps)
        if self._remb is not None:
            rate = min(rate, self._remb[0])
        return min(self._max, max(self._min, rate))

    @property
    def may_try(self) -> bool:
        """Whether a video may be sent beyond the estimate: nothing heard of the path speaks against it.

        Neither does the estimate itself, as long as it is where every session starts, or only rose from
        there. Receiver reports tell nothing of a path that is hardly used, but for the loss in them.
        """
        return not self._constrained and self._remb is None and not self._reported.is_high

    @property
    def _fills(self) -> bool:
        """Whether padding fills the estimate; else clusters probe beyond it."""
        return not self._expects_arrivals

    @property
    def is_overused(self) -> bool:
        """Whether the last feedback showed a full path."""
        return self._delay.usage is Usage.OVER

    def is_draining(self, now: float) -> bool:
        """Whether the path was found full so lately that its queue has no room for a burst."""
        return self._aimd.drains(now) and not self._delay.is_empty

    # --- sending

    def on_sent(self, sequence: int | None, size_bytes: int, now: float, probe: int | None = None) -> None:
        """A packet left; *sequence* is its transport-wide number (16 bits), None where there is none.

        Raises:
            ValueError: the number does not follow the last one; the caller's fault.
        """
        self._sent.add(size_bytes, now)
        if self._first_sent is None:
            self._first_sent = now
        if self._unanswered is None:
            self._unanswered = now
        if sequence is None:
            return
        if probe is not None:
            if self._probes.on_sent(probe, size_bytes, now):
                self._look_away(probe, size_bytes, now)
            else:
                probe = None
        self._history.on_sent(sequence, size_bytes, now, probe)

    def _look_away(self, probe: int, size_bytes: int, now: float) -> None:
        """Delays from the probe's first packet on, until its queue is gone, say nothing of the media."""
        estimate = self.estimate_bps
        spare = max(estimate - (self._acked.rate_bps() or 0.0), DRAIN_SHARE * estimate)
        drain = size_bytes * 8 / spare
        most = BLIND_FILLED if self._filled else BLIND_MOST
        if self._blind_probe == probe and self._blind:
            start, end = self._blind.pop()
            self._blind.append((start, min(max(end, now) + drain, now + most)))
        else:
            self._blind_probe = probe
            self._blind.append((now, now + drain))

    def _is_blind(self, sent_at: float) -> bool:
        return any(start <= sent_at <= end for start, end in self._blind)

    # --- what the peer feeds back

    def handle_feedback(self, feedback: TransportFeedback, now: float) -> list[int]:
        """Arrivals of packets; the numbers (16 bits) of those that it is the first to tell lost.

        Raises:
            RtpError: it cannot be read. It is counted, and nothing changed.
        """
        try:
            report = parse_transport_feedback(feedback.body)
        except RtpError:
            self.malformed += 1
            raise
        batch = self._history.match(report)
        if not batch.results:
            self.ignored += 1
            return []
        before = self.estimate_bps
        self._arrivals_seen = self._expects_arrivals = True
        self._unanswered = None
        self._heard_at = now
        self._note_rtt(batch, now)
        self._judge(self._note_arrivals(batch), now)
        self._take_probe(now)
        self._note_drop(before, now)
        return [result.sequence & 0xFFFF for result in batch.results if result.arrived_at is None]

    def _note_rtt(self, batch: FeedbackBatch, now: float) -> None:
        newest = max((r.sent_at for r in batch.results if r.arrived_at is not None), default=None)
        if newest is not None and now >= newest:
            self.rtt += RTT_SHARE * (min(now - newest, 2.0) - self.rtt)

    def _note_arrivals(self, batch: FeedbackBatch) -> list[PacketResult]:
        """Those that neither are a probe's nor were sent into its queue."""
        arrived = [r for r in batch.results if r.arrived_at is not None]
        if batch.unreported_bytes and arrived:
            self._acked.add_unreported(batch.unreported_bytes, min(r.arrived_at or 0.0 for r in arrived))
        estimate = self.estimate_bps
        self._delay.set_rate(estimate)
        blind_spans = self._blind
        while blind_spans and blind_spans[0][1] < batch.results[0].sent_at - BLIND_KEPT:
            blind_spans.popleft()
        skipped = False
        told: list[PacketResult] = []
        for result in batch.results:
            expected = self._expected.add(result.sent_at, result.size_bytes, estimate)
            if result.probe is not None:
                self._probes.on_result(result.probe, result.sent_at, result.size_bytes, result.arrived_at)
            blind = bool(blind_spans) and self._is_blind(result.sent_at)
            if result.probe is None and not blind:
                told.append(result)
            if result.arrived_at is None:
                continue
            self._acked.add(result.arrived_at, result.size_bytes)
            if blind:
                if not skipped:
                    self._delay.skip()
                skipped = True
                self._delay.glance(result.sent_at, result.arrived_at, expected)
                continue
            skipped = False
            self._delay.add(result.sent_at, result.arrived_at, expected)
        return told

    def _judge(self, told: list[PacketResult], now: float) -> None:
        """Let delays and loss move the rate."""
        acked = self._acked.rate_bps()
        arriving = self._acked.rate_bps(max(SHORT_WINDOW, SHORT_PACKETS * PACKET_BITS / self.estimate_bps))
        usage, full = self._look_at_queue()
        reduced = self._aimd.update(usage, acked, max(full or 0.0, arriving or 0.0) or None, self.rtt, now)
        if reduced:
            self._delay.on_reduced()
        self._filled = filled = acked is not None and acked > FILLED * self.estimate_bps
        if usage is Usage.OVER:
            self._probes.on_overuse(self.rtt, now, filled=filled)
            self._proven = self._proven or reduced
            self._constrained = self._constrained or reduced
        # What a probe overflows is its own fault, as the delay is.
        lost = sum(-1 if r.was_lost else r.arrived_at is None for r in told)
        packets = sum(not r.was_lost for r in told)
        if self._loss.update(packets, lost, self.estimate_bps, arriving, self.rtt, now):
            self._probes.on_overuse(self.rtt, now, filled=filled)
            self._proven = self._constrained = True

    def _look_at_queue(self) -> tuple[Usage, float | None]:
        """What the delays say; of a full path the rate that came through while packets waited, if known.

        While packets wait the path is busy all the time: what comes through is what it carries. Before that
        it may have been hardly used, as before the keyframe of a dearer layer; and a queue too short
        for its rate to be known may be that of one large picture.
        """
        usage, since = self._delay.usage, self._delay.queued_since
        if usage is not Usage.OVER:
            return usage, None
        full = self._acked.rate_since(since) if since is not None else None
        measured = full is not None or (since is not None and self._acked.covers(since, SHORT_WINDOW))
        counts = measured or self._delay.stands or self._delay.is_unexplained
        return (usage if counts else Usage.UNDER), full

    def _take_probe(self, now: float) -> None:
        """Raise the estimate to what a cluster measured; the start rate may also fall to it."""
        result = self._probes.poll_result(self.estimate_bps, now)
        if result is None or self.is_overused:
            return
        # A cluster that was stretched may have taken its share from other flows' in the same queue: it
        # says how much there is only while nothing better is known.
        if not self._proven or (result.came_through and result.rate_bps > self._aimd.rate_bps):
            self._aimd.set_rate(result.rate_bps, now)
        elif not result.came_through and result.rate_bps < self._aimd.rate_bps:
            # Growth that no media has tried was too much; what arrives, however, does.
            arrives = min(self._acked.rate_bps() or result.rate_bps, self._aimd.rate_bps)
            self._aimd.set_rate(max(result.rate_bps, arrives), now)
        if result.came_through:
            self._loss.raise_to(result.rate_bps)
        self._proven = True
        self._constrained = self._constrained or not result.came_through

    def _note_drop(self, before: float, now: float) -> None:
        """Tell the probes when the estimate fell far within a short time."""
        highs = self._highs
        while highs and highs[0][0] < now - DROP_WITHIN:
            highs.popleft()
        while highs and highs[-1][1] <= before:
            highs.pop()
        highs.append((now, before))
        if self.estimate_bps < BIG_DROP * highs[0][1]:
            highs.clear()
            self._probes.on_drop(now)

    def handle_remb(self, bps: float, now: float) -> None:
        """The peer says that it can take *bps* in all, on the wire; followed where it reports no arrivals.

        Down at once. Up as well, unless its reports told of loss below it: then they lead up to it.
        """
        before = self.estimate_bps
        bps = min(self._max, max(self._min, bps))
        self._filler.on_change(before, bps, now)
        bps = self._without_dip(bps, now)
        self._remb = bps, now + REMB_KEPT
        if self._arrivals_seen:
            return
        self._heard_at = now
        if self._aimd.rate_bps >= bps:
            self._loss_leads = False
        if not self._loss_leads:
            self._aimd.set_rate(bps, now)

    def _without_dip(self, bps: float, now: float) -> float:
        """*bps*, or what is sent at present if it may soon be enough for that again.

        A receiver's filter takes the first packets of another size, or a keyframe, for a queue, and answers
        with 0.85 × what arrives, from where it rises again. A path that became narrower shows by less, or by
        falling again.
        """
        sent, estimate = self._sent.bps(now), self.estimate_bps
        kept = min(estimate, DIP_MARGIN * sent)
        if bps >= kept or bps < DIP * min(sent, estimate) or self._arrivals_seen:
            self._dip = None
            return bps
        since, lowest = self._dip or (now, bps)
        self._dip = since, min(bps, lowest)
        patience = RISING_PATIENCE if bps > DIP_RISEN * lowest else DIP_PATIENCE
        return kept if now - since < patience else bps

    def handle_receiver_report(
        self, fraction_lost: float, rtt: float | None, now: float, packets: int | None = None
    ) -> None:
        """The loss (0 … 1) since the last report; used where no arrivals come.

        Of how many *packets* it tells, if known: of few it means as much as its confidence (`loss`).
        """
        if self._arrivals_seen:
            return
        self._heard_at = now
        self._reported.note(fraction_lost, now)
        if rtt is not None:
            self.rtt += RTT_SHARE * (min(max(rtt, 0.0), 2.0) - self.rtt)
        last, self._reported_at = self._reported_at, now
        rate = self.estimate_bps
        lost = min(max(fraction_lost, 0.0), 1.0)
        spread = CONFIDENCE * math.sqrt(lost * (1.0 - lost) / packets) if packets else 0.0
        if lost - spread > HIGH:
            if now - self._report_reduced_at >= PAUSE + self.rtt:
                self._report_reduced_at = now
                self._loss_leads = True
                self._aimd.set_rate(rate * (1.0 - WEIGHT * lost), now)
                self._filler.on_change(rate, self.estimate_bps, now)
        elif lost - spread < LOW and last is not None:
            grown = rate * REPORT_GROWTH ** min(now - last, 1.0) + 1000.0 * min(now - last, 1.0)
            limit = max(rate, AHEAD * self._sent.bps(now) + AHEAD_BPS)
            self._aimd.set_rate(min(grown, limit), now)

    # --- probing

    def set_wanted(self, bps: float, now: float, *, paused: bool = False) -> None:
        """*bps* in all could be used, if the path carried them; nothing is probed beyond.

        *paused*: a video is not sent at all for want of them.
        """
        self._probes.set_wanted(bps, now, paused=paused)

    def poll_probe(self, now: float) -> ProbeCluster | None:
        """A cluster to be sent from now on, if any."""
        self._lapse(now)
        if self._fills:
            if self._negotiated and self._remb is None:
                return None  # nobody would tell what became of it
            wanted = self._probes.wanted_bps
            return self._filler.poll(self.estimate_bps, self._max if wanted is None else wanted, now)
        may_probe = not self.is_overused and self._loss.loss <= self._loss.inherent + HIGH
        if self._filled and self._aimd.was_full(now) and not self._probes.paused:
            may_probe = False  # the media itself finds out
        if self._remb is not None and self._arrivals_seen and self._remb[0] <= self.estimate_bps:
            may_probe = False  # the peer wants no more
        return self._probes.poll(
            self.estimate_bps,
            may_probe=may_probe,
            filled=self._filled,
            rtt=self.rtt,
            now=now,
        )

    # --- time

    def _silent_at(self) -> float:
        """When silence is too long."""
        if self._unanswered is None:
            return math.inf
        if self._expects_arrivals:
            return self._unanswered + FEEDBACK_TIMEOUT + self.rtt
        patience = REPORT_TIMEOUT if self._remb is None else REMB_TIMEOUT
        return max(self._heard_at, self._unanswered) + patience

    def _gives_up_at(self) -> float:
        """When arrivals are not expected any more."""
        if self._first_sent is None or self._arrivals_seen or not self._expects_arrivals:
            return math.inf
        return self._first_sent + UNSEEN_AFTER

    def next_timeout(self, *, may_probe: bool = True) -> float | None:
        """When to call :meth:`handle_timeout`, and :meth:`poll_probe` with *may_probe*; None: never."""
        due = min(self._silent_at(), self._gives_up_at())
        wanted = self._probes.wanted_bps
        wants_more = wanted is None or wanted > self.estimate_bps
        if may_probe and self._fills:
            due = min(due, self._filler.next_timeout()) if wants_more else due
        elif may_probe and (wants_more or not self._proven):
            due = min(due, self._probes.next_timeout())
        return None if due == math.inf else due

    def handle_timeout(self, now: float) -> None:
        """Reduce the estimate for silence of the peer."""
        self._lapse(now)
        if now >= self._gives_up_at():
            self._expects_arrivals = False
            self._unanswered = self._heard_at = now
            if not self._reported.is_high:  # what its silence cost was a mistake
                self._aimd.set_rate(max(self._aimd.rate_bps, self._start), now)
        if now < self._silent_at():
            return
        self.timeouts += 1
        before = self.estimate_bps
        self._aimd.set_rate(before * SILENT_FACTOR, now)
        self._probes.on_overuse(self.rtt, now, filled=False)
        self._filler.on_change(before, self.estimate_bps, now)
        if self._arrivals_seen:  # a peer that never said anything tells nothing
            self._proven = self._constrained = True
        self._unanswered = now  # and once more in as long
        self._note_drop(before, now)

    def _lapse(self, now: float) -> None:
        """An old REMB counts no more; of a peer that is silent since, it is the last word."""
        if self._remb is not None and now >= self._remb[1] and self._heard_at > self._remb[1] - REMB_KEPT:
            self._remb = None

    def debug_state(self) -> dict[str, object]:
        return {
            "estimate_bps": round(self.estimate_bps),
            "acked_bps": self._acked.rate_bps(),
            "rtt": round(self.rtt, 4),
            "remb_bps": None if self._remb is None else self._remb[0],
            "delay": self._delay.debug_state(),
            "aimd": self._aimd.debug_state(),
            "loss": self._loss.debug_state(),
            "probes": self._filler.debug_state() if self._fills else self._probes.debug_state(),
            "history": self._history.debug_state(),
            "malformed": self.malformed,
            "ignored": self.ignored,
            "timeouts": self.timeouts,
        }
