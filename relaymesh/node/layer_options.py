"""The ways to send one track to one player, cheapest first, from what its ingress says of its layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from relaymesh.node.allocation import Layer
from relaymesh.node.publications import Track
from relaymesh.node.selector import TOP, LayerChoice


def layer_options(track: Track, avoid: Collection[int] = (), *, flat: bool = False) -> tuple[Layer, ...]:
    """The ways to send *track*, cheapest first, by what its ingress said of its layers.

    Of the cheapest encoding its temporal layers one by one, then its spatial layers with all of their
    pictures, then each dearer encoding whole. Without word of the ingress it is the lowest number.
    *avoid*: numbers of encodings that do not get through, to be taken only where there is no other.
    *flat*: the player can put no spatial layers together, and gets the lowest alone.
    """
    if track.muted:
        return ()
    live = [e for e in track.ranked() if track.live(e.number)] or track.ranked()
    live = [e for e in live if e.number not in avoid] or live[:1]
    if not track.layers:
        return tuple(Layer(encoding.number, 0 if flat else TOP, TOP, 0.0) for encoding in live[:1])
    found: list[Layer] = []
    for encoding in live:
        layers = track.layers.get(encoding.number)
        if layers is None:
            continue
        top_spatial, top_temporal = 0 if flat else layers.spatial - 1, layers.temporal - 1
        steps = [(spatial, top_temporal) for spatial in range(top_spatial + 1)] if not found else []
        if not found:
            steps = [(0, temporal) for temporal in range(top_temporal)] + steps
        for spatial, temporal in steps or [(top_spatial, top_temporal)]:
            rate = layers.rates_bps[spatial * layers.temporal + temporal]
            # The highest layer is not named: it may get another one above it.
            layer = Layer(
                encoding.number,
                TOP if spatial == top_spatial and not flat else spatial,
                TOP if temporal == top_temporal else temporal,
                float(rate),
            )
            if not found or rate > found[-1].rate_bps:
                found.append(layer)
    return tuple(found)


def rate_of(options: Sequence[Layer], choice: LayerChoice | None) -> float:
    """What *choice* costs by these options, bit/s; 0 for one that is not among them."""
    return next((option.rate_bps for option in options if option.choice == choice), 0.0)
