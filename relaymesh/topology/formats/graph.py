"""A graph of another tool's file: vertices and edges as a reader found them, each with its place.

In: keys, labels and attributes, as text or numbers. Out: a :class:`Graph` with
all that is wrong with it and all that is odd. What it means as a topology is
:mod:`relaymesh.topology.formats.build`'s to say. This module knows no format.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relaymesh.protocol.ids import is_name
from relaymesh.topology.formats.native import MEASURES
from relaymesh.topology.problems import MAX_PROBLEMS, Problem, TopologyError
from relaymesh.topology.source import Place

_MEASURE_NAMES = {**{name: (name, 1.0) for name in MEASURES}, "latency_ms": ("delay_ms", 1.0)}
_MEASURE_NAMES["linkspeedraw"] = ("capacity_mbps", 1e-6)  # TopologyZoo: bits per second
_MOST = {"delay_ms": 60_000.0, "jitter_ms": 60_000.0, "loss": 1.0, "extra_cost_ms": 60_000.0}
_PEERINGS = ("private", "public", "never")
_ROLES = ("edge", "relay")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class Reading:
    """Options of a caller for reading a file."""

    graph: str | None = None  # which of a collection's graphs: its label, or its number from 0
    environment: Mapping[str, str] = field(default_factory=dict)  # for variables in the file


@dataclass(slots=True)
class Vertex:
    """A vertex as it was found."""

    key: str  # what edges call it
    place: Place
    name: str | None = None  # to be kept as it is, where it is a name
    label: str | None = None  # for people; a name is made of it where there is no other
    latitude: float | None = None
    longitude: float | None = None
    country: str | None = None
    region: str | None = None
    roles: tuple[str, ...] = ()


@dataclass(slots=True)
class Edge:
    """An edge as it was found."""

    source: str
    target: str
    place: Place
    directed: bool
    measures: dict[str, float] = field(default_factory=dict)  # the keys of ``MEASURES``
    peering: str | None = None


@dataclass(slots=True)
class Graph:
    """Vertices, edges and problems that a reader found."""

    source: str
    name: str | None = None
    description: str | None = None
    vertices: dict[str, Vertex] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    _more: Counter[str] = field(default_factory=Counter)

    def error(self, place: Place, message: str, path: str = "") -> None:
        """Note what makes the file unusable."""
        self._note(self.errors, Problem(self.source, *place, path, message))

    def warn(self, place: Place, message: str, path: str = "") -> None:
        """Note what was assumed."""
        self._note(self.warnings, Problem(self.source, *place, path, message, "warning"))

    def _note(self, problems: list[Problem], problem: Problem) -> None:
        if len(problems) < MAX_PROBLEMS:
            problems.append(problem)
        else:
            self._more[problem.severity] += 1

    def ordered(self, problems: list[Problem]) -> tuple[Problem, ...]:
        """*problems* by place, and how many more there are."""
        found = sorted(problems, key=lambda problem: (problem.line, problem.column))
        if found and (more := self._more[found[0].severity]):
            last = found[-1]
            found.append(Problem(self.source, last.line, last.column, "", f"and {more} more", last.severity))
        return tuple(found)

    def raise_if_wrong(self) -> None:
        """Raise ``TopologyError`` with all errors noted."""
        if self.errors:
            raise TopologyError(self.ordered(self.errors))

    def add_vertex(self, vertex: Vertex, attributes: Mapping[str, object], path: str = "") -> None:
        """Add *vertex*, filled up by *attributes* (keys in lower case)."""
        if vertex.key in self.vertices:
            self.error(vertex.place, f"the node {short(vertex.key)} is given twice", path)
            return
        vertex.latitude = self._coordinate(vertex, attributes, ("latitude", "lat"), 90, path)
        vertex.longitude = self._coordinate(vertex, attributes, ("longitude", "lon", "lng"), 180, path)
        country = attributes.get("country")
        if isinstance(country, str) and re.fullmatch("[A-Z]{2}", country):
            vertex.country = country
        region, roles = attributes.get("region"), attributes.get("roles")
        if isinstance(region, str) and slug(region):
            vertex.region = region if usable_name(region) else slug(region)
        if isinstance(roles, str):
            vertex.roles = tuple(role for role in _ROLES if role in roles.split())
        self.vertices[vertex.key] = vertex

    def add_edge(self, edge: Edge, attributes: Mapping[str, object], path: str = "") -> None:
        """Add *edge*, filled up by *attributes* (keys in lower case)."""
        for key, (name, factor) in _MEASURE_NAMES.items():
            if attributes.get(key) is None or name in edge.measures:
                continue
            value = self._number(attributes[key], edge.place, key, path)
            if value is None:
                continue
            value *= factor
            if name == "capacity_mbps" and not 0 < value <= 1e9:
                self.warn(edge.place, f"{key} must be above 0, not {value:g}: not limited", path)
            elif not 0 <= value <= _MOST.get(name, 1e9):
                self.error(
                    edge.place, f"{key} must be from 0 to {_MOST.get(name, 1e9):g}, not {value:g}", path
                )
            else:
                edge.measures[name] = value
        if attributes.get("peering") in _PEERINGS:
            edge.peering = str(attributes["peering"])
        self.edges.append(edge)

    def _coordinate(
        self, vertex: Vertex, attributes: Mapping[str, object], names: Iterable[str], most: float, path: str
    ) -> float | None:
        for name in names:
            if attributes.get(name) not in (None, ""):
                value = self._number(attributes[name], vertex.place, name, path)
                if value is not None and not -most <= value <= most:
                    self.error(vertex.place, f"{name} must be from {-most} to {most}, not {value:g}", path)
                    return None
                return value
        return None

    def _number(self, value: object, place: Place, name: str, path: str) -> float | None:
        if isinstance(value, str) and len(value) <= 64 and _NUMBER.match(value.strip()):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return float(value)
        self.error(place, f"{name} must be a number, not {short(value)}", path)
        return None


def slug(text: str) -> str:
    """A name made of *text*, `sao-paulo` of `São Paulo`; empty where nothing of it can stand in one."""
    ascii_text = unicodedata.normalize("NFKD", text[:256]).encode("ascii", "ignore").decode("ascii")
    return re.sub("[^a-z0-9]+", "-", ascii_text.lower()).strip("-")[:56].strip("-")


def line(text: object, most: int) -> str:
    """*text* in one line that any terminal can show, at most *most* characters; empty if it is no text."""
    if not isinstance(text, str):
        return ""
    return "".join(char for char in " ".join(text[: 4 * most].split()) if char.isprintable())[:most]


def short(value: object) -> str:
    """*value* as a word of a message."""
    return ascii(value) if len(ascii(value)) <= 64 else f"a value of {len(ascii(value))} characters"


def usable_name(text: str) -> bool:
    """Check that *text* may stand as a name unchanged."""
    return is_name(text) and not text.endswith("\n")
