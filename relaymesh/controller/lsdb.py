"""The link-state database: the last report of both ends of every link, and the state that follows.

In: accepted link reports, and whose channel opened or closed. Out: which
directed links changed. A link is up only when both ends say so, and as long as
the end says that finds it longer. A node without a channel keeps its last word,
because losing the controller does not stop its media: then the neighbour's word
decides. Where both ends are silent the link stays as it was for a grace, and is
down after it.
This module knows indexes and measurements; no costs, no keys, no names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from relaymesh.controller.parts import Parts, gathered
from relaymesh.protocol.messages import LinkReport

SILENT_GRACE_S = 60.0  # how long a link is believed in when neither end can speak

Direction: TypeAlias = tuple[int, int]  # from, to


@dataclass(frozen=True, slots=True)
class LinkState:
    """One direction of a link, as its sender (or, failing it, its receiver) measured it."""

    up: bool
    rtt_ms: float
    jitter_ms: float
    loss: float  # fraction lost in this direction


class LinkStateDb:
    """Everybody's last words about their links. An update returns the directions it changed."""

    def __init__(self, silent_grace_s: float = SILENT_GRACE_S) -> None:
        self._silent_grace_s = silent_grace_s
        self._words: dict[Direction, LinkReport] = {}
        self._states: dict[Direction, LinkState] = {}
        self._lost_at: dict[int, float | None] = {}  # of members; None while connected
        self._neighbours: dict[int, set[int]] = {}  # pairs about which anybody ever spoke
        self._next_due: float | None = None

    def handle_connected(self, index: int, *, fresh: bool, now: float) -> set[Direction]:
        """The channel of *index* opened; with a *fresh* boot its earlier words no longer count."""
        self._lost_at[index] = None
        if fresh:
            for other in self._neighbours.get(index, ()):
                self._words.pop((index, other), None)
        return self._judge_all(index, now)

    def handle_disconnected(self, index: int, now: float) -> set[Direction]:
        """The channel of *index* closed."""
        self._lost_at[index] = now
        return self._judge_all(index, now)

    def handle_report(self, sender: int, links: list[LinkReport], now: float) -> set[Direction]:
        """*sender* says this about links of its own."""
        changed: set[Direction] = set()
        for link in links:
            self._words[sender, link.peer] = link
            self._neighbours.setdefault(sender, set()).add(link.peer)
            self._neighbours.setdefault(link.peer, set()).add(sender)
            changed |= self._judge(sender, link.peer, now)
        return changed

    def forget(self, index: int) -> set[Direction]:
        """The node is gone for good; its links, and what was said about them, too."""
        gone: set[Direction] = set()
        for other in self._neighbours.pop(index, set()):
            self._neighbours[other].discard(index)
            gone |= self._forget_pair(index, other)
        self._lost_at.pop(index, None)
        return gone

    def forget_link(self, one: int, other: int) -> set[Direction]:
        """The two are no neighbours any more."""
        self._neighbours.get(one, set()).discard(other)
        self._neighbours.get(other, set()).discard(one)
        return self._forget_pair(one, other)

    def next_timeout(self) -> float | None:
        """Time at which the grace of a silent link may next end."""
        return self._next_due

    def handle_timeout(self, now: float) -> set[Direction]:
        """Take down links whose grace is over."""
        if self._next_due is None or now < self._next_due:
            return set()
        self._next_due = None
        changed: set[Direction] = set()
        for one, other in [ends for ends, state in self._states.items() if state.up]:
            if self._both_silent(one, other):
                changed |= self._judge(one, other, now)
        return changed

    def state(self, direction: Direction) -> LinkState | None:
        """The state of one direction; None when it was never reported."""
        return self._states.get(direction)

    def states(self) -> dict[Direction, LinkState]:
        """All directions, a copy."""
        return dict(self._states)

    def is_reached(self, index: int, counts: Callable[[int], bool] = lambda neighbour: True) -> bool:
        """True when any link of *index* is up: its neighbours speak for it, those that count."""
        return any(
            state.up and counts(other)
            for other in self._neighbours.get(index, ())
            if (state := self._states.get((index, other))) is not None
        )

    def debug_state(self) -> Parts[dict[str, object]]:
        links = yield from gathered((f"{a}>{b}", state.up) for (a, b), state in list(self._states.items()))
        return {
            "links": dict(links),
            "silent": sorted(index for index, lost_at in self._lost_at.items() if lost_at is not None),
        }

    def _judge_all(self, index: int, now: float) -> set[Direction]:
        changed: set[Direction] = set()
        for other in self._neighbours.get(index, ()):
            changed |= self._judge(index, other, now)
        return changed

    def _judge(self, one: int, other: int, now: float) -> set[Direction]:
        up = self._is_up(one, other, now)
        changed: set[Direction] = set()
        for sender, receiver in ((one, other), (other, one)):
            state = self._measured(sender, receiver, up)
            if state is not None and state != self._states.get((sender, receiver)):
                self._states[sender, receiver] = state
                changed.add((sender, receiver))
        return changed

    def _is_up(self, one: int, other: int, now: float) -> bool:
        if not self._both_silent(one, other):
            words = (self._words.get((one, other)), self._words.get((other, one)))
            return all(word is not None and word.up for word in words)
        was = self._states.get((one, other))
        silent_since = max(self._lost_at.get(one) or 0.0, self._lost_at.get(other) or 0.0)
        due = silent_since + self._silent_grace_s
        if was is None or not was.up or now >= due:
            return False
        self._next_due = due if self._next_due is None else min(self._next_due, due)
        return True

    def _both_silent(self, one: int, other: int) -> bool:
        return self._lost_at.get(one) is not None and self._lost_at.get(other) is not None

    def _measured(self, sender: int, receiver: int, up: bool) -> LinkState | None:
        own, mirrored = self._words.get((sender, receiver)), self._words.get((receiver, sender))
        if mirrored is not None and (own is None or self._lost_at.get(sender) is not None):
            # The sender cannot speak; the receiver knows what arrived of the sender's probes.
            return LinkState(up, mirrored.rtt_ms, mirrored.jitter_ms, mirrored.loss_in)
        if own is not None:
            # A round trip is the same from both ends: the worse word counts, so that nobody can
            # draw traffic by saying that its links are short.
            rtt_ms = max(own.rtt_ms, mirrored.rtt_ms) if mirrored is not None and mirrored.up else own.rtt_ms
            return LinkState(up, rtt_ms, own.jitter_ms, own.loss_out)
        return None

    def _forget_pair(self, one: int, other: int) -> set[Direction]:
        gone: set[Direction] = set()
        for direction in ((one, other), (other, one)):
            self._words.pop(direction, None)
            if self._states.pop(direction, None) is not None:
                gone.add(direction)
        return gone
