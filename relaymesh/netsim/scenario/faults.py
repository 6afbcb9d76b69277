"""Faults as a scenario file writes them: one model for each kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from relaymesh.netsim.scenario.conditions import BETWEEN, DIRECTION, Conditions, Direction
from relaymesh.netsim.scenario.strict import Fraction, Mbps, Name, Seconds, Span, Strict
from relaymesh.topology.schema import LinkDefaults, PinEntry

MAX_FAULTS = 1000

AT_S: Any = Field(description="When it begins, seconds from the start of the run.")
FOR_S: Any = Field(default=None, description="How long it lasts, seconds. Default: to the end of the run.")


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
