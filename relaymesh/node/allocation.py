"""Layers for every track that one subscriber plays, within what its path carries.

In: the budget, and for each track its options, cheapest first. Out: one option for
each, or a pause, and the rate at which more would be sent. Audio goes first and is never
left out; then every video gets its cheapest option, those of higher priority first; then
they are raised in turns. A step up must fit with :data:`UP_MARGIN`, one that is taken is
left only when it does not fit any more: noise in the estimate moves nothing. Pure: no time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from relaymesh.node.publications import Track
from relaymesh.node.selector import TOP, LayerChoice

UP_MARGIN = 1.15  # × what a step up costs must fit; rates of layers vary by so much within seconds
WANTED_MARGIN = 1.25  # × what the next step needs is probed for, so that it is found with its margin


@dataclass(frozen=True, slots=True)
class Option:
    """One way to send a track."""

    choice: LayerChoice
    rate_bps: float  # on the wire


@dataclass(frozen=True, slots=True)
class Subscription:
    """One track that is played."""

    key: Hashable
    audio: bool
    options: tuple[Option, ...]  # by rate, the cheapest first; empty: nothing to send
    current: LayerChoice | None = None  # as allocated before
    priority: int = 0  # the higher goes first


@dataclass(slots=True)
class Allocation:
    """The outcome."""

    choices: dict[Hashable, LayerChoice | None] = field(default_factory=dict)
    rate_bps: float = 0.0  # of all that is chosen
    wanted_bps: float = 0.0  # in all, to take the next step; 0: nothing more is wanted


def allocate(budget_bps: float, subscriptions: Sequence[Subscription]) -> Allocation:
    """Choose for all *subscriptions*; infinite budget: the most of each."""
    found = Allocation()
    for audio in (s for s in subscriptions if s.audio):
        found.choices[audio.key] = audio.options[-1].choice if audio.options else None
        found.rate_bps += audio.options[-1].rate_bps if audio.options else 0.0
    videos = sorted((s for s in subscriptions if not s.audio), key=lambda s: -s.priority)
    steps = _cheapest(budget_bps, videos, found)
    _raise(budget_bps, videos, steps, found)
    for video, step in zip(videos, steps, strict=True):
        found.choices[video.key] = video.options[step].choice if step >= 0 else None
    return found


def layer_options(track: Track) -> tuple[Option, ...]:
    """The ways to send *track*, cheapest first, by what its ingress said of its layers.

    Of the cheapest encoding its temporal layers one by one, then its spatial layers with all of their
    pictures, then each dearer encoding whole. Without word of the ingress it is the lowest number.
    """
    if track.muted:
        return ()
    live = [e for e in track.ranked() if track.live(e.number)] or track.ranked()
    if not track.layers:
        return tuple(Option(LayerChoice(encoding.number), 0.0) for encoding in live[:1])
    found: list[Option] = []
    for encoding in live:
        layers = track.layers.get(encoding.number)
        if layers is None:
            continue
        top_spatial, top_temporal = layers.spatial - 1, layers.temporal - 1
        steps = [(spatial, top_temporal) for spatial in range(layers.spatial)] if not found else []
        if not found:
            steps = [(0, temporal) for temporal in range(top_temporal)] + steps
        for spatial, temporal in steps or [(top_spatial, top_temporal)]:
            rate = layers.rates_bps[spatial * layers.temporal + temporal]
            # The highest layer is not named: it may get another one above it.
            choice = LayerChoice(
                encoding.number,
                TOP if spatial == top_spatial else spatial,
                TOP if temporal == top_temporal else temporal,
            )
            if not found or rate > found[-1].rate_bps:
                found.append(Option(choice, float(rate)))
    return tuple(found)


def rate_of(options: Sequence[Option], choice: LayerChoice | None) -> float:
    """What *choice* costs by these options, bit/s; 0 for one that is not among them."""
    return next((option.rate_bps for option in options if option.choice == choice), 0.0)


def _cheapest(budget_bps: float, videos: Sequence[Subscription], found: Allocation) -> list[int]:
    """Give each its cheapest option; −1 for one that does not fit."""
    steps = []
    for video in videos:
        fits = bool(video.options) and (
            found.rate_bps + _cost(video, -1, 0) <= budget_bps or not video.options[0].rate_bps
        )
        if fits:
            found.rate_bps += video.options[0].rate_bps
        elif video.options:
            _want(found, found.rate_bps + video.options[0].rate_bps)
        steps.append(0 if fits else -1)
    return steps


def _raise(budget_bps: float, videos: Sequence[Subscription], steps: list[int], found: Allocation) -> None:
    """Raise each by one step in turns, as long as that fits."""
    open_ones = [place for place, step in enumerate(steps) if step >= 0]
    while open_ones:
        still = []
        for place in open_ones:
            video, step = videos[place], steps[place]
            if step + 1 >= len(video.options):
                continue
            extra = video.options[step + 1].rate_bps - video.options[step].rate_bps
            if found.rate_bps + _cost(video, step, step + 1) <= budget_bps:
                steps[place] += 1
                found.rate_bps += extra
                still.append(place)
            else:
                _want(found, found.rate_bps + extra)
        open_ones = still


def _cost(video: Subscription, step: int, to: int) -> float:
    """What going from one step to another must leave room for: more, where it was not taken before."""
    rate = video.options[to].rate_bps
    before = video.options[step].rate_bps if step >= 0 else 0.0
    taken = _taken_rate(video)
    return rate - before if taken is not None and rate <= taken else rate * UP_MARGIN - before


def _taken_rate(video: Subscription) -> float | None:
    return next((option.rate_bps for option in video.options if option.choice == video.current), None)


def _want(found: Allocation, rate_bps: float) -> None:
    """The least that changes anything is probed for."""
    wanted = rate_bps * WANTED_MARGIN
    found.wanted_bps = wanted if not found.wanted_bps else min(found.wanted_bps, wanted)
