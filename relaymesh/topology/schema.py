"""The topology file as it is written: format version 1.

These models are the published JSON schema and the first judge of a file: types,
ranges, unknown and missing keys. What one entry says about another (names that
must exist, pairs given twice) is judged in :mod:`relaymesh.topology.checks`.
Nothing here computes; :mod:`relaymesh.topology.model` is what the mesh uses.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from relaymesh.protocol.ids import NAME_PATTERN
from relaymesh.topology.model import Objective, Peering, Role

MAX_REGIONS = 2040  # as many as a bit string of destinations can address
MAX_NODES = 2040
MAX_LINKS = 65_536
MAX_PINS = 4096
MAX_VIA = 12  # a packet makes at most 16 hops, and a detour may add some

# Tags of the two shapes of a measure. Error paths of pydantic contain them;
# no key of a file looks like this.
BOTH_WAYS, EACH_WAY = "<both ways>", "<each way>"


def _shape(value: object) -> str:
    return EACH_WAY if isinstance(value, dict | _EachWay) else BOTH_WAYS


class _Strict(BaseModel):
    """Unknown keys are errors, and text is not a number even if it looks like one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
# Shown on terminals, so without the control characters that could steer one.
Line = Annotated[str, Field(max_length=128, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Lines = Annotated[str, Field(max_length=4096, pattern=r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$")]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Capacity = Annotated[float, Field(gt=0, le=1e9)]
Price = Annotated[float, Field(ge=0, le=1e9)]


class _EachWay(_Strict):
    """A value that differs by direction: `forward` is from the first end to the second."""


class MillisecondsEachWay(_EachWay):
    """Milliseconds that differ by direction: forward is from the first end to the second."""

    forward: Milliseconds
    backward: Milliseconds


class FractionEachWay(_EachWay):
    """A fraction that differs by direction: forward is from the first end to the second."""

    forward: Fraction
    backward: Fraction


class CapacityEachWay(_EachWay):
    """Megabits per second that differ by direction: forward is from the first end to the second."""

    forward: Capacity
    backward: Capacity


class PriceEachWay(_EachWay):
    """A price that differs by direction: forward is from the first end to the second."""

    forward: Price
    backward: Price


# One value for both directions, or one for each.
_BY_SHAPE = Discriminator(_shape)
MillisecondsMeasure = Annotated[
    Annotated[Milliseconds, Tag(BOTH_WAYS)] | Annotated[MillisecondsEachWay, Tag(EACH_WAY)], _BY_SHAPE
]
FractionMeasure = Annotated[
    Annotated[Fraction, Tag(BOTH_WAYS)] | Annotated[FractionEachWay, Tag(EACH_WAY)], _BY_SHAPE
]
CapacityMeasure = Annotated[
    Annotated[Capacity, Tag(BOTH_WAYS)] | Annotated[CapacityEachWay, Tag(EACH_WAY)], _BY_SHAPE
]
PriceMeasure = Annotated[Annotated[Price, Tag(BOTH_WAYS)] | Annotated[PriceEachWay, Tag(EACH_WAY)], _BY_SHAPE]


class LinkDefaults(_Strict):
    """What holds for every link that does not say otherwise."""

    peering: Peering | None = Field(
        default=None,
        description="private: may peer over a network of one's own; public: may peer over the internet; "
        "never: may not peer. Default: private.",
    )
    delay_ms: MillisecondsMeasure | None = Field(
        default=None, description="One-way delay of a packet that waits in no queue, milliseconds."
    )
    jitter_ms: MillisecondsMeasure | None = Field(
        default=None,
        description="90th percentile of the one-way delay minus its median, milliseconds. Default: 0.",
    )
    loss: FractionMeasure | None = Field(
        default=None, description="Packets that do not arrive, as a fraction from 0 to 1. Default: 0."
    )
    capacity_mbps: CapacityMeasure | None = Field(
        default=None, description="Megabits per second the link carries. Default: not limited."
    )
    extra_cost_ms: MillisecondsMeasure | None = Field(
        default=None,
        description="The operator's bias: milliseconds added to the routing cost only. Default: 0.",
    )
    price_per_gb: PriceMeasure | None = Field(
        default=None, description="Price of a gigabyte sent, in a currency of your choice. Default: 0."
    )


class LinkEntry(LinkDefaults):
    """One pair, and what is expected of the way between them."""

    between: list[Name] = Field(
        min_length=2, max_length=2, description="The two ends: two regions, or two nodes."
    )


class PinEntry(_Strict):
    """One way of packets, fixed by the operator, as long as all its links are up."""

    source: Name = Field(alias="from", description="Where packets come from: a region or a node.")
    target: Name = Field(alias="to", description="Where they go.")
    via: Annotated[list[Name], Field(max_length=MAX_VIA)] = Field(
        description="Regions or nodes they pass, in order; none: the direct link."
    )


class RegionEntry(_Strict):
    """A place with nodes."""

    name: Name
    title: Line | None = Field(default=None, description="What people call it.")
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = None
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = Field(
        default=None, description="ISO 3166-1 alpha-2: DE, US."
    )


class NodeEntry(_Strict):
    """A node known by name before it joins."""

    name: Name
    region: Name
    roles: Annotated[list[Role], Field(min_length=1, max_length=2)] | None = Field(
        default=None,
        description="edge: clients connect here; relay: passes on what is not for it. Default: both.",
    )


class TopologyFile(_Strict):
    """A mesh as its operator wants it: regions, nodes, and which pairs may peer."""

    version: Literal[1]
    name: Name
    description: Lines | None = None
    peering: Literal["listed", "full"] = Field(
        "listed", description="Whether pairs that are not listed may peer: listed = no, full = yes."
    )
    objective: Objective | None = Field(
        default=None,
        description="What routes are to be best at: latency; cost (price_per_gb first); balanced (both). "
        "Default: what the controller is started with, latency if nothing was said there either.",
    )
    defaults: LinkDefaults | None = None
    regions: list[RegionEntry] = Field(min_length=1, max_length=MAX_REGIONS)
    nodes: Annotated[list[NodeEntry], Field(min_length=1, max_length=MAX_NODES)] | None = Field(
        default=None, description="Default: one node in each region, named after it."
    )
    links: Annotated[list[LinkEntry], Field(max_length=MAX_LINKS)] | None = None
    pins: Annotated[list[PinEntry], Field(max_length=MAX_PINS)] | None = Field(
        default=None, description="Ways that are used whatever they cost, while all their links are up."
    )


def json_schema() -> dict[str, Any]:
    """The published JSON schema (draft 2020-12) of format version 1."""
    return published_schema(TopologyFile, "RelayMesh topology")


def published_schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a file that *model* describes, as editors want it."""
    schema = _tidied(model.model_json_schema())
    assert isinstance(schema, dict), "a schema is a mapping"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}


def _tidied(schema: object) -> object:
    """*schema* without generated titles, and without null: an absent key is left out, not empty."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    choices = kept.get("anyOf")
    if isinstance(choices, list):
        choices = [choice for choice in choices if choice != {"type": "null"}]
        if len(choices) == 1 and isinstance(choices[0], dict):
            del kept["anyOf"]
            return {**choices[0], **kept}
        kept["anyOf"] = choices
    return kept


def known_keys(path: tuple[str | int, ...]) -> list[str]:
    """The keys a mapping at *path* may have; for suggestions, so unknown places have none."""
    models: dict[tuple[str, ...], type[BaseModel]] = {
        (): TopologyFile,
        ("regions",): RegionEntry,
        ("nodes",): NodeEntry,
        ("links",): LinkEntry,
        ("defaults",): LinkDefaults,
        ("pins",): PinEntry,
    }
    names = tuple(step for step in path if isinstance(step, str))
    model = models.get(names)
    if model is not None:
        return [field.alias or name for name, field in model.model_fields.items()]
    return ["forward", "backward"] if names[:1] in (("links",), ("defaults",)) else []
