"""From a file's text to a :class:`~relaymesh.topology.model.Topology`, or to all that is wrong with it.

The stages: text → tree with places (:mod:`source`) → types and ranges
(:mod:`schema`) and cross-checks (:mod:`checks`), both always → the model, only
if nothing was found. Whatever the bytes are, the only exception is
:class:`~relaymesh.topology.problems.TopologyError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from relaymesh.topology.checks import cross_check, suggestion
from relaymesh.topology.model import Direction, Node, Pair, Peering, Pin, Region, Topology
from relaymesh.topology.problems import EMPTY_VALUE, MAX_PROBLEMS, Problem, TopologyError, path_text, shown
from relaymesh.topology.schema import BOTH_WAYS, EACH_WAY, LinkDefaults, LinkEntry, TopologyFile, known_keys
from relaymesh.topology.source import Path, Place, SourceError, SourceNode, read_source

MAX_FILE_BYTES = 4 * 1024 * 1024

_MESSAGES = {
    "string_type": "must be text",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "finite_number": "must be a finite number",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
}
_PATTERN_RULES = {
    "country": "is not an ISO 3166-1 alpha-2 code such as DE or US",
    "title": "has control characters",
    "description": "has control characters",
}
_NAME_RULE = "is not a name: letters, digits, '.', '_', '-', at most 64, the first a letter or digit"


def load_topology(path: FilePath | str) -> Topology:
    """The topology in the file at *path* (YAML or JSON, UTF-8, at most 4 MiB).

    Raises:
        TopologyError: the file cannot be read, or is no topology; with all reasons.
    """
    source = str(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TopologyError((Problem(source, 1, 1, "", f"cannot be read: {reason}"),)) from None
    return parse_topology(data, source)


def parse_topology(text: str | bytes, source: str = "<topology>") -> Topology:
    """The topology that *text* (bytes: UTF-8) describes; *source* is its name in problems.

    Raises:
        TopologyError: with every problem found, at most ``MAX_PROBLEMS`` and a count of the rest.
    """
    problems = _Problems(source)
    try:
        root, findings = read_source(_decoded(text, json=source.endswith(".json")))
    except SourceError as error:
        raise TopologyError((Problem(source, *error.place, "", error.message),)) from None
    problems.root = root
    for path, place, message in findings:
        problems.add(path, message, place)
    data = root.plain()
    file = _validated(data, problems)
    for path, message in cross_check(data):
        problems.add(path, message)
    for empty in root.empty_values():
        if empty not in problems.paths:
            problems.add(empty, EMPTY_VALUE)
    problems.raise_if_any()
    assert file is not None, "a file that is not valid has problems"
    topology = _built(file)
    return _with_warnings(topology, problems)


class _Problems:
    """Collects, places and orders what is found."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.root = SourceNode((1, 1), None)
        self.paths: set[Path] = set()
        self._found: list[Problem] = []
        self._omitted = 0

    @property
    def full(self) -> bool:
        return len(self._found) >= MAX_PROBLEMS

    def add(self, path: Path, message: str, place: Place | None = None) -> None:
        if self.full:
            self._omitted += 1
            return
        self.paths.add(path)
        self._found.append(self.problem(path, message, place))

    def problem(self, path: Path, message: str, place: Place | None = None) -> Problem:
        line, column = place or self.root.locate(path)
        return Problem(self.source, line, column, path_text(path), message)

    def raise_if_any(self) -> None:
        found = sorted(self._found, key=lambda problem: (problem.line, problem.column))
        if self._omitted:
            last = found[-1]
            found.append(Problem(self.source, last.line, last.column, "", f"and {self._omitted} more"))
        if found:
            raise TopologyError(tuple(found))


