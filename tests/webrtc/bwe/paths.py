"""Flows over emulated access paths, and players that choose layers by the shipping allocation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from relaymesh.bench.access_path import AUDIO_BPS, Flow, FlowSettings, Path, follow_estimate
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.node.allocation import Layer, LayerChoice, Subscription, allocate

LAYERS = tuple(Layer(i, 0, 2, rate) for i, rate in enumerate((100e3, 400e3, 1500e3)))


def path(rtt_ms: float, rate_bps: float | None, seed: int = 1, **conditions: Any) -> Path:
    conditions = {"queue_ms": 300.0, **conditions}
    forth = LinkConditions(delay_ms=rtt_ms / 2, rate_bps=rate_bps, **conditions)
    return Path(LinkModel(forth, random.Random(seed)))


def back(rtt_ms: float, seed: int = 1, **conditions: Any) -> LinkModel:
    return LinkModel(LinkConditions(delay_ms=rtt_ms / 2, **conditions), random.Random(seed + 100))


def elastic(on: Path, rtt_ms: float, seed: int = 1, most_bps: float = 8e6, **settings: Any) -> Flow:
    loss = on.forth.conditions.loss
    return Flow(on, back(rtt_ms, seed, loss=loss), follow_estimate(most_bps), FlowSettings(**settings), seed)


class Player:
    """A subscriber of one voice and one video of three layers."""

    def __init__(self, on: Path, rtt_ms: float, seed: int = 1, layers: Sequence[Layer] = LAYERS) -> None:
        self.layers = layers
        self.choice: LayerChoice | None = None
        self.steps: list[tuple[float, int]] = []  # since when, which layer; −1: paused
        self.flow = Flow(on, back(rtt_ms, seed), self._offer, FlowSettings(), seed)

    def _offer(self, flow: Flow, now: float) -> float:
        audio = Subscription("voice", "audio", (Layer(0, 0, 0, AUDIO_BPS),))
        video = Subscription("video", "video", self.layers, current=self.choice)
        found = allocate(flow.estimator.estimate_bps, [audio, video])
        self.choice = found.choices["video"]
        flow.estimator.set_wanted(found.wanted_bps, now, paused=found.paused)
        level = -1 if self.choice is None else self.choice.encoding
        if not self.steps or self.steps[-1][1] != level:
            self.steps.append((now, level))
        return 0.0 if level < 0 else self.layers[level].rate_bps

    def settled(self, level: int, start: float, end: float) -> float:
        """Seconds from *start* until the player stays on *level* to *end*; infinite when it does not."""
        if [got for at, got in self.steps if at < end][-1] != level:
            return float("inf")
        last = [at for at, _ in self.steps if at < end][-1]
        return max(0.0, last - start)
