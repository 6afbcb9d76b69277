"""One subscriber's bandwidth, shared out among what it subscribes to. PURE: no clock, no sockets.

In: a budget in bit/s (the estimate), and for each subscription what its track sends now: layers with
their rates, the most that is wanted (viewport), priority, what is forwarded at present. Out: for each
subscription the layer to forward, or none, and the rate that would be used next
(:attr:`Allocation.wanted_bps`), for the estimator to probe for.

Audio is granted first, and always. Then every video gets its lowest layer, by priority; then layers rise one
step at a time, round-robin within a priority, higher priorities first. A video whose lowest layer does not
fit is paused. Hysteresis: a layer above the present one needs :data:`UPGRADE_MARGIN` × the
whole rate it would lead to; falling back needs no margin and happens at once. So noise of the
estimate smaller than the margin moves nothing but down, and what went down returns only with the margin.

Rates of layers must be counted as the budget is: on the wire (see ``relaymesh.webrtc.bwe``).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from relaymesh.node.selector import LayerChoice

UPGRADE_MARGIN = 1.12  # more than the factor of 1.105 that noise of ±5 % of the estimate spans

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Layer:
    """Something that can be forwarded of a track, live now."""

    encoding: int
    spatial: int
    temporal: int
    rate_bps: float  # in all, with the layers it needs

    @property
    def choice(self) -> LayerChoice:
        """The layer without its rate, which changes."""
        return LayerChoice(self.encoding, self.spatial, self.temporal)


@dataclass(frozen=True, slots=True)
class Subscription(Generic[Key]):
    """One track that a subscriber takes."""

    key: Key
    kind: Literal["audio", "video"]
    layers: Sequence[Layer]  # live now, from the least rate to the most
    priority: int = 0  # higher first
    max_layer: int | None = None  # the highest index in `layers` that is wanted; None: all
    muted: bool = False
    current: LayerChoice | None = None  # forwarded now


@dataclass(frozen=True, slots=True)
class Allocation(Generic[Key]):
    """Who gets what."""

    choices: dict[Key, LayerChoice | None]  # None: paused, or there is nothing
    used_bps: float
    wanted_bps: (
        float  # the estimate at which one more step would be taken; used_bps when nothing more is wanted
    )
    paused: bool = False  # a video found no room at all


class _Video(Generic[Key]):
    """A video while it is shared out."""

    __slots__ = ("index", "layers", "present", "subscription")

    def __init__(self, subscription: Subscription[Key]) -> None:
        self.subscription = subscription
        count = len(subscription.layers)
        most = count if subscription.max_layer is None else min(count, max(0, subscription.max_layer) + 1)
        self.layers = subscription.layers[:most]
        self.index = -1  # granted; −1: paused
        # Up to here no margin is needed. A layer that ended counts as the lowest: something was seen.
        self.present = -1
        if subscription.current is not None:
            self.present = 0
            for index, layer in enumerate(self.layers):
                if layer.choice == subscription.current:
                    self.present = index
            if subscription.max_layer is not None and any(
                layer.choice == subscription.current for layer in subscription.layers[most:]
            ):
                self.present = most - 1  # less is wanted than is forwarded

    @property
    def step_bps(self) -> float | None:
        """What the next layer costs beyond this one; None where there is none."""
        if self.index + 1 >= len(self.layers):
            return None
        rate = self.layers[self.index].rate_bps if self.index >= 0 else 0.0
        return max(0.0, self.layers[self.index + 1].rate_bps - rate)

    def needed_bps(self, used_bps: float) -> float | None:
        """The budget that the next step needs, when *used_bps* are granted; None where there is no step."""
        step = self.step_bps
        if step is None:
            return None
        return (used_bps + step) * (1.0 if self.index < self.present else UPGRADE_MARGIN)


def allocate(budget_bps: float, subscriptions: Sequence[Subscription[Key]]) -> Allocation[Key]:
    """Share *budget_bps* out among *subscriptions*; keys are distinct."""
    choices: dict[Key, LayerChoice | None] = {}
    used = 0.0
    videos: list[_Video[Key]] = []
    for subscription in subscriptions:
        choices[subscription.key] = None
        if subscription.muted or not subscription.layers:
            continue
        if subscription.kind == "audio":
            layer = subscription.layers[-1]
            choices[subscription.key] = layer.choice
            used += layer.rate_bps
        else:
            videos.append(_Video(subscription))
    videos.sort(key=lambda video: -video.subscription.priority)  # stable: else in the order given
    used, refused = _grant(videos, used, budget_bps)
    for video in videos:
        if video.index >= 0:
            choices[video.subscription.key] = video.layers[video.index].choice
    paused = any(video.index < 0 and video.layers for video in videos)
    return Allocation(choices, used, used if refused is None else refused, paused)


def _grant(videos: Sequence[_Video[Key]], used: float, budget_bps: float) -> tuple[float, float | None]:
    """Raise each of *videos* as far as the budget goes; the bit/s used, and the budget the next needs.

    The first step that does not fit ends the sharing: a cheaper one of lower priority does not overtake it,
    because it would have to give way as soon as the budget grew.
    """
    for video in videos:  # everybody's lowest first
        need = video.needed_bps(used)
        if need is None:
            continue
        if need > budget_bps:
            return used, need
        used += video.step_bps or 0.0
        video.index = 0
    priorities = sorted({video.subscription.priority for video in videos}, reverse=True)
    for priority in priorities:
        rising = [video for video in videos if video.subscription.priority == priority]
        while rising:
            for video in list(rising):
                need = video.needed_bps(used)
                if need is None:
                    rising.remove(video)
                elif need > budget_bps:
                    return used, need
                else:
                    used += video.step_bps or 0.0
                    video.index += 1
    return used, None
