"""Measurements of one side of a link by probes: round-trip time, jitter, loss in each direction.

In: ``now`` and the probes and echoes that came; out: the probes and echoes to
send, and estimates. No two clocks are ever compared: RTT is the prober's own
time between a probe and its echo, and loss comes from counts alone. Each side
counts the probes it received and the highest sequence among them; over a
sliding window

    loss = 1 − (probes received in the window) / (advance of the highest sequence)

The loss of the peer's probes is counted here; the loss of our own is counted
by the peer and told in its echoes. Nothing here knows sealing or liveness.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from relaymesh.protocol.frames import Echo, Probe
from relaymesh.protocol.seqnum import distance

LOSS_WINDOW = 5.0  # seconds: 100 probes at 20/s, so that 1 % is about one probe
RTT_SAMPLES = 40  # two seconds at 20/s
STEP_SAMPLES = 6  # so many in a row beyond what was usual are a step, if that was known from …
STEP_KNOWN = 12  # … so many; what was before is forgotten then
STEP_MS = 1.0  # beyond the jitter, and …
STEP_FRACTION = 0.05  # … this part of the RTT
MAX_OUTSTANDING = 256  # probes waiting for their echo
MAX_MARKS = 2048  # of a loss window; it shortens when probes come faster than 400/s
RESTART_DISTANCE = 1024  # a sequence further off than this is a sender that started over
_U32 = 0xFFFFFFFF
_U64 = (1 << 64) - 1


class _Mark(NamedTuple):
    at: float  # seconds
    highest: int  # u32 probe sequence
    received: int  # u32 probes


class LossWindow:
    """Loss over the last :data:`LOSS_WINDOW` seconds from cumulative (highest, received) counts."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()

    def add(self, highest: int, received: int, now: float) -> None:
        """The counting side has received *received* probes up to the sequence *highest* (both u32).

        Counts that arrive out of order are ignored; counts that went back mean
        that the counting side started over, and so does the window.
        """
        marks = self._marks
        if marks:
            last = marks[-1]
            further = distance(highest, last.highest, 32)
            more = distance(received, last.received, 32)
            if abs(further) > RESTART_DISTANCE or (further > 0 and more <= 0):
                marks.clear()
            elif further < 0 or (further == 0 and more <= 0):
                return
            elif further == 0:
                marks.pop()
        marks.append(_Mark(now, highest, received))
        self._forget(now)

    def loss(self, now: float) -> float:
        """Fraction lost, 0 … 1; 0 while there is nothing to compare."""
        self._forget(now)
        if len(self._marks) < 2:
            return 0.0
        first, last = self._marks[0], self._marks[-1]
        sent = distance(last.highest, first.highest, 32)
        came = distance(last.received, first.received, 32)
        return min(1.0, max(0.0, 1.0 - came / sent))

    def clear(self) -> None:
        self._marks.clear()

    def _forget(self, now: float) -> None:
        # The newest mark that is older than the window stays: it is where the window begins.
        marks = self._marks
        while len(marks) > 2 and (marks[1].at <= now - LOSS_WINDOW or len(marks) > MAX_MARKS):
            marks.popleft()

    def debug_state(self) -> dict[str, object]:
        return {"marks": len(self._marks), "last": tuple(self._marks[-1]) if self._marks else None}


