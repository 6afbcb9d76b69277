"""Topologies from and for other tools: GraphML (TopologyZoo), containerlab YAML, NetJSON NetworkGraph.

A reader makes a :class:`~relaymesh.topology.formats.graph.Graph` of a file's
bytes; :mod:`build` makes a topology of that and says what had to be assumed.
Whatever the bytes are, the only exception is
:class:`~relaymesh.topology.problems.TopologyError`. PURE.

>>> imported = import_topology(data, "Geant2012.graphml")
>>> imported.topology, imported.warnings, imported.text
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from relaymesh.topology.formats.build import Assumptions, Imported, to_topology
from relaymesh.topology.formats.containerlab import read_containerlab
from relaymesh.topology.formats.graph import Graph, Reading
from relaymesh.topology.formats.graphml import read_graphml, write_graphml
from relaymesh.topology.formats.native import topology_text
from relaymesh.topology.formats.netjson import read_netjson, write_netjson
from relaymesh.topology.loader import parse_topology
from relaymesh.topology.model import Topology
from relaymesh.topology.problems import Problem, TopologyError

Format = Literal["relaymesh", "graphml", "containerlab", "netjson"]

READERS: dict[str, Callable[[bytes, str, Reading], Graph]] = {
    "graphml": read_graphml,
    "containerlab": read_containerlab,
    "netjson": read_netjson,
}
WRITERS: dict[str, Callable[[Topology], str]] = {
    "graphml": write_graphml,
    "netjson": write_netjson,
}


def import_topology(
    data: bytes,
    source: str,
    kind: str | None = None,
    assumptions: Assumptions | None = None,
    *,
    name: str | None = None,
    reading: Reading | None = None,
) -> Imported:
    """The topology in *data*, a file called *source*, of the format *kind* (guessed where it is not given).

    A topology file of our own format is read too. *name* names the topology
    instead of the file. *reading* chooses one of several graphs and gives values to variables.

    Raises:
        TopologyError: with every problem found.
    """
    kind, reading = kind or guess_format(data, source), reading or Reading()
    if reading.graph is not None and kind != "netjson":
        message = "only a NetJSON NetworkCollection has graphs to choose from"
        raise TopologyError((Problem(source, 1, 1, "", message),))
    if kind == "relaymesh":
        topology = parse_topology(data, source)
        return Imported(topology, topology_text(topology), topology.warnings)
    reader = READERS.get(kind)
    if reader is None:
        raise TopologyError((Problem(source, 1, 1, "", f"no format named {kind!a}"),))
    return to_topology(reader(data, source, reading), source, assumptions or Assumptions(), name)


def guess_format(data: bytes, source: str) -> Format:
    """Guess a file's format by its name where that says it, else by its content."""
    lower = source.lower()
    if lower.endswith((".graphml", ".xml")) or data.lstrip()[:1] == b"<":
        return "graphml"
    if lower.endswith((".clab.yml", ".clab.yaml")):
        return "containerlab"
    if b'"NetworkGraph"' in data or b'"NetworkCollection"' in data:
        return "netjson"
    lines = data.splitlines()
    if any(line.startswith(b"topology:") for line in lines) and not any(
        line.startswith(b"regions:") for line in lines
    ):
        return "containerlab"
    return "relaymesh"


__all__ = [
    "READERS",
    "WRITERS",
    "Assumptions",
    "Format",
    "Imported",
    "Reading",
    "guess_format",
    "import_topology",
    "topology_text",
]
