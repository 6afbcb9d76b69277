"""Names that are not in the topology, and links that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from relaymesh.netsim.scenario.checks.reading import (
    Finding,
    Mapping,
    entries,
    mapping,
    nodes_at,
    participants,
    texts,
)
from relaymesh.netsim.scenario.strict import CONTROLLER
from relaymesh.topology import Topology
from relaymesh.topology.checks import suggestion
from relaymesh.topology.source import Path


def check_names(data: Mapping, topology: Topology) -> Iterator[Finding]:
    """Names that neither a region nor a node has, and pairs without a link."""
    for path, name, more in _named(data):
        known = [*(region.name for region in topology.regions), *(node.name for node in topology.nodes)]
        if name not in known and name not in more:
            hint = suggestion(name, known)
            yield path, f"no region or node named '{name}' in topology '{topology.name}'{hint}"
        elif "participants" in path and not _edges_at(topology, name):
            yield path, f"'{name}' has no node that is an edge"
    yield from _ends(data, topology)


def _edges_at(topology: Topology, name: str) -> bool:
    return any("edge" in topology.node(node).roles for node in nodes_at(topology, name))


def _named(data: Mapping) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Every place that names a region or node, the name, and what else it may be."""
    for path, _, entry in participants(data):
        at = entry.get("at")
        if isinstance(at, str):
            yield (*path, "at"), at, ()
        for index, name in texts(at):
            yield (*path, "at", index), name, ()
    at = mapping(data, "controller").get("at")
    if isinstance(at, str):
        yield ("controller", "at"), at, ()
    for key in ("links", "faults"):
        for index, entry in entries(data, key):
            for position, name in texts(entry.get("between")):
                yield (key, index, "between", position), name, ()
            if isinstance(node := entry.get("node"), str):
                yield (key, index, "node"), node, ()
            groups = entry.get("groups")
            for number, group in enumerate(groups if isinstance(groups, list) else []):
                for position, name in texts(group):
                    yield (key, index, "groups", number, position), name, (CONTROLLER,)


def _ends(data: Mapping, topology: Topology) -> Iterator[Finding]:
    for key in ("links", "faults"):
        for index, entry in entries(data, key):
            ends = [name for _, name in texts(entry.get("between"))]
            nodes = [nodes_at(topology, end) for end in ends]
            if len(ends) != 2 or not all(nodes):
                continue
            path: Path = (key, index, "between")
            if ends[0] == ends[1] and len(nodes[0]) == 1:
                yield (*path, 1), f"'{ends[1]}' is linked to itself"
            elif not any(a != b and topology.may_peer(a, b) for a, b in product(*nodes)):
                yield path, f"there is no link between '{ends[0]}' and '{ends[1]}' in '{topology.name}'"
