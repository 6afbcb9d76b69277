"""Checks of the pins of a topology file: names, repetitions, and pins that contradict each other.

In: the file's values as plain data, perhaps wrong in other ways, and the names
it defines. Out: problems by path. A node forwards by destination alone, so all
pins towards one destination must agree on the next station from every station.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from relaymesh.protocol.ids import is_name
from relaymesh.topology.source import Path

Finding = tuple[Path, str]


def check_pins(data: dict[str, object], known: Collection[str]) -> Iterator[Finding]:
    """Every problem of ``pins``; *known* are the names of all regions and nodes."""
    entries = data.get("pins")
    if not isinstance(entries, list):
        return
    said: dict[tuple[str, str], tuple[str, int]] = {}  # (station, destination) → next station, by which pin
    for index, entry in enumerate(entries):
        stations = _stations(entry)
        if stations is None:
            continue
        unknown = [(path, name) for path, name in stations if name not in known]
        for path, name in unknown:
            yield ("pins", index, *path), f"no region or node named '{name}'"
        names = [name for _, name in stations]
        repeated = next((at for at, name in enumerate(names) if name in names[:at]), None)
        if repeated is not None:
            yield ("pins", index, *stations[repeated][0]), f"'{names[repeated]}' is on the way already"
        if unknown or repeated is not None:
            continue
        for here, there in pairwise(names):
            other, by = said.setdefault((here, names[-1]), (there, index))
            if other != there:
                yield (
                    ("pins", index),
                    f"from '{here}' to '{names[-1]}' by '{there}', but pins[{by}] says by '{other}'",
                )
                break


def _stations(entry: object) -> list[tuple[Path, str]] | None:
    """All stations with their places, in order; None where the entry is not well formed."""
    if not isinstance(entry, dict) or not isinstance(entry.get("via"), list):
        return None
    stations: list[tuple[Path, object]] = [(("from",), entry.get("from"))]
    stations += [(("via", position), name) for position, name in enumerate(entry["via"])]
    stations.append((("to",), entry.get("to")))
    found: list[tuple[Path, str]] = []
    for path, name in stations:
        if not isinstance(name, str) or not is_name(name):
            return None
        found.append((path, name))
    return found
