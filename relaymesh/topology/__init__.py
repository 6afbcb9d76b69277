"""Topology files: which regions and nodes there are, which pairs may peer, what their links should be like.

`source` → `schema` and `checks` → `loader` → `model` → `paths`. PURE but for
:func:`load_topology`, which reads one file.
"""

from relaymesh.topology.loader import load_topology, parse_topology
from relaymesh.topology.model import Link, Node, Objective, Peering, Pin, Region, Topology
from relaymesh.topology.paths import BestPath, best_paths, best_paths_from
from relaymesh.topology.problems import Problem, TopologyError
from relaymesh.topology.schema import json_schema

__all__ = [
    "BestPath",
    "Link",
    "Node",
    "Objective",
    "Peering",
    "Pin",
    "Problem",
    "Region",
    "Topology",
    "TopologyError",
    "best_paths",
    "best_paths_from",
    "json_schema",
    "load_topology",
    "parse_topology",
]
