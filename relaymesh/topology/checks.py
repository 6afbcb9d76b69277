"""Cross-checks of a topology file: what one part of it says about another.

In: the file's values as plain data, as they were written, perhaps wrong in
other ways. Out: problems by path. These checks look only at what is well
formed, so that they and the schema's can be reported together: a misspelt key
in one place does not hide a missing region in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from relaymesh.protocol.ids import is_name
from relaymesh.topology.pin_checks import check_pins
from relaymesh.topology.problems import MAX_PROBLEMS
from relaymesh.topology.source import Path

Finding = tuple[Path, str]


def suggestion(word: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    close = get_close_matches(word[:64], known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def cross_check(data: object) -> Iterator[Finding]:
    """Everything that is wrong between the entries of *data*, at most a little over ``MAX_PROBLEMS``."""
    if not isinstance(data, dict):
        return
    regions = _names(data, "regions")
    nodes = _names(data, "nodes")
    found = 0
    for check in (
        _duplicates(regions, "regions"),
        _duplicates(nodes, "nodes"),
        _coordinates(data),
        _nodes(data, set(regions)),
        _links(data, regions, nodes),
        check_pins(data, {*regions, *nodes}),
    ):
        for finding in check:
            yield finding
            found += 1
            if found > MAX_PROBLEMS:
                return


def _entries(data: dict[str, object], key: str) -> Iterator[tuple[int, dict[str, object]]]:
    """The mappings in the list under *key*, with their positions in it."""
    entries = data.get(key)
    if isinstance(entries, list):
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield index, entry


def _is_name(value: object) -> bool:
    return isinstance(value, str) and not value.endswith("\n") and is_name(value)


def _names(data: dict[str, object], key: str) -> dict[str, list[int]]:
    """Each name given under *key*, with the positions that give it."""
    names: dict[str, list[int]] = {}
    for index, entry in _entries(data, key):
        name = entry.get("name")
        if isinstance(name, str) and _is_name(name):
            names.setdefault(name, []).append(index)
    return names


def _duplicates(names: dict[str, list[int]], key: str) -> Iterator[Finding]:
    for name, positions in names.items():
        for position in positions[1:]:
            yield (key, position, "name"), f"'{name}' is already {key}[{positions[0]}]"


def _coordinates(data: dict[str, object]) -> Iterator[Finding]:
    for index, entry in _entries(data, "regions"):
        if ("latitude" in entry) != ("longitude" in entry):
            given, missing = ("latitude", "longitude") if "latitude" in entry else ("longitude", "latitude")
            yield ("regions", index, given), f"a {given} needs a {missing}"


def _nodes(data: dict[str, object], regions: set[str]) -> Iterator[Finding]:
    for index, entry in _entries(data, "nodes"):
        name, region = entry.get("name"), entry.get("region")
        if isinstance(region, str) and _is_name(region) and region not in regions:
            hint = suggestion(region, list(regions))
            yield ("nodes", index, "region"), f"no region named '{region}'{hint}"
        elif isinstance(name, str) and name in regions and region != name:
            yield (
                ("nodes", index, "name"),
                f"'{name}' is the name of a region; only a node in it may share its name",
            )
        roles = entry.get("roles")
        if isinstance(roles, list) and len(roles) == 2 and roles[0] == roles[1]:
            yield ("nodes", index, "roles", 1), f"'{roles[1]}' is given twice"


def _links(
    data: dict[str, object], regions: dict[str, list[int]], nodes: dict[str, list[int]]
) -> Iterator[Finding]:
    defaults = data.get("defaults")
    defaults = defaults if isinstance(defaults, dict) else {}
    seen: dict[frozenset[str], int] = {}
    for index, entry in _entries(data, "links"):
        peering = entry.get("peering", defaults.get("peering"))
        if peering != "never" and "delay_ms" not in entry and "delay_ms" not in defaults:
            yield ("links", index), "no delay_ms, and 'defaults' gives none"
        yield from _ends(index, entry, regions, nodes, seen)
    if data.get("peering") == "full" and "delay_ms" not in defaults:
        pairs = len(regions) * (len(regions) - 1) // 2
        if sum(pair <= regions.keys() for pair in seen) < pairs:
            yield (
                ("peering",),
                "'full' needs defaults.delay_ms: the delay assumed for pairs that are not listed",
            )


def _ends(
    index: int,
    entry: dict[str, object],
    regions: dict[str, list[int]],
    nodes: dict[str, list[int]],
    seen: dict[frozenset[str], int],
) -> Iterator[Finding]:
    between = entry.get("between")
    if not isinstance(between, list) or len(between) != 2 or not all(_is_name(end) for end in between):
        return
    path: Path = ("links", index, "between")
    known = True
    for position, end in enumerate(between):
        if end not in regions and end not in nodes:
            known = False
            kinds = "region or node" if nodes else "region"
            hint = suggestion(end, [*regions, *nodes])
            yield (*path, position), f"no {kinds} named '{end}'{hint}"
    if between[0] == between[1]:
        yield (*path, 1), f"'{between[1]}' is linked to itself"
        return
    if known and (between[0] in regions) != (between[1] in regions):
        node, region = between if between[1] in regions else reversed(between)
        yield path, f"'{node}' is a node and '{region}' a region: name two regions or two nodes"
    pair = frozenset(between)
    if pair in seen:
        yield path, f"the pair '{between[0]}', '{between[1]}' is already links[{seen[pair]}]"
    else:
        seen[pair] = index
