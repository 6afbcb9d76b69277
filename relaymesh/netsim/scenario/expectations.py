"""What must hold after a run, as a scenario file writes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from relaymesh.netsim.scenario.strict import Line, Name, Seconds, Strict


class Scope(Strict):
    """Which players, or which part of the run, an expectation speaks of."""

    room: Name | None = None
    kind: Literal["audio", "video"] | None = None
    player: Name | None = Field(default=None, description="A participant, or a group by its prefix.")
    step: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Of settle_ms, settled_layer, switch_ms, switches: only the stretch after so many steps "
        "of the access link.",
    )
    from_s: Seconds | None = Field(default=None, description="Of relay_mbps: only from then on.")
    to_s: Seconds | None = Field(default=None, description="Of relay_mbps: only until then.")
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
