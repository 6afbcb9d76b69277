"""The scenario file as it is written: format version 1.

These models are the published JSON schema and the first judge of a file: types,
ranges, unknown and missing keys. What one part says about another (names that
must be in the topology, times that cannot be) is judged in
:mod:`relaymesh.netsim.scenario.checks`. What a runner uses is
:class:`~relaymesh.netsim.scenario.resolved.Scenario`.

All times are seconds from the start of the run; all delays are one-way milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from relaymesh.controller.settings import ControllerSettings
from relaymesh.node.settings import NodeSettings
from relaymesh.protocol.ids import NAME_PATTERN
from relaymesh.topology.schema import LinkDefaults, PinEntry, TopologyFile

MAX_PARTICIPANTS = 2000
MAX_FAULTS = 1000
MAX_DURATION_S = 24 * 3600
CONTROLLER = "controller"  # how a partition names it


class Strict(BaseModel):
    """Unknown keys are errors, and text is not a number even if it looks like one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Line = Annotated[str, Field(max_length=128, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Lines = Annotated[str, Field(max_length=4096, pattern=r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$")]
FileName = Annotated[str, Field(min_length=1, max_length=1024)]
Seconds = Annotated[float, Field(ge=0, le=MAX_DURATION_S)]
Span = Annotated[float, Field(gt=0, le=MAX_DURATION_S)]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Mbps = Annotated[float, Field(gt=0, le=1e6)]
Direction = Literal["both", "forward", "backward"]

BETWEEN: Any = Field(min_length=2, max_length=2, description="The two ends: two regions, or two nodes.")
DIRECTION: Any = Field(
    default="both", description="forward: from the first end to the second; backward: the other way."
)
AT_S: Any = Field(description="When it begins, seconds from the start of the run.")
FOR_S: Any = Field(default=None, description="How long it lasts, seconds. Default: to the end of the run.")


# --- links ------------------------------------------------------------------------------------------


class BurstByMean(Strict):
    """Loss in bursts, said by how much and how long."""

    loss: Annotated[float, Field(gt=0, lt=1)] = Field(description="Mean loss, a fraction.")
    mean_burst: Annotated[float, Field(ge=1, le=10_000)] = Field(
        description="Mean number of packets lost in a row."
    )


class BurstByStates(Strict):
    """Loss in bursts, said as a Gilbert–Elliott chain, per packet."""

    p: Annotated[float, Field(ge=0, le=1)] = Field(description="Probability of good → bad.")
    r: Annotated[float, Field(gt=0, le=1)] = Field(description="Probability of bad → good.")
    loss_good: Fraction = 0.0
    loss_bad: Fraction = 1.0


def _burst_shape(value: object) -> str:
    states = isinstance(value, BurstByStates) or (isinstance(value, dict) and ("p" in value or "r" in value))
    return "<by states>" if states else "<by mean>"


Burst = Annotated[
    Annotated[BurstByMean, Tag("<by mean>")] | Annotated[BurstByStates, Tag("<by states>")],
    Discriminator(_burst_shape),
]


class Conditions(Strict):
    """What a link is like; what is left out stays as it is (topology, else the perfect link)."""

    delay_ms: Milliseconds | None = Field(
        default=None, description="One-way delay of a packet that waits in no queue, milliseconds."
    )
    jitter_ms: Milliseconds | None = Field(
        default=None, description="90th percentile of the delay minus its median, milliseconds."
    )
    jitter_order: Literal["keep", "free"] | None = Field(
        default=None, description="Whether jitter may overtake. Default: keep."
    )
    loss: Fraction | None = Field(default=None, description="Random loss, a fraction.")
    burst: Burst | None = Field(default=None, description="Loss in bursts, beside the random one.")
    reorder: Fraction | None = Field(default=None, description="Fraction of packets held back.")
    reorder_ms: Milliseconds | None = Field(default=None, description="How long they are held back.")
    duplicate: Fraction | None = Field(default=None, description="Fraction of packets that arrive twice.")
    rate_mbps: Mbps | None = Field(default=None, description="Rate, megabits per second.")
    queue_ms: Milliseconds | None = Field(
        default=None, description="Bound of the queue before the rate, milliseconds at that rate."
    )
    mtu_bytes: Annotated[int, Field(ge=68, le=65_535)] | None = Field(
        default=None, description="Larger packets are lost."
    )
    trace: FileName | None = Field(
        default=None, description="A mahimahi trace of delivery times instead of a rate; beside this file."
    )

    def changes(self) -> dict[str, Any]:
        """What is given, under the names of ``LinkConditions``: ``rate_bps`` in bits per second,
        ``burst`` as one of the two models above, ``trace`` as the name in the file."""
        names = [name for name in Conditions.model_fields if getattr(self, name) is not None]
        given = {name: getattr(self, name) for name in names}
        if "rate_mbps" in given:
            given["rate_bps"] = given.pop("rate_mbps") * 1e6
        return given


class LinkOverride(Conditions):
    """Conditions of one pair, different from what the topology says."""

    between: list[Name] = BETWEEN
    direction: Direction = DIRECTION


class AccessLink(Conditions):
    """The way between a client and its edge, each direction."""

    delay_ms: Milliseconds | None = Field(default=5.0, description="One-way delay, milliseconds.")


# --- traffic ----------------------------------------------------------------------------------------


class AudioTrack(Strict):
    """A published audio track."""

    kind: Literal["audio"]
    kbps: Annotated[float, Field(ge=6, le=512)] = 32.0
    frame_ms: Literal[10, 20, 40, 60] = 20


class VideoTrack(Strict):
    """A published video track. With layers above 1: simulcast, each a quarter of the rate of the next."""

    kind: Literal["video"]
    kbps: Annotated[float, Field(ge=30, le=50_000)] = Field(
        default=800.0, description="Of the highest layer."
    )
    fps: Annotated[float, Field(ge=1, le=120)] = 30.0
    keyframe_s: Annotated[float, Field(gt=0, le=3600)] | None = Field(
        default=None, description="Keyframe interval, seconds. Default: only when asked for one."
    )
    keyframe_size: Annotated[float, Field(ge=1, le=50)] = Field(
        default=5.0, description="Size of a keyframe, in mean frames."
    )
    layers: Annotated[int, Field(ge=1, le=3)] = 1
    temporal_layers: Annotated[int, Field(ge=1, le=3)] = Field(
        default=1, description="As WebRTC's L1T1 to L1T3; a short link leaves out those above the first."
    )


def _track_shape(value: object) -> str:
    if isinstance(value, str):
        return "<name>"
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "<audio>" if kind == "audio" else "<video>"


Track = Annotated[
    Annotated[Literal["audio", "video"], Tag("<name>")]
    | Annotated[AudioTrack, Tag("<audio>")]
    | Annotated[VideoTrack, Tag("<video>")],
    Discriminator(_track_shape),
]
Publish = Annotated[list[Track], Field(max_length=2)]


def _play_shape(value: object) -> str:
    return "<word>" if isinstance(value, str) else "<names>"


Play = Annotated[
    Annotated[Literal["all", "none"], Tag("<word>")] | Annotated[list[Name], Tag("<names>")],
    Discriminator(_play_shape),
]
PUBLISH: Any = Field(default=[], description="Its tracks, at most one of each kind. Default: none.")
PLAY: Any = Field(
    default="all", description="Whom it plays: all others of the room who publish, none, or names."
)
LEAVE_S: Any = Field(default=None, description="When it leaves. Default: it stays.")


class ParticipantEntry(Strict):
    """One participant of a room."""

    name: Name
    at: Name = Field(description="Its edge: a node, or a region.")
    publish: Publish = PUBLISH
    play: Play = PLAY
    join_s: Seconds = 0.0
    leave_s: Seconds | None = LEAVE_S


class JoinSpan(Strict):
    """Joins spread evenly over a time."""

    from_s: Seconds = 0.0
    to_s: Seconds


class GroupEntry(Strict):
    """Many participants who do the same: ``prefix-1``, ``prefix-2``, …"""

    prefix: Annotated[str, Field(pattern=NAME_PATTERN, max_length=56)]
    count: Annotated[int, Field(ge=1, le=MAX_PARTICIPANTS)]
    at: Annotated[list[Name], Field(min_length=1)] = Field(description="Their edges, taken in turns.")
    publish: Publish = PUBLISH
    play: Play = PLAY
    join: JoinSpan | None = Field(default=None, description="Default: all at the start.")
    leave_s: Seconds | None = LEAVE_S


def _participant_shape(value: object) -> str:
    group = isinstance(value, GroupEntry) or (
        isinstance(value, dict) and ("count" in value or "prefix" in value)
    )
    return "<group>" if group else "<one>"


Participant = Annotated[
    Annotated[ParticipantEntry, Tag("<one>")] | Annotated[GroupEntry, Tag("<group>")],
    Discriminator(_participant_shape),
]


class RoomEntry(Strict):
    """A room and who comes to it."""

    name: Name
    participants: Annotated[list[Participant], Field(min_length=1, max_length=MAX_PARTICIPANTS)]


class Traffic(Strict):
    """Who publishes and plays what, where and when."""

    rooms: Annotated[list[RoomEntry], Field(min_length=1, max_length=1000)]


# --- faults -----------------------------------------------------------------------------------------


class _Fault(Strict):
    at_s: Seconds = AT_S


class _LinkFault(_Fault):
    between: list[Name] = BETWEEN
    direction: Direction = DIRECTION


class LinkCut(_LinkFault):
    """A link carries nothing."""

    kind: Literal["link-cut"]
    for_s: Span | None = FOR_S


class Flap(_LinkFault):
    """A link that goes down again and again: ``down_s`` of each ``period_s``."""

    kind: Literal["flap"]
    period_s: Span
    down_s: Span
    until_s: Seconds | None = Field(default=None, description="Default: to the end of the run.")


class BrownOut(_LinkFault):
    """A link whose rate falls."""

    kind: Literal["brown-out"]
    mbps: Mbps | None = Field(default=None, description="The rate that is left. Either this or factor.")
    factor: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="The part that is left of the link's own rate."
    )
    for_s: Span | None = FOR_S


class ConditionsChange(_LinkFault, Conditions):
    """Any change of a link's conditions, at once or slowly."""

    kind: Literal["conditions"]
    ramp_s: Span | None = Field(
        default=None, description="Numbers go from what they are to what they shall be over this time."
    )
    for_s: Span | None = FOR_S


class BurstLoss(_LinkFault):
    """A link that loses packets in bursts (Gilbert–Elliott)."""

    kind: Literal["burst-loss"]
    loss: Annotated[float, Field(gt=0, lt=1)]
    mean_burst: Annotated[float, Field(ge=1, le=10_000)]
    for_s: Span | None = FOR_S


class LinkEdit(LinkDefaults):
    """What a link shall be like to the controller; the network below stays as it is."""

    between: list[Name] = BETWEEN


class Partition(_Fault):
    """The links between groups carry nothing; whoever is in no group keeps all links."""

    kind: Literal["partition"]
    groups: Annotated[list[Annotated[list[Name], Field(min_length=1)]], Field(min_length=2)] = Field(
        description="Regions or nodes; 'controller' stands for the controller."
    )
    for_s: Span | None = FOR_S


class NodeCrash(_Fault):
    """A node dies without a word."""

    kind: Literal["node-crash"]
    node: Name
    restart_after_s: Span | None = Field(default=None, description="Default: it stays dead.")


class ControllerCrash(_Fault):
    """The controller dies without a word."""

    kind: Literal["controller-crash"]
    restart_after_s: Span | None = Field(default=None, description="Default: it stays dead.")


class StoreOutage(_Fault):
    """The store that several controllers share does not answer."""

    kind: Literal["store-outage"]
    for_s: Span | None = FOR_S


class ClockSkew(_Fault):
    """A node's clock is off, and runs at another speed."""

    kind: Literal["clock-skew"]
    node: Name
    offset_s: Annotated[float, Field(ge=-1e6, le=1e6)] = 0.0
    drift_ppm: Annotated[float, Field(ge=-1000, le=1000)] = 0.0


class DropControl(_Fault):
    """Control messages between controller and node are lost, each with this probability."""

    kind: Literal["drop-control"]
    fraction: Fraction
    node: Name | None = Field(default=None, description="Default: every node.")
    for_s: Span | None = FOR_S


class ApplyTopology(_Fault):
    """The operator edits the mesh: from now on the scenario's topology holds with these changes."""

    kind: Literal["apply-topology"]
    links: Annotated[list[LinkEdit], Field(max_length=1000)] = Field(
        default=[], description="Keys of links that are others now."
    )
    pins: Annotated[list[PinEntry], Field(max_length=1000)] | None = Field(
        default=None, description="Instead of the topology's own."
    )


class PlanChanges(_Fault):
    """The operator edits the mesh again and again: other costs, pins, forbidden pairs, at random."""

    kind: Literal["plan-changes"]
    count: Annotated[int, Field(ge=1, le=100_000)]
    every_s: Annotated[float, Field(ge=0.01, le=3600)] = Field(description="From one edit to the next.")


LinkFault = LinkCut | Flap | BrownOut | ConditionsChange | BurstLoss
AnyFault = (
    LinkFault
    | Partition
    | NodeCrash
    | ControllerCrash
    | StoreOutage
    | ClockSkew
    | DropControl
    | ApplyTopology
    | PlanChanges
)
Fault = Annotated[AnyFault, Field(discriminator="kind")]
FAULTS: tuple[type[Strict], ...] = get_args(AnyFault)


# --- what must hold ---------------------------------------------------------------------------------


class Scope(Strict):
    """Which players an expectation speaks of."""

    room: Name | None = None
    kind: Literal["audio", "video"] | None = None
    fault: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Index in 'faults': gaps of that fault's window only."
    )
    affected: bool = Field(
        default=False, description="Gaps only of tracks whose path used what the fault broke, when it began."
    )


class Expectation(Strict):
    """A bound on one metric; at least one of max, min, equals."""

    metric: str
    max: float | None = None
    min: float | None = None
    equals: float | None = None
    scope: Scope | None = None


class ExpectedFail(Strict):
    """What is known not to hold yet."""

    reason: Line
    metrics: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="Only these may fail; default: any."
    )


# --- the whole --------------------------------------------------------------------------------------


class Settings(Strict):
    """Settings of the controller or the nodes that are not their defaults."""

    probe_interval_ms: Annotated[float, Field(ge=5, le=10_000)] | None = None
    dead_after_ms: Annotated[float, Field(ge=10, le=60_000)] | None = None
    report_interval_ms: Annotated[float, Field(ge=10, le=60_000)] | None = None
    key_rotation_s: Annotated[float, Field(ge=10)] | None = None
    max_sessions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    hitless: Literal["none", "audio", "all"] | None = Field(
        default=None, description="Which tracks travel twice over disjoint paths."
    )

    def controller(self) -> dict[str, Any]:
        """What is given of the controller's settings, by name."""
        return self._given(ControllerSettings)

    def node(self) -> dict[str, Any]:
        """What is given of a node's settings, by name."""
        return self._given(NodeSettings)

    def _given(self, settings: type[BaseModel]) -> dict[str, Any]:
        values = self.model_dump(exclude_none=True)
        return {name: value for name, value in values.items() if name in settings.model_fields}


class ControllerEntry(Strict):
    """Where the controller stands."""

    at: Name = Field(description="A node or region; its control channels take the shortest way through it.")
    standbys: Annotated[int, Field(ge=0, le=4)] = Field(
        default=0,
        description="So many more controllers at the same place, which share a store with it; a crash "
        "is the leader's. In simulate only.",
    )


class UnderlayEntry(Strict):
    """The network below the mesh: its shortest paths take the place of the topology's links."""

    file: FileName = Field(
        description="A graph of routers: GraphML, containerlab, NetJSON or a topology, relative to this file."
    )
    places: dict[Name, Name] = Field(
        default={},
        description="Where a region or node stands: its name, and a node of the graph. Default: at the "
        "one of its own name; a node with its region.",
    )
    stretch: Annotated[float, Field(ge=1, le=100)] = Field(
        default=1.5, description="How much longer fibre is than the great circle, where a link has no delay."
    )


def _topology_shape(value: object) -> str:
    return "<file>" if isinstance(value, str) else "<inline>"


class ScenarioFile(Strict):
    """A mesh, what happens in it, and what must hold."""

    version: Literal[1]
    name: Name
    title: Line | None = Field(default=None, description="What people call it.")
    description: Lines | None = None
    topology: Annotated[
        Annotated[FileName, Tag("<file>")] | Annotated[TopologyFile, Tag("<inline>")],
        Discriminator(_topology_shape),
    ] = Field(description="A topology file, relative to this one, or a topology itself.")
    underlay: UnderlayEntry | None = None
    duration_s: Span
    warmup_s: Seconds = Field(default=5.0, description="Joins and probes settle; measuring begins after it.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    controller: ControllerEntry | None = Field(
        default=None, description="Default: in the topology's first region."
    )
    settings: Settings = Settings()
    traffic: Traffic
    links: Annotated[list[LinkOverride], Field(max_length=65_536)] = []
    access: AccessLink = AccessLink()
    faults: Annotated[list[Fault], Field(max_length=MAX_FAULTS)] = []
    expect: Annotated[list[Expectation], Field(max_length=200)] = []
    expected_fail: ExpectedFail | None = None
