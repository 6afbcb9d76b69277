"""A topology as the text of a file of our own format: one line for each region, node and link.

In: a :class:`~relaymesh.topology.model.Topology`, or the plain data of one.
Out: YAML that :func:`~relaymesh.topology.loader.parse_topology` reads back to the same topology.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from relaymesh.topology.model import Direction, Node, Pair, Topology

MEASURES = ("delay_ms", "jitter_ms", "loss", "capacity_mbps", "extra_cost_ms", "price_per_gb")

# Words that YAML, the 1.1 of other readers too, does not take as text.
_NOT_TEXT = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
# What may not stand in a YAML file as itself, or ends a line there.
_ESCAPED = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def topology_text(topology: Topology) -> str:
    """*topology* as YAML of format version 1. Its warnings are not in it."""
    return document_text(topology_document(topology))


def topology_document(topology: Topology) -> dict[str, Any]:
    """*topology* as the plain data of a file, without what goes without saying."""
    regions = [
        _present(
            name=region.name,
            title=region.title if region.title != region.name else None,
            latitude=region.latitude,
            longitude=region.longitude,
            country=region.country,
        )
        for region in topology.regions
    ]
    full = topology.default_peering != "never"
    document = _present(
        version=1,
        name=topology.name,
        description=topology.description or None,
        peering="full" if full else None,
        objective=topology.objective,
        defaults=_defaults(topology) if full else None,
        regions=regions,
    )
    if topology.nodes != tuple(Node(region.name, region.name) for region in topology.regions):
        document["nodes"] = [_node(node) for node in topology.nodes]
    document["links"] = [_link(pair, document.get("defaults", {})) for pair in topology.pairs]
    if topology.pins:
        document["pins"] = [
            {"from": pin.source, "to": pin.target, "via": list(pin.via)} for pin in topology.pins
        ]
    return document


def _present(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _defaults(topology: Topology) -> dict[str, Any]:
    plain, given = Direction(0.0), topology.default_direction
    defaults: dict[str, Any] = {"delay_ms": given.delay_ms}
    if topology.default_peering != "private":
        defaults["peering"] = topology.default_peering
    defaults.update(
        (name, getattr(given, name)) for name in MEASURES[1:] if getattr(given, name) != getattr(plain, name)
    )
    return defaults


def _node(node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": node.name, "region": node.region}
    if len(node.roles) == 1:
        entry["roles"] = sorted(node.roles)
    return entry


def _link(pair: Pair, defaults: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"between": list(pair.ends)}
    if pair.peering != defaults.get("peering", "private"):
        entry["peering"] = pair.peering
    if pair.peering == "never":
        return entry
    for name in MEASURES:
        there, back = getattr(pair.forward, name), getattr(pair.backward, name)
        usual = defaults.get(name, None if name in ("delay_ms", "capacity_mbps") else 0.0)
        if there is None or back is None:
            # A limit in one direction only cannot be written; the highest there is says the same.
            if there is back:
                continue
            there, back = (1e9 if value is None else value for value in (there, back))
        if there != back:
            entry[name] = {"forward": there, "backward": back}
        elif there != usual:
            entry[name] = there
    return entry


def document_text(document: Mapping[str, Any]) -> str:
    """The plain data of a topology file as YAML: lists of mappings get a line for each entry."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value:
            lines.append(f"{key}:")
            lines.extend(f"  - {_flow(entry)}" for entry in value)
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return value if _PLAIN.match(value) and value.lower() not in _NOT_TEXT else _quoted(value)
    return number_text(value)


def _quoted(text: str) -> str:
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def number_text(value: float) -> str:
    """The shortest text that reads back as *value*; whole numbers without a point."""
    return repr(float(value)).removesuffix(".0")
