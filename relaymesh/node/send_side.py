"""Everything one session sends as media: its order, its pace, its transport-wide numbers, its estimate.

In: rows of its senders, the player's feedback, ``now``. Out: RTP packets to its transport, each
with the next transport-wide sequence number, in the order in which they leave; the budget for its
layers. A player that agreed to tell nothing of its path is sent everything at once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from relaymesh.kernels.fan_out import Path
from relaymesh.node.egress import Sender
from relaymesh.node.egress_rows import EgressRow, Sent
from relaymesh.node.path_feedback import PathFeedback
from relaymesh.node.resending import LostAgain
from relaymesh.webrtc import rtcp
from relaymesh.webrtc.bwe import PACKET_OVERHEAD_BYTES
from relaymesh.webrtc.bwe.estimator import BandwidthEstimator
from relaymesh.webrtc.bwe.pacer import Kind, SessionPacer
from relaymesh.webrtc.bwe.remb import RembReader

OVERHEAD_BYTES = PACKET_OVERHEAD_BYTES + 16  # around an RTP packet; the longer of SRTP's usual tags
ANSWER_SHARE = 0.7  # of the round trip: there and, since the smoothed one lags behind, a little more
_KINDS: dict[Sent, Kind] = {
    "audio": Kind.AUDIO,
    "video": Kind.VIDEO,
    "retransmission": Kind.RETRANSMISSION,
    "padding": Kind.PADDING,
}


class SendSide:
    """The sending half of one session."""

    def __init__(self, send_rtp: Callable[[bytes], None], path: Path, now: float) -> None:
        """*path*: where packets leave that need not be handed over here, under the same numbers."""
        self._send_rtp = send_rtp
        self._path = path
        self.touch: Callable[[], None] | None = None  # told when the timeout may have moved
        self._estimator: BandwidthEstimator | None = None
        self._pacer: SessionPacer[EgressRow] | None = None
        self._remb: RembReader | None = None
        self._padding_from: list[Sender] = []
        self._by_rtx: dict[int, Sender] = {}
        self._lost_again = LostAgain()
        self._granted_bps = 0.0
        self._now = now

    def use_feedback(self, feedback: PathFeedback) -> None:
        """What the player has agreed to tell; before any sender is added."""
        if feedback is PathFeedback.NONE:
            return
        arrivals = feedback is PathFeedback.ARRIVALS
        self._estimator = BandwidthEstimator(now=self._now, transport_feedback=arrivals)
        self._pacer = SessionPacer(self._estimator.estimate_bps, self._now, self._path)
        self._path.gated = True
        self._remb = None if arrivals else RembReader()

    def add_sender(self, sender: Sender) -> None:
        """*sender*'s rows are sent here, at the pace that the player's feedback allows."""
        numbers = sender.numbers
        if self._remb is not None:
            self._remb.add_source(numbers.ssrc, numbers.rtx_ssrc)
        if numbers.rtx_ssrc is not None:
            self._by_rtx[numbers.rtx_ssrc] = sender
        if sender.resending.may_pad:
            self._padding_from.append(sender)

    @property
    def sees_each(self) -> bool:
        """Whether every packet must be handed over here: REMB is read by what each source sent."""
        return self._remb is not None

    @property
    def is_adaptive(self) -> bool:
        """Whether there is anything to estimate by."""
        return self._estimator is not None

    @property
    def budget_bps(self) -> float:
        """What the path to the player is taken to carry, on the wire; infinite while nothing tells."""
        return self._estimator.estimate_bps if self._estimator is not None else inf

    @property
    def is_short(self) -> bool:
        """Whether less is left than what was chosen takes."""
        return self.budget_bps < self._granted_bps

    @property
    def may_try(self) -> bool:
        """Whether a video may be sent beyond the budget: nothing was heard of the path, or against it."""
        return self._estimator is not None and self._estimator.may_try

    @property
    def answer_s(self) -> float:
        """Seconds until the player has what is sent again now: for what waits before it, and the way."""
        if self._estimator is None or self._pacer is None:
            return 0.0
        return self._pacer.wait_s + ANSWER_SHARE * self._estimator.rtt

    # --- sending ---------------------------------------------------------------------------------

    def send(self, row: EgressRow, now: float) -> None:
        """Send *row* when its turn comes."""
        if self._pacer is None:
            self._release(row, now, None)
            return
        self._pacer.enqueue(row, row.size_bytes + OVERHEAD_BYTES, _KINDS[row.kind], now)
        self._drain(now)
        if self.touch is not None:
            self.touch()

    def _drain(self, now: float) -> None:
        pacer = self._pacer
        assert pacer is not None, "only what is paced is drained"
        for row in pacer.poll(now):
            self._release(row, now, pacer.probe)
        while pacer.poll_probe(now) > 0:
            sender = next((s for s in self._padding_from if s.may_pad), None)
            padding = sender.padding() if sender is not None else None
            if padding is None:
                break  # nothing was sent yet: the probe ends by itself
            pacer.on_probe_sent(self._release(padding, now, pacer.probe), now)

    def _release(self, row: EgressRow, now: float, probe: int | None) -> int:
        """Send it; its bytes on the wire."""
        number: int | None = None
        if row.transport_id is not None:
            # One counter for the whole transport (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2).
            number = self._path.number = (self._path.number + 1) & 0xFFFF
        packet = row.build(number, now)
        self._send_rtp(packet)
        size: int = len(packet) + OVERHEAD_BYTES
        if self._remb is not None:
            self._remb.on_sent(row.ssrc, len(row.payload) + row.padding_bytes, size, now)
        if self._estimator is not None:
            self._hear_of_sent()
            self._estimator.on_sent(number, size, now, probe)
        if row.kind == "retransmission" and number is not None and row.ssrc in self._by_rtx:
            self._lost_again.note_sent(number, row.ssrc, row.payload, now)
        return size

    def _hear_of_sent(self) -> None:
        """Tell the estimator what left without being handed over here."""
        assert self._estimator is not None, "else nothing is logged"
        for number, size, at in self._path.take_sent():
            self._estimator.on_sent(number, size, at)

    def discard(self, sender: Sender) -> None:
        """Take back what waits of *sender*: its path does not carry it, and something cheaper follows."""
        if self._pacer is not None:
            sources = (sender.numbers.ssrc, sender.numbers.rtx_ssrc)
            self._pacer.discard(lambda row: row.ssrc in sources)

    # --- what the player says ----------------------------------------------------------------------

    def handle_feedback(self, feedback: rtcp.TransportFeedback, now: float) -> None:
        """Transport-wide feedback."""
        if self._estimator is None:
            return
        self._hear_of_sent()
        lost = self._estimator.handle_feedback(feedback, now)
        for ssrc, sequence in self._lost_again.take_lost(lost, now):
            self._by_rtx[ssrc].handle_nack([sequence], now)

    def handle_remb(self, remb: rtcp.Remb, now: float) -> None:
        """The rate the player believes it can take; unasked for it is not looked at."""
        if self._estimator is None or self._remb is None:
            return
        bps = self._remb.read(remb, now)
        if bps is not None:
            self._estimator.handle_remb(bps, now)

    def handle_report(self, fraction_lost: float, packets: int, now: float) -> None:
        """The loss in a receiver report, of so many packets."""
        if self._estimator is not None:
            self._hear_of_sent()
            self._estimator.handle_receiver_report(fraction_lost, None, now, packets)

    def want(self, bps: float, now: float, *, granted_bps: float = 0.0, paused: bool = False) -> None:
        """So much in all could be used; 0: the estimate is enough. What was chosen takes *granted_bps*.

        *paused*: a video found no room at all.
        """
        self._granted_bps = granted_bps
        if self._estimator is not None:
            self._estimator.set_wanted(bps, now, paused=paused)

    # --- time ----------------------------------------------------------------------------------------

    @property
    def _may_probe(self) -> bool:
        """Whether there is anything to make padding from."""
        return any(sender.may_pad for sender in self._padding_from)

    def next_timeout(self) -> float | None:
        if self._estimator is None or self._pacer is None:
            return None
        self._hear_of_sent()
        times = (self._estimator.next_timeout(may_probe=self._may_probe), self._pacer.next_timeout())
        return min((at for at in times if at is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Let go what is due, probes too."""
        if self._estimator is None or self._pacer is None:
            return
        self._hear_of_sent()
        self._estimator.handle_timeout(now)
        # What is tried beyond the estimate must not wait in a queue of our own.
        tried = self._granted_bps if self._estimator.may_try else 0.0
        draining = self._estimator.is_draining(now)
        self._pacer.set_estimate(max(self._estimator.estimate_bps, tried), now, draining=draining)
        if self._may_probe:
            cluster = self._estimator.poll_probe(now)
            if cluster is not None:
                self._pacer.begin_probe(cluster, now)
        self._drain(now)

    def debug_state(self) -> dict[str, object]:
        if self._estimator is None or self._pacer is None:
            return {"adaptive": False}
        return {
            "adaptive": True,
            "estimator": self._estimator.debug_state(),
            "pacer": self._pacer.debug_state(),
            "remb": None if self._remb is None else self._remb.debug_state(),
        }