class Prober:
    """Probes out, echoes back, and the same for the peer.

    *first_sequence* (u32) should be random: a peer sees by the jump that this
    side has started over.
    """

    def __init__(self, first_sequence: int) -> None:
        self._next_sequence = first_sequence & _U32
        self._outstanding: dict[int, tuple[float, int]] = {}  # sequence → (sent at, sent_at_us)
        self._rtts: deque[float] = deque(maxlen=RTT_SAMPLES)  # seconds
        self._loss_out = LossWindow()
        self._loss_in = LossWindow()
        self._peer_highest: int | None = None
        self._peer_received = 0
        self.rtt = 0.0  # seconds, median of the recent samples; 0 while there is none
        self.jitter = 0.0  # seconds, 90th percentile minus median
        self.echoes_unmatched = 0  # echoes of nothing that we sent and still wait for
        self.steps = 0  # of the RTT, ever
        self._usual = (0.0, math.inf)  # seconds: between these a sample is no surprise
        self._surprises = 0  # samples in a row beyond; negative: below
        self._calm_jitter = 0.0  # seconds; as it was before the first of them
        self._out = [0, 0]  # of our probes since take_fates(): sent, lost
        self._in = [0, 0]
        self._told: tuple[int, int] | None = None  # by the last echo: highest, received

    def probe(self, now: float, *, deaf: bool = False) -> Probe:
        """The next probe; it counts as sent at *now*."""
        sequence = self._next_sequence
        self._next_sequence = (sequence + 1) & _U32
        if len(self._outstanding) >= MAX_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]  # the oldest
        sent_at_us = int(now * 1e6) & _U64
        self._outstanding[sequence] = (now, sent_at_us)
        return Probe(sequence, sent_at_us, deaf)

    def handle_probe(self, probe: Probe, now: float) -> Echo:
        """Count the peer's probe; the answer must leave at once, or it spoils the peer's RTT."""
        if self._peer_highest is None:
            ahead = RESTART_DISTANCE + 1
        else:
            ahead = distance(probe.sequence, self._peer_highest, 32)
        if abs(ahead) > RESTART_DISTANCE:
            self._peer_received = 0
            self._loss_in.clear()
        self._peer_received = (self._peer_received + 1) & _U32
        if abs(ahead) <= RESTART_DISTANCE:
            self._in[0] += max(0, ahead)
            self._in[1] += max(0, ahead) - 1  # one that was late takes back that it was lost
        if self._peer_highest is None or ahead > 0 or ahead < -RESTART_DISTANCE:
            self._peer_highest = probe.sequence
        self._loss_in.add(self._peer_highest, self._peer_received, now)
        return Echo(probe.sequence, probe.sent_at_us, self._peer_received, self._peer_highest)

    def handle_echo(self, echo: Echo, now: float) -> bool:
        """Match *echo* with a probe of ours; false for any other, which is counted and ignored."""
        waiting = self._outstanding.get(echo.sequence)
        if waiting is None or waiting[1] != echo.sent_at_us:
            self.echoes_unmatched += 1
            return False
        del self._outstanding[echo.sequence]
        self._note_rtt(max(0.0, now - waiting[0]))
        self._loss_out.add(echo.probe_highest, echo.probes_received, now)
        if self._told is not None:
            sent = distance(echo.probe_highest, self._told[0], 32)
            came = distance(echo.probes_received, self._told[1], 32)
            if 0 <= sent <= RESTART_DISTANCE and came > 0:
                self._out[0] += sent
                self._out[1] += sent - came
            elif abs(sent) <= RESTART_DISTANCE and came <= 0:
                return True  # an echo that was overtaken
        self._told = (echo.probe_highest, echo.probes_received)
        return True

    def _note_rtt(self, rtt: float) -> None:
        samples = self._rtts
        samples.append(rtt)
        low, high = self._usual
        if low <= rtt <= high:
            self._surprises = 0
        else:
            side = 1 if rtt > high else -1
            self._surprises = self._surprises + side if self._surprises * side >= 0 else side
            if abs(self._surprises) >= STEP_SAMPLES:
                self.steps += len(samples) >= STEP_KNOWN + STEP_SAMPLES
                while len(samples) > STEP_SAMPLES:
                    samples.popleft()
                self._surprises, self._usual, self.jitter = 0, (0.0, math.inf), self._calm_jitter
        ordered = sorted(samples)
        count = len(ordered)
        self.rtt = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
        jitter = max(0.0, ordered[(count * 9 - 1) // 10] - self.rtt)  # nearest rank
        # After a step too few are left to tell: the jitter is not less for that.
        self.jitter = jitter if count >= STEP_KNOWN else max(jitter, self._calm_jitter)
        if not self._surprises and count >= STEP_KNOWN:
            self._calm_jitter = self.jitter
            beyond = self.jitter + max(STEP_MS / 1e3, STEP_FRACTION * self.rtt)
            self._usual = (self.rtt - beyond, self.rtt + beyond)

    def take_fates(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(sent, lost) of our probes and of the peer's since the last call; negative: late after all."""
        fates = (self._out[0], self._out[1]), (self._in[0], self._in[1])
        self._out, self._in = [0, 0], [0, 0]
        return fates

    def loss_out(self, now: float) -> float:
        """Fraction of our probes that the peer did not receive."""
        return self._loss_out.loss(now)

    def loss_in(self, now: float) -> float:
        """Fraction of the peer's probes that we did not receive."""
        return self._loss_in.loss(now)

    def forget(self) -> None:
        """Drop measurements and waiting probes, as after a break; sequences and totals go on."""
        self._outstanding.clear()
        self._rtts.clear()
        self._loss_out.clear()
        self._loss_in.clear()
        self.rtt = self.jitter = 0.0
        self._usual = (0.0, math.inf)
        self._surprises, self._calm_jitter = 0, 0.0
        self._told = None
        self.take_fates()

    def debug_state(self) -> dict[str, object]:
        return {
            "next_sequence": self._next_sequence,
            "outstanding": len(self._outstanding),
            "rtt_samples": len(self._rtts),
            "rtt_ms": self.rtt * 1e3,
            "jitter_ms": self.jitter * 1e3,
            "peer_highest": self._peer_highest,
            "peer_received": self._peer_received,
            "loss_out": self._loss_out.debug_state(),
            "loss_in": self._loss_in.debug_state(),
            "echoes_unmatched": self.echoes_unmatched,
        }
