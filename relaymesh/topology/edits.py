"""A topology with some entries changed: what an operator's editor does to a file, as a function.

In: a topology; entries of ``links`` and ``pins`` as plain data. Out: the edited
topology, judged as any file is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relaymesh.topology.formats.native import topology_document
from relaymesh.topology.loader import parse_topology
from relaymesh.topology.model import Topology

Entry = Mapping[str, Any]  # as in a file


def with_edits(
    topology: Topology, links: Sequence[Entry] = (), pins: Sequence[Entry] | None = None
) -> Topology:
    """*topology* with the keys of *links* in its links, listed or not; *pins* replace its pins, None none.

    Raises:
        TopologyError: the result is no topology.
    """
    document = topology_document(topology)
    listed: list[dict[str, Any]] = [dict(entry) for entry in document.get("links", [])]
    for edit in links:
        ends = edit.get("between")
        found = next((entry for entry in listed if _same(entry["between"], ends)), None)
        if found is None:
            found = {}
            listed.append(found)
        turned = found.get("between", ends) != ends
        found.update(
            (key, _turned(value) if turned else value) for key, value in edit.items() if key != "between"
        )
        found.setdefault("between", ends)
    document["links"] = listed
    if pins is not None:
        document["pins"] = [dict(pin) for pin in pins]
    return parse_topology(json.dumps(document), "edited.json")


def _same(one: object, other: object) -> bool:
    """Compare two pairs of ends, in either order."""
    return (
        isinstance(one, list) and isinstance(other, list) and sorted(map(str, one)) == sorted(map(str, other))
    )


def _turned(value: Any) -> Any:
    """A value by direction, seen from the other end."""
    if isinstance(value, Mapping) and value.keys() == {"forward", "backward"}:
        return {"forward": value["backward"], "backward": value["forward"]}
    return value
