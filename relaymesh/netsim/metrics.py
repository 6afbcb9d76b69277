"""What a run measures: the names, units and meanings of metrics and of series over time.

The tables here are what scenario files are checked against, what runners fill in, and what reports and
``simulations/README.md`` explain. A metric with quantiles is a mapping of them; elsewhere it is named
``metric.quantile``. Nothing here measures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a run."""

    unit: str  # "ms", "fraction", "count", "1/s", "Mbit/s"
    meaning: str
    quantiles: tuple[str, ...] = ()  # () = a plain number
    by_player: bool = False  # can be told for some players only (a scope)


METRICS: dict[str, Metric] = {
    "media_gap_ms": Metric(
        "ms",
        "Per player track and fault: the longest time between two frames that could be shown (video that "
        "is complete and has the frames it needs; every audio packet in order), less the frame interval, "
        "within the fault's window (until 5 s after its end; 10 s after its begin where it does not end). "
        "Quantiles over player tracks and faults; without faults, over the measured time.",
        ("p50", "p99", "max"),
        by_player=True,
    ),
    "excess_gap_ms": Metric(
        "ms",
        "media_gap_ms less what the best way around the fault is longer than the way before it, by the "
        "scenario's delays (link-cut, flap, node-crash): the part that noticing and acting took.",
        ("p50", "p99", "max"),
        by_player=True,
    ),
    "residual_loss": Metric(
        "fraction",
        "Media packets sent while the player was attached that never reached it, of those sent; without "
        "the layers that a short link may leave out.",
        by_player=True,
    ),
    "left_out": Metric(
        "fraction",
        "Media packets of temporal layers above the first that did not reach the player, of those sent.",
        by_player=True,
    ),
    "link_loss": Metric(
        "fraction",
        "Datagrams with media lost on relay links, of those sent into them: the loss before repair.",
    ),
    "added_delay_ms": Metric(
        "ms",
        "Delay of a media packet from publisher to player beyond the propagation delay of the best path "
        "there was at that time. Over all packets; of a scope: the worst player's.",
        ("p50", "p99", "p999"),
        by_player=True,
    ),
    "overhead": Metric(
        "fraction",
        "Bytes on relay links beyond the media's payload bytes on each hop, of those payload bytes.",
    ),
    "route_changes": Metric("count", "Times the path of a stream to an edge changed in the measured time."),
    "plans": Metric("count", "Plans that became active in the measured time."),
    "reroute_ms": Metric(
        "ms",
        "Per fault and path that used a faulty link or node: from the fault's begin until the path avoids "
        "it, or until the fault is over.",
        ("p50", "max"),
    ),
    "loops": Metric("count", "Datagrams dropped because their hop limit ran out or they came back."),
    "duplicates": Metric("count", "Media packets that reached an edge twice though sent once."),
    "path_stretch": Metric(
        "fraction", "True delay of the chosen path over that of the best, less 1; mean over time and streams."
    ),
    "first_frame_ms": Metric(
        "ms",
        "From a player's request (or its publisher's first packet, where that comes later) to its first "
        "complete frame. Players that never had one are missing here: see streams_played.",
        ("p50", "p95", "p99", "max"),
        by_player=True,
    ),
    "frozen_ms": Metric(
        "ms",
        "Per video player track: time the picture stood still, beyond what the frame rate explains.",
        ("p50", "p99", "max"),
        by_player=True,
    ),
    "longest_freeze_ms": Metric(
        "ms",
        "Per video player track: the longest time at once that the picture stood still.",
        ("p50", "p99", "max"),
        by_player=True,
    ),
    "settle_ms": Metric(
        "ms",
        "Per video player track in encodings or spatial layers, and stretch of its stay (they are parted by "
        "the steps of its access link): from the stretch's begin, or the player's request, until the "
        "layer is shown that is shown at the stretch's end.",
        ("p50", "max"),
        by_player=True,
    ),
    "settled_layer": Metric(
        "count",
        "Per such track and stretch: the encoding or spatial layer shown at its end; 0 is the lowest.",
        ("min", "max"),
        by_player=True,
    ),
    "switch_ms": Metric(
        "ms",
        "Per change of a player's video to another encoding or spatial layer that a new keyframe brought: "
        "from the moment its first packet left the publisher until the first picture is whole at the player. "
        "Layers that begin with what a node kept, or by leaving one out, have no such keyframe.",
        ("p50", "p99", "max"),
        by_player=True,
    ),
    "switches": Metric("count", "Such changes, of all players.", by_player=True),
    "relay_mbps": Metric(
        "Mbit/s",
        "Bytes sent into relay links, all of them together, by the second of the measured time.",
        ("min", "p50", "max"),
    ),
    "late_loss": Metric(
        "fraction", "Media packets that came too late to be played, of those sent.", by_player=True
    ),
    "streams_played": Metric(
        "fraction", "Player tracks that played at least one frame, of those wanted.", by_player=True
    ),
    "delay_drift_ms": Metric(
        "ms", "Median added delay of the run's last tenth less that of its first tenth, either sign dropped."
    ),
    "sent_packets": Metric("count", "Media packets sent by publishers."),
    "delivered_packets": Metric("count", "Media packets that reached players."),
}

# What runs report beside these, not bound by expectations: trace_sha256 (text), rtt_ms (link → quantiles),
# packets_per_cpu_s (number).


@dataclass(frozen=True, slots=True)
class Series:
    """One series over time: points [seconds from the start, value], each of the time since the one before."""

    unit: str
    title: str


SERIES: dict[str, Series] = {
    "delay_p50_ms": Series("ms", "One-way delay, median"),
    "delay_p99_ms": Series("ms", "One-way delay, p99"),
    "added_delay_p50_ms": Series("ms", "Added delay, median"),
    "added_delay_p99_ms": Series("ms", "Added delay, p99"),
    "added_delay_p999_ms": Series("ms", "Added delay, p99.9"),
    "link_loss": Series("fraction", "Loss on relay links"),
    "residual_loss": Series("fraction", "Loss at players"),
    "late_loss": Series("fraction", "Too late at players"),
    "gap_ms": Series("ms", "Media gaps (one point each, at its end)"),
    "frozen_players": Series("count", "Players with a frozen picture"),
    "overhead": Series("fraction", "Overhead on relay links"),
    "route_changes": Series("count", "Route changes"),
    "offered_mbps": Series("Mbit/s", "Media sent"),
    "relay_mbps": Series("Mbit/s", "Sent into relay links"),
    "delivered_mbps": Series("Mbit/s", "Media delivered"),
    "players": Series("count", "Players attached"),
}

_QUANTILE = {
    "min": 0.0,
    "p10": 0.10,
    "p50": 0.50,
    "p90": 0.90,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
    "max": 1.0,
}


def metric_names() -> list[str]:
    """Every name an expectation may use: ``loops``, ``media_gap_ms.p99``, …"""
    names = []
    for name, metric in METRICS.items():
        names += [f"{name}.{quantile}" for quantile in metric.quantiles] or [name]
    return names


def quantiles(
    values: Iterable[float], names: tuple[str, ...] = ("p50", "p99", "max")
) -> dict[str, float | None]:
    """The named quantiles of *values* (nearest rank, no interpolation); all None where there are none."""
    ordered = sorted(values)
    if not ordered:
        return dict.fromkeys(names)
    last = len(ordered) - 1
    return {name: ordered[min(last, max(0, ceil(_QUANTILE[name] * len(ordered)) - 1))] for name in names}
