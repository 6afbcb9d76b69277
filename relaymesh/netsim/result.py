"""The result of one run as data: what was measured, what had to hold, and the verdict.

Its JSON is what ``--json`` prints and what reports are made of. How it comes about is in
:mod:`relaymesh.netsim.judge`; nothing here computes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Mode = Literal["simulate", "emulate"]
Outcome = Literal["passed", "failed", "expected-fail", "unexpected-pass", "invalid"]
Metrics = dict[str, Any]
Points = list[tuple[float, float]]


class PlayerTrack(msgspec.Struct, kw_only=True):
    """One track as one player had it."""

    room: str
    publisher: str
    player: str
    kind: Literal["audio", "video"]
    ingress: str  # node of the publisher
    edge: str  # node of the player
    sent: int  # packets the publisher sent in the measured time while the player was attached
    lost: int  # of those: never reached it
    enhancement: int = 0  # packets sent in layers that a short link may leave out
    left_out: int = 0  # of those, that never arrived
    late: int = 0  # of those: came too late to be played
    frozen_ms: float = 0.0  # video only
    longest_freeze_ms: float = 0.0  # video only
    freezes: list[tuple[float, float]] = []  # s: from, to; the first some hundred
    layers: list[tuple[float, int, int]] = []  # s, encoding, spatial layer: what was shown from then on
    switches: list[tuple[float, float]] = []  # s, ms: when another layer was shown; from its keyframe to here
    stretches: list[tuple[float, float]] = []  # s: from, to; its stay, parted by the steps of its access link
    first_frame_ms: float | None = None  # None: it never played a frame
    gaps_ms: list[float | None] = []  # one for each of the run's windows; None: not attached then
    longer_ms: list[float] = []  # of each: what the best way around the fault is longer; none = 0
    added_delay_ms: dict[str, float | None] = {}  # p50, p99, p999
    delay_ms: dict[str, float | None] = {}  # p50, p99: publisher to player


class Check(msgspec.Struct, kw_only=True):
    """One thing that must hold; *value* and *bound* are for people, *passed* is the verdict."""

    name: str
    value: float | None  # None: was not measured
    bound: str
    passed: bool
    may_fail: bool = False  # the scenario says it is known not to hold yet


class Event(msgspec.Struct, kw_only=True):
    """Something that happened, for people."""

    t: float  # seconds from the start
    what: str
    kind: Literal["fault", "route", "join", "info"] = "info"


class PathChange(msgspec.Struct, kw_only=True):
    """From *t* on the stream goes to the edge this way."""

    t: float
    stream: str  # room/participant
    edge: str
    path: list[str]  # nodes from ingress to edge; [] = there is no way


class FaultWindow(msgspec.Struct, kw_only=True):
    """When a fault shows; see :class:`~relaymesh.netsim.scenario.timeline.Window`."""

    fault: int
    kind: str
    what: str
    start_s: float
    end_s: float
    until_s: float
    links: list[tuple[str, str]] = []  # directed, those the fault is on
    nodes: list[str] = []


class Result(msgspec.Struct, kw_only=True):
    """One run."""

    scenario: str
    title: str = ""
    description: str = ""
    mode: Mode = "simulate"
    seed: int = 1
    overrides: dict[str, str] = {}
    duration_s: float = 0.0
    warmup_s: float = 0.0
    passed: bool = False  # every check holds
    valid: bool = True  # the run itself can be trusted (emulate: lateness)
    invalid_reason: str | None = None
    expected_fail: str | None = None  # the reason
    outcome: Outcome = "failed"
    checks: list[Check] = []
    metrics: Metrics = {}
    series: dict[str, Points] = {}
    events: list[Event] = []
    paths: list[PathChange] = []
    windows: list[FaultWindow] = []
    players: list[PlayerTrack] = []
    topology: dict[str, Any] = {}
    replay: str = ""  # the command that repeats this run

    def to_json(self, *, indent: int = 0) -> str:
        """The result as JSON text."""
        text = msgspec.json.encode(self)
        return (msgspec.json.format(text, indent=indent) if indent else text).decode()


def result_from_json(text: str | bytes) -> Result:
    """The result that *text* holds. Raises ``msgspec.DecodeError`` (a ``ValueError``) for anything else."""
    return msgspec.json.decode(text, type=Result)
