"""The liveness of one neighbour: up or down, when to probe, and how silence is judged.

In: when something was sent, heard or echoed, what the link measures, ``now``. Out: whether a probe is
due, when to look again, and the reason when the link is dead. Knows no frames: the link sends and reads them.
"""

from __future__ import annotations

import math
from typing import Literal

from relaymesh.protocol.silence import Filling, Silence

ECHO_PATIENCE = 3  # × dead_after: only for a path that died in one direction, which the peer sees sooner


class Liveness:
    """Both directions of one link; all times in seconds. ``rtt`` is that of the link at the time."""

    def __init__(self, probe_interval: float, dead_after: float) -> None:
        self.up = False
        self.deaf = False  # down because nothing is heard: the peer is told in probes
        self.probe_due = False
        self.next_probe_at: float | None = None  # None before the first key
        self.sent_at = -math.inf  # the last datagram sealed; set by the link, on its packet path
        self.heard_at = 0.0  # the last accepted datagram; meaningful while up
        self._echoed_at = -math.inf  # the last echo of ours; -inf = none yet
        self._awake_at = -math.inf  # from when on what the peer says of our silence is not our own sleep
        self._probe_interval = probe_interval
        self._dead_after = dead_after
        self._silence = Silence(probe_interval, dead_after)
        self._least_silence = self._silence.least
        self._filling = Filling(probe_interval)

    # --- what is heard ---------------------------------------------------------------------------

    def handle_heard(self, now: float) -> None:
        """A datagram was accepted."""
        if self._echoed_at > -math.inf:  # before the link was first up, pauses mean nothing
            self._silence.handle_pause(now - self.heard_at)
        self.heard_at = now
        self.deaf = False

    def handle_echo(self, now: float) -> bool:
        """An echo of ours came back; True when the link is up by that and was not before."""
        self._echoed_at = now
        came_up = not self.up
        self.up = True
        return came_up

    def believes_deaf(self, now: float) -> bool:
        """Tell whether the link is down because the peer says that it hears nothing: not if we slept."""
        due = self.next_probe_at
        late = due is not None and now - due > self._probe_interval
        return self.up and now >= self._awake_at and not late

    def handle_down(self) -> None:
        """The link went down, for whatever reason."""
        self.up = False

    # --- time ------------------------------------------------------------------------------------

    def due(self, rtt: float) -> float:
        """The time at which there is something to do; only once there is a key."""
        assert self.next_probe_at is not None, "there is a key"
        due = self.next_probe_at
        if self.up:
            # Asked for each packet: what _fill_at() and _unheard_at() say.
            if (at := self.sent_at + self._filling.longest) < due:
                due = at
            if (at := self._echoed_at + ECHO_PATIENCE * self._dead_after + rtt) < due:
                due = at
            # Asked for each packet; the next probe nearly always comes first, whatever the threshold is.
            if self.heard_at + self._least_silence < due:
                due = min(due, self._silent_at())
        return due

    def handle_wake(self, rtt: float, now: float) -> bool:
        """Tell whether something is due. When this comes late, silence meanwhile was our own sleep."""
        if self.next_probe_at is None:
            return False
        late = now - self.due(rtt)
        if late < 0.0:
            return False
        if late > self._probe_interval:
            self._awake_at = now + self._dead_after
            # We slept: what the peer sent meanwhile may still wait in our socket.
            self.heard_at = min(now, self.heard_at + late)
            self._echoed_at = min(now, self._echoed_at + late)
        return True

    def handle_interval(self, *, loss_in: float, jitter: float, media_packets: int, now: float) -> None:
        """A probe interval is over (:attr:`next_probe_at` has come); *loss_in* and *jitter* were measured."""
        assert self.next_probe_at is not None, "there is a key"
        self.probe_due = True
        self._silence.handle_loss(loss_in)
        self._silence.handle_jitter(jitter)
        self._filling.handle_interval(media_packets, now)
        self.next_probe_at += self._probe_interval
        if self.next_probe_at <= now:  # skip what was missed: no burst
            self.next_probe_at = now + self._probe_interval

    def fill(self, now: float) -> None:
        """Make a probe due where we were silent for so long that the peer might wonder."""
        if self.up and now >= self._fill_at():
            self.probe_due = True
            self._filling.handle_filled(now)

    def judge(self, rtt: float, now: float) -> Literal["silent", "unheard"] | None:
        """The reason why the link, up until now, is dead."""
        if not self.up:
            return None
        if now >= self._silent_at():
            self.deaf = self.probe_due = True  # the path may have died in one direction only
            return "silent"
        return "unheard" if now >= self._unheard_at(rtt) else None

    def _fill_at(self) -> float:
        return self.sent_at + self._filling.longest

    def _silent_at(self) -> float:
        return self.heard_at + self._silence.threshold

    def _unheard_at(self, rtt: float) -> float:
        return self._echoed_at + ECHO_PATIENCE * self._dead_after + rtt

    def debug_state(self) -> dict[str, object]:
        return {
            "up": self.up,
            "heard_at": self.heard_at,
            "silence": {**self._silence.debug_state(), **self._filling.debug_state()},
            "echoed_at": self._echoed_at,
            "next_probe_at": self.next_probe_at,
            "probe_due": self.probe_due,
        }