def _decoded(text: str | bytes, *, json: bool) -> str:
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_FILE_BYTES:
        raise SourceError((1, 1), f"larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    if isinstance(text, bytes):
        data = text
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            column = error.start - data.rfind(b"\n", 0, error.start)
            raise SourceError((line, column), "not UTF-8") from None
    text = text.removeprefix("\ufeff")
    # JSON may be indented by tabs, YAML not; inside JSON's quotes no tab may stand anyway.
    return text.replace("\t", " ") if json else text


def _validated(data: object, problems: _Problems) -> TopologyFile | None:
    try:
        return TopologyFile.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if problems.full:
                problems.add((), "")  # only counted from here on
                continue
            path = tuple(step for step in detail["loc"] if step not in (BOTH_WAYS, EACH_WAY))
            _add_schema_problem(path, dict(detail), problems)
        return None


def _add_schema_problem(path: Path, detail: dict[str, Any], problems: _Problems) -> None:
    kind, value = detail["type"], detail["input"]
    name = path[-1] if path else ""
    if kind == "missing":
        problems.add(path[:-1], f"missing key '{name}'")
    elif kind == "extra_forbidden":
        hint = suggestion(str(name), known_keys(path[:-1]))
        place = problems.root.locate(path, key=True)
        problems.add(path[:-1], f"unknown key {shown(str(name))}{hint}", place)
    elif name == "between" and kind in ("too_short", "too_long"):
        problems.add(path, f"must name two ends, not {len(value)}")
    elif kind == "string_pattern_mismatch":
        rule = _PATTERN_RULES.get(str(name), _NAME_RULE)
        problems.add(path, f"{shown(value)} {rule}")
    else:
        message = _MESSAGES.get(kind) or detail["msg"].replace("Input should", "must", 1)
        quoting = " (write it in quotes)" if kind == "string_type" and isinstance(value, int | float) else ""
        problems.add(path, f"{message}, not {shown(value)}{quoting}")


def _built(file: TopologyFile) -> Topology:
    defaults = file.defaults or LinkDefaults()
    links = file.links or []
    default_forward, _ = _directions(defaults, defaults)
    regions = tuple(
        Region(entry.name, entry.title or entry.name, entry.latitude, entry.longitude, entry.country)
        for entry in file.regions
    )
    nodes = tuple(
        Node(entry.name, entry.region, frozenset(entry.roles or ("edge", "relay")))
        for entry in file.nodes or ()
    )
    return Topology(
        name=file.name,
        description=file.description or "",
        regions=regions,
        nodes=nodes or tuple(Node(region.name, region.name) for region in regions),
        pairs=tuple(_pair(entry, defaults) for entry in links),
        default_peering=(defaults.peering or "private") if file.peering == "full" else "never",
        default_direction=default_forward,
        pins=tuple(Pin(entry.source, entry.target, tuple(entry.via)) for entry in file.pins or ()),
        objective=file.objective,
    )


def _pair(entry: LinkEntry, defaults: LinkDefaults) -> Pair:
    peering: Peering = entry.peering or defaults.peering or "private"
    return Pair((entry.between[0], entry.between[1]), peering, *_directions(entry, defaults))


def _directions(entry: LinkDefaults, defaults: LinkDefaults) -> tuple[Direction, Direction]:
    """What *entry* says, filled up by *defaults*, for its two directions."""
    forward: dict[str, Any] = {"delay_ms": 0.0}  # missing only where nothing may flow
    backward = dict(forward)
    for name in LinkDefaults.model_fields:
        value = getattr(entry, name)
        value = getattr(defaults, name) if value is None else value
        if name == "peering" or value is None:
            continue
        forward[name] = value.forward if hasattr(value, "forward") else value
        backward[name] = value.backward if hasattr(value, "backward") else value
    return Direction(**forward), Direction(**backward)


def _with_warnings(topology: Topology, problems: _Problems) -> Topology:
    warnings = tuple(
        replace(problems.problem(path, message), severity="warning")
        for path, message in (*_islands(topology), *_idle_pins(topology))
    )
    return replace(topology, warnings=warnings) if warnings else topology


def _idle_pins(topology: Topology) -> Iterator[tuple[Path, str]]:
    for index, pin in enumerate(topology.pins):
        for here, there in pairwise(pin.stations):
            if not topology.may_peer(here, there):
                yield ("pins", index), f"never used: '{here}' and '{there}' may not peer"
                break


def _islands(topology: Topology) -> Iterator[tuple[Path, str]]:
    groups = topology.components()
    if len(groups) == 1:
        return
    order = [region.name for region in topology.regions]
    shown = [f"{{{', '.join(sorted(group, key=order.index))}}}" for group in groups[:4]]
    more = f" and {len(groups) - 4} more" if len(groups) > 4 else ""
    at: Path = ("links",) if topology.pairs else ()
    yield at, f"the regions cannot all reach each other: {', '.join(shown)}{more}"
