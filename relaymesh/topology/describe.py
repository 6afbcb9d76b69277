"""A topology as plain data for JSON: regions, nodes, directed links and best paths.

What the file says, said out in full: every default filled in, every pair in
both directions. The keys are those of the controller's API where both have them.
"""

from __future__ import annotations

from relaymesh.topology.model import Link, Topology
from relaymesh.topology.paths import best_paths
from relaymesh.topology.problems import Problem


def describe(topology: Topology) -> dict[str, object]:
    """The whole of *topology*; ``links`` are between nodes, ``paths`` hold no pair without a way."""
    graph = topology.graph()
    return {
        "name": topology.name,
        "description": topology.description,
        "objective": topology.objective,
        "regions": [
            {
                "name": region.name,
                "title": region.title,
                "latitude": region.latitude,
                "longitude": region.longitude,
                "country": region.country,
            }
            for region in topology.regions
        ],
        "nodes": [
            {"name": node.name, "region": node.region, "roles": sorted(node.roles)} for node in topology.nodes
        ],
        "links": [describe_link(edge["link"]) for _, _, edge in graph.edges(data=True)],
        "pins": [{"from": pin.source, "to": pin.target, "via": list(pin.via)} for pin in topology.pins],
        "paths": [
            {"from": source, "to": target, "path": list(path.nodes), "cost_ms": path.cost_ms}
            for source, target, path in best_paths(topology)
            if path is not None
        ],
        "warnings": [describe_problem(warning) for warning in topology.warnings],
    }


def describe_link(link: Link) -> dict[str, object]:
    """One directed link; ``capacity_mbps`` is null where it is not limited."""
    return {
        "from": link.source,
        "to": link.target,
        "peering": link.peering,
        "listed": link.listed,
        "delay_ms": link.delay_ms,
        "rtt_ms": link.rtt_ms,
        "jitter_ms": link.jitter_ms,
        "loss": link.loss,
        "capacity_mbps": link.capacity_mbps,
        "extra_cost_ms": link.extra_cost_ms,
        "price_per_gb": link.price_per_gb,
        "cost_ms": link.cost_ms,
    }


def describe_problem(problem: Problem) -> dict[str, object]:
    """One problem; ``line`` and ``column`` count from 1."""
    return {
        "file": problem.source,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
        "severity": problem.severity,
    }
