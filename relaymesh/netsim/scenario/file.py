"""The scenario file as it is written: format version 1.

These models are the published JSON schema and the first judge of a file: types,
ranges, unknown and missing keys. What one part says about another (names that
must be in the topology, times that cannot be) is judged in
:mod:`relaymesh.netsim.scenario.checks`. What a runner uses is
:class:`~relaymesh.netsim.scenario.resolved.Scenario`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from relaymesh.controller.settings import ControllerSettings
from relaymesh.netsim.scenario.conditions import AccessLink, LinkOverride
from relaymesh.netsim.scenario.expectations import Expectation, ExpectedFail
from relaymesh.netsim.scenario.faults import MAX_FAULTS, Fault
from relaymesh.netsim.scenario.strict import FileName, Line, Lines, Name, Seconds, Span, Strict
from relaymesh.netsim.scenario.traffic import Traffic
from relaymesh.node.settings import NodeSettings
from relaymesh.topology.schema import TopologyFile


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
    links: Annotated[list[LinkOverride], Field(max_length=65_536)] = Field(default=[])
    access: AccessLink = AccessLink()
    faults: Annotated[list[Fault], Field(max_length=MAX_FAULTS)] = Field(default=[])
    expect: Annotated[list[Expectation], Field(max_length=200)] = Field(default=[])
    expected_fail: ExpectedFail | None = None
