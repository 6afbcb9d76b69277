"""Differences between two topologies, entry by entry.

In: two :class:`~relaymesh.topology.model.Topology`. Out: a list of
:class:`Change`, in the order regions, nodes, pairs, pins, whole file; empty
when they mean the same. Pairs are compared by what holds for them, whether a
file lists them or its defaults say it; a pair has no direction, its values have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from relaymesh.topology.model import Link, Pin, Topology

Kind = Literal["added", "removed", "changed"]
Value = str | float | None

# In the order in which a reader wants them.
_MEASURES = ("delay_ms", "jitter_ms", "loss", "capacity_mbps", "extra_cost_ms", "price_per_gb")


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that differs; *fields* names what, as (old, new), where both files have the entry."""

    what: Literal["region", "node", "pair", "pin", "file"]
    name: str  # of a pair "a – b", of a pin "a → c by b"; of the file ""
    kind: Kind
    fields: Mapping[str, tuple[Value, Value]]

    def __str__(self) -> str:
        """`~ pair a – b: loss 0 → 0.01`, as ``topology diff`` prints it."""
        sign = {"added": "+", "removed": "-", "changed": "~"}[self.kind]
        words = (_shown(name, *values, self.kind) for name, values in self.fields.items())
        shown = ", ".join(word for word in words if word)
        subject = f"{self.what} {self.name}" if self.name else self.what
        return f"{sign} {subject}{': ' if shown else ''}{shown}"


def diff(old: Topology, new: Topology) -> tuple[Change, ...]:
    """All that differs from *old* to *new*; warnings do not count."""
    return (
        *_compared("region", _regions(old), _regions(new)),
        *_compared("node", _nodes(old), _nodes(new)),
        *_compared("pair", *_pairs(old, new)),
        *_compared("pin", *_pins(old, new)),
        *_compared("file", {"": _whole(old)}, {"": _whole(new)}),
    )


def describe_change(change: Change) -> dict[str, object]:
    """One change as plain data for JSON."""
    return {
        "what": change.what,
        "name": change.name,
        "kind": change.kind,
        "fields": {name: {"old": old, "new": new} for name, (old, new) in change.fields.items()},
    }


_Fields = dict[str, Value]


def _compared(
    what: Literal["region", "node", "pair", "pin", "file"],
    old: Mapping[str, _Fields],
    new: Mapping[str, _Fields],
) -> Iterator[Change]:
    for name in (*old, *(name for name in new if name not in old)):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        kind: Kind = "changed"
        if before is None or after is None:
            kind = "added" if before is None else "removed"
        one, other = before or {}, after or {}
        if before and after and "never" in (one.get("peering"), other.get("peering")):
            one, other = {"peering": one["peering"]}, {"peering": other["peering"]}  # that says it all
        fields = {
            key: (one.get(key), other.get(key))
            for key in (*one, *(key for key in other if key not in one))
            if one.get(key) != other.get(key)
        }
        yield Change(what, name, kind, fields)


def _regions(topology: Topology) -> dict[str, _Fields]:
    return {
        region.name: {
            "title": region.title if region.title != region.name else None,
            "latitude": region.latitude,
            "longitude": region.longitude,
            "country": region.country,
        }
        for region in topology.regions
    }


def _nodes(topology: Topology) -> dict[str, _Fields]:
    regions = {region.name for region in topology.regions}
    return {
        node.name: {"region": node.region, "roles": ", ".join(sorted(node.roles))}
        for node in topology.nodes
        if node.name not in regions or len(node.roles) < 2  # else it says nothing its region does not
    }


def _pairs(old: Topology, new: Topology) -> tuple[dict[str, _Fields], dict[str, _Fields]]:
    """Compare the properties of every pair that either file lists."""
    ends: dict[frozenset[str], tuple[str, str]] = {}
    for pair in (*old.pairs, *new.pairs):
        ends.setdefault(frozenset(pair.ends), pair.ends)
    found: tuple[dict[str, _Fields], dict[str, _Fields]] = ({}, {})
    for a, b in ends.values():
        links = [(_link(topology, a, b), _link(topology, b, a)) for topology in (old, new)]
        split = {
            name
            for there, back in links
            for name in _MEASURES
            if there is not None and getattr(there, name) != getattr(back, name)
        }
        for topology, (there, back), pairs in zip((old, new), links, found, strict=True):
            if there is not None and back is not None:
                pairs[f"{a} – {b}"] = _pair(there, back, split)
            elif any(set(pair.ends) == {a, b} for pair in topology.pairs):
                pairs[f"{a} – {b}"] = {"peering": "never"}
    return found


def _link(topology: Topology, source: str, target: str) -> Link | None:
    """The way between two names; None where they may not peer, or one is not known."""
    try:
        return topology.link(source, target)
    except KeyError:
        return None


def _pair(there: Link, back: Link, split: Collection[str]) -> _Fields:
    """Properties of a pair; the values in *split* by direction."""
    fields: _Fields = {"peering": there.peering}
    for name in _MEASURES:
        if name in split:
            for link in (there, back):
                fields[f"{name} {link.source} → {link.target}"] = getattr(link, name)
        else:
            fields[name] = getattr(there, name)
    return fields


def _pins(old: Topology, new: Topology) -> tuple[dict[str, _Fields], dict[str, _Fields]]:
    return {_pin(pin): {} for pin in old.pins}, {_pin(pin): {} for pin in new.pins}


def _pin(pin: Pin) -> str:
    by = f" by {', '.join(pin.via)}" if pin.via else " directly"
    return f"{pin.source} → {pin.target}{by}"


def _whole(topology: Topology) -> _Fields:
    fields: _Fields = {
        "name": topology.name,
        "description": topology.description or None,
        "peering": "listed" if topology.default_peering == "never" else f"full, {topology.default_peering}",
    }
    if topology.objective is not None:
        fields["objective"] = topology.objective
    if topology.default_peering != "never":
        for name in _MEASURES:
            fields[f"defaults.{name}"] = getattr(topology.default_direction, name)
    return fields


def _shown(name: str, old: Value, new: Value, kind: Kind) -> str:
    """`loss 0 → 0.01`; of an entry that is new or gone its value, unless that goes without saying."""
    if kind == "changed":
        return f"{name} {_text(old)} → {_text(new)}"
    value = old if kind == "removed" else new
    return f"{name} {_text(value)}" if value else ""


def _text(value: Value) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float | int) else value
