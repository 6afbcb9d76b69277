"""Checks that media really crossed the mesh: from observations to verdicts with bounds.

In: an :class:`Evidence`: the reports of publisher and player, and the state of the mesh, collected while it
ran. Out: checks and metrics of plain values. A pure function of its input.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from typing import Any

Report = dict[str, Any]

MIN_WINDOW_MS = 2000
DECODED_FRACTION = 0.95
AUDIO_FRACTION = 0.9
AUDIO_FRAMES_PER_S = 50  # Opus frames of 20 ms
WANTED_HOPS = 2


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold; *value* and *bound* are for people, *passed* is the verdict."""

    name: str
    value: object
    bound: str
    passed: bool


@dataclass(slots=True)
class Evidence:
    """Observations made while the demo ran."""

    ingress: str  # titles of the regions, for the checks' names
    edge: str
    path_delay_ms: float  # one way, emulated; nothing that crossed the mesh can be faster
    published: list[Report] = field(default_factory=list)  # the publisher's reports, in order
    played: list[Report] = field(default_factory=list)  # the player's
    paths: list[tuple[str, ...]] = field(
        default_factory=list
    )  # the player's path at each look, by the controller
    forwarded: dict[str, list[int]] = field(default_factory=dict)  # node → packets passed on, at each look


def judge(evidence: Evidence) -> list[Check]:
    """All checks, in the order a person would ask them."""
    window = _window(evidence)
    return [
        _decoded(evidence, window),
        _audio(evidence, window),
        _path(evidence),
        _transit(evidence),
        _latency(evidence),
    ]


def verdict(evidence: Evidence, startup_s: float) -> dict[str, object]:
    """``{"passed", "checks", "metrics"}``, as ``--json`` prints it."""
    checks = judge(evidence)
    return {
        "passed": all(check.passed for check in checks),
        "checks": [asdict(check) for check in checks],
        "metrics": metrics(evidence) | {"startup_s": round(startup_s, 2)},
    }


def metrics(evidence: Evidence) -> dict[str, object]:
    """Numbers without a bound."""
    last = evidence.played[-1] if evidence.played else {}
    names = ("frames_decoded", "frames_distinct", "frames_lost", "frames_repeated", "frames_unreadable")
    more = ("first_frame_ms", "latency", "gaps_over_200ms", "longest_gap_ms", "audio_frames")
    return {
        "frames_published": evidence.published[-1]["frames"] if evidence.published else 0,
        **{name: last.get(name) for name in names + more},
        "path": list(evidence.paths[-1]) if evidence.paths else [],
        "path_delay_ms": evidence.path_delay_ms,
        "forwarded_packets": {node: counts[-1] for node, counts in evidence.forwarded.items() if counts},
    }


def _window(evidence: Evidence) -> tuple[Report, Report] | None:
    """The player's first report with a picture and its last one, if they are far enough apart."""
    seen = [report for report in evidence.played if report["frames_distinct"]]
    if not seen or seen[-1]["at_ms"] - seen[0]["at_ms"] < MIN_WINDOW_MS:
        return None
    return seen[0], seen[-1]


def _decoded(evidence: Evidence, window: tuple[Report, Report] | None) -> Check:
    name = f"frames decoded in {evidence.edge}, {WANTED_HOPS} hops from {evidence.ingress}"
    bound = f"≥ {DECODED_FRACTION:.0%} of the published"
    if window is None or len(evidence.published) < 2:
        return Check(name, "no media", bound, False)
    first, last = window
    decoded = last["frames_distinct"] - first["frames_distinct"]
    published = _frames_at(evidence.published, last["at_ms"]) - _frames_at(evidence.published, first["at_ms"])
    if published < 1:
        return Check(name, "nothing was published", bound, False)
    # Reports fall between two frames: the count may be off by one at either end.
    fraction = min(1.0, (decoded + 1) / published)
    return Check(
        name, f"{decoded} of {round(published)} ({fraction:.1%})", bound, fraction >= DECODED_FRACTION
    )


def _frames_at(reports: list[Report], at_ms: float) -> float:
    """Estimate the frames published by *at_ms*, between two reports by their mean rate."""
    times = [report["at_ms"] for report in reports]
    right = min(max(1, bisect_left(times, at_ms)), len(reports) - 1)
    before, after = reports[right - 1], reports[right]
    span = max(1, after["at_ms"] - before["at_ms"])
    share = (at_ms - before["at_ms"]) / span
    return float(before["frames"] + (after["frames"] - before["frames"]) * share)


def _audio(evidence: Evidence, window: tuple[Report, Report] | None) -> Check:
    name = f"audio frames decoded in {evidence.edge}"
    if window is None:
        return Check(name, 0, "≥ 1", False)
    first, last = window
    expected = (last["at_ms"] - first["at_ms"]) / 1000 * AUDIO_FRAMES_PER_S
    frames = last["audio_frames"] - first["audio_frames"]
    enough = round(expected * AUDIO_FRACTION)
    return Check(name, frames, f"≥ {enough}", frames >= enough)


def _path(evidence: Evidence) -> Check:
    name = "hops on the path, as the controller planned it"
    hops = max((len(path) - 1 for path in evidence.paths), default=0)
    longest = max(evidence.paths, key=len, default=())
    value = f"{hops} ({' → '.join(longest)})" if longest else "no path"
    return Check(name, value, f"≥ {WANTED_HOPS}", hops >= WANTED_HOPS)


def _transit(evidence: Evidence) -> Check:
    """The nodes between the ends, on the path that was seen, counted what they passed on."""
    name = "packets passed on by the transit node, by its own count"
    longest = max(evidence.paths, key=len, default=())
    counts = {node: evidence.forwarded.get(node, []) for node in longest[1:-1]}
    moved = {node: seen[-1] - seen[0] if seen else 0 for node, seen in counts.items()}
    least = min(moved.values(), default=0)
    # At the very least one packet for each decoded picture went through it.
    bound = max(1, evidence.played[-1]["frames_distinct"] if evidence.played else 1)
    value = ", ".join(f"{node}: {count}" for node, count in moved.items()) or "no transit node"
    return Check(name, value, f"≥ {bound}", least >= bound)


def _latency(evidence: Evidence) -> Check:
    name = "from drawing to decoding, the fastest picture"
    latency = evidence.played[-1].get("latency") if evidence.played else None
    bound = f"≥ {evidence.path_delay_ms:g} ms, the links' delay"
    if not latency:
        return Check(name, "no media", bound, False)
    return Check(name, f"{latency['min_ms']:g} ms", bound, latency["min_ms"] >= evidence.path_delay_ms)
