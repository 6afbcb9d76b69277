"""Reading a file's values that may be malformed: what is not of the wanted shape is not there."""

from __future__ import annotations

from collections.abc import Iterator

from relaymesh.topology import Topology
from relaymesh.topology.source import Path

Finding = tuple[Path, str]
Mapping = dict[str, object]


def mapping(value: object, *steps: str) -> Mapping:
    """The mapping below *value* at *steps*; empty where there is none."""
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def entries(data: Mapping, key: str) -> Iterator[tuple[int, Mapping]]:
    """The mappings in the list under *key*, with their positions in it."""
    entries = data.get(key)
    if isinstance(entries, list):
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield index, entry


def texts(value: object) -> list[tuple[int, str]]:
    """The texts of a list, with their positions in it."""
    found = value if isinstance(value, list) else []
    return [(index, entry) for index, entry in enumerate(found) if isinstance(entry, str)]


def number(entry: Mapping, key: str, default: float | None = None) -> float | None:
    """The number under *key*; None where there is none."""
    value = entry.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None


def participants(data: Mapping) -> Iterator[tuple[Path, str, Mapping]]:
    """Every participant and group: its path, its room's name and itself."""
    for index, room in entries(mapping(data, "traffic"), "rooms"):
        for position, entry in entries(room, "participants"):
            yield (
                ("traffic", "rooms", index, "participants", position),
                str(room.get("name")),
                entry,
            )


def nodes_at(topology: Topology, name: str) -> list[str]:
    """The nodes that *name* means: those of the region, or the node itself."""
    return [node.name for node in topology.nodes if name in (node.name, node.region)]
