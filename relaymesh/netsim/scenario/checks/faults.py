"""Faults that would change nothing, or that their link cannot have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from relaymesh.netsim.scenario.checks.reading import Finding, Mapping, entries, nodes_at, texts
from relaymesh.netsim.scenario.conditions import Conditions
from relaymesh.netsim.scenario.strict import CONTROLLER
from relaymesh.topology import Topology, TopologyError
from relaymesh.topology.edits import with_edits
from relaymesh.topology.source import Path

_CHANGES = tuple(Conditions.model_fields)


def check_faults(data: Mapping, topology: Topology | None) -> Iterator[Finding]:
    """Faults that change nothing, or change what is not there."""
    for index, fault in entries(data, "faults"):
        path: Path = ("faults", index)
        kind = fault.get("kind")
        if kind == "conditions" and not any(name in fault for name in _CHANGES):
            yield path, f"changes nothing: give at least one of {', '.join(_CHANGES)}"
        if kind == "brown-out" and ("mbps" in fault) == ("factor" in fault):
            yield path, "give either mbps or factor"
        elif kind == "brown-out" and "factor" in fault and topology is not None:
            yield from _has_rate((*path, "factor"), fault, data, topology)
        if topology is not None and (kind == "brown-out" or (kind == "conditions" and "rate_mbps" in fault)):
            yield from _has_trace(path, fault, data, topology)
        if kind == "partition" and topology is not None:
            yield from _groups(path, fault, topology)
        if kind == "apply-topology" and topology is not None:
            yield from _edit(path, fault, topology)


def _edit(path: Path, fault: Mapping, topology: Topology) -> Iterator[Finding]:
    """What is wrong with the topology an edit would make; said of the edit as a whole."""
    links = [link for _, link in entries(fault, "links")]
    pins = None if "pins" not in fault else [pin for _, pin in entries(fault, "pins")]
    try:
        with_edits(topology, links, pins)
    except TopologyError as error:
        for problem in error.problems[:10]:
            yield path, f"makes no topology: {problem.path}: {problem.message}"


def _has_trace(path: Path, fault: Mapping, data: Mapping, topology: Topology) -> Iterator[Finding]:
    """A rate given to a link that goes by a trace would change nothing."""
    if "trace" in fault:
        return
    links = _directed(fault, topology)
    for index, entry in entries(data, "links"):
        if "trace" in entry and links & _directed(entry, topology):
            why = f"this link goes by the trace of links[{index}] and has no rate to change"
            yield (*path, "between"), f"{why}; give a 'conditions' fault with another trace"
            return


def _directed(entry: Mapping, topology: Topology) -> set[tuple[str, str]]:
    """The links between nodes, one direction each, that *entry* is about."""
    ends = [nodes_at(topology, name) for _, name in texts(entry.get("between"))]
    if len(ends) != 2:
        return set()
    firsts, seconds = ends
    forward, direction = set(product(firsts, seconds)), entry.get("direction")
    backward = {(b, a) for a, b in forward}
    return forward if direction == "forward" else backward if direction == "backward" else forward | backward


def _has_rate(path: Path, fault: Mapping, data: Mapping, topology: Topology) -> Iterator[Finding]:
    ends = [name for _, name in texts(fault.get("between"))]
    overridden = [
        {name for _, name in texts(entry.get("between"))}
        for _, entry in entries(data, "links")
        if "rate_mbps" in entry
    ]
    if len(ends) != 2 or set(ends) in overridden or not all(nodes_at(topology, end) for end in ends):
        return
    link = topology.link(*ends) if _same_kind(topology, ends) else None
    if link is None or link.capacity_mbps is None:
        yield path, "this link has no rate to take a part of; give mbps, or the link a rate_mbps in 'links'"


def _same_kind(topology: Topology, ends: list[str]) -> bool:
    regions = {region.name for region in topology.regions}
    nodes = {node.name for node in topology.nodes}
    return set(ends) <= regions or set(ends) <= nodes


def _groups(path: Path, fault: Mapping, topology: Topology) -> Iterator[Finding]:
    groups = fault.get("groups")
    seen: dict[str, int] = {}
    for number, group in enumerate(groups if isinstance(groups, list) else []):
        for position, name in texts(group):
            members = [CONTROLLER] if name == CONTROLLER else nodes_at(topology, name)
            for member in members:
                if seen.setdefault(member, number) != number:
                    where = f"groups[{seen[member]}]"
                    yield (*path, "groups", number, position), f"'{member}' is already in {where}"
