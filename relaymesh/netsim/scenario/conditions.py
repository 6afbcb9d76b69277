"""The conditions of links as a scenario file writes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from relaymesh.netsim.scenario.strict import FileName, Fraction, Mbps, Milliseconds, Name, Strict

Direction = Literal["both", "forward", "backward"]

BETWEEN: Any = Field(min_length=2, max_length=2, description="The two ends: two regions, or two nodes.")
DIRECTION: Any = Field(
    default="both", description="forward: from the first end to the second; backward: the other way."
)


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
