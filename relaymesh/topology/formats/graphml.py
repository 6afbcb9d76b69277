"""GraphML, as the Internet Topology Zoo, networkx and yEd write it, to a graph, and a topology to GraphML.

Understood of a node: `name`, `label`, `Latitude`, `Longitude`, `Country`, and
what an export of ours adds (`region`, `roles`); of an edge: `LinkSpeedRaw` (bit/s)
and the measures of our own format by their names. Parallel edges and nested
graphs are read, hyperedges and ports are not. Source: GraphML primer
(graphml.graphdrawing.org); the attributes are those found in TopologyZoo's files.

yEd and other programs on yFiles keep what is drawn in elements of their own inside of `data`: the label of
a node in `y:NodeLabel` (yEd for desktops) or `y:Label.Text` (yFiles for HTML, yEd Live), arrows in
`y:Arrows`. Their groups (`yfiles.foldertype`) are frames around nodes: a node only where an edge ends at one.

Files come from strangers: no document type, so no entities; bounded depth and size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from relaymesh.topology.formats.graph import Edge, Graph, Reading, Vertex, line, short
from relaymesh.topology.formats.native import MEASURES, number_text
from relaymesh.topology.loader import MAX_FILE_BYTES
from relaymesh.topology.model import Topology
from relaymesh.topology.problems import Problem, TopologyError
from relaymesh.topology.source import Place

MAX_DEPTH = 32
MAX_TEXT = 4096  # characters kept of one value
NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
YFILES = "http://www.yworks.com/xml/"  # begins the namespaces of yFiles: graphml, yfiles-common/3.0 …
FOLDER = "yfiles.foldertype"
_ENCODINGS = ("utf-8", "utf-16", "us-ascii", "iso-8859-1")  # those expat knows itself

_NODE_KEYS = (
    ("name", "string"),
    ("label", "string"),
    ("region", "string"),
    ("roles", "string"),
    ("Latitude", "double"),
    ("Longitude", "double"),
    ("Country", "string"),
)
_EDGE_KEYS = (("peering", "string"), *((name, "double") for name in MEASURES), ("LinkSpeedRaw", "double"))


class _Stop(Exception):
    """Reading cannot go on."""


@dataclass(slots=True)
class _Element:
    """An element that holds data: the graph, a node or an edge."""

    kind: str
    place: Place
    attributes: dict[str, str]
    data: dict[str, object] = field(default_factory=dict)  # attribute name in lower case → text
    drawn: str = ""  # the first label of what is drawn
    directed: bool | None = None  # by the arrows that are drawn


def read_graphml(data: bytes, source: str, _reading: Reading | None = None) -> Graph:
    """The graph in *data*; raises ``TopologyError`` where it is no GraphML."""
    graph = Graph(source)
    if len(data) > MAX_FILE_BYTES:
        raise TopologyError((Problem(source, 1, 1, "", f"larger than {MAX_FILE_BYTES >> 20} MiB"),))
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except _Stop as stop:
        raise TopologyError((Problem(source, *reader.place, "", str(stop)),)) from None
    except expat.ExpatError as error:
        place = error.lineno, error.offset + 1
        raise TopologyError(
            (Problem(source, *place, "", f"not XML: {expat.ErrorString(error.code)}"),)
        ) from None
    except (LookupError, ValueError) as error:  # of an encoding Python knows and expat does not
        raise TopologyError((Problem(source, 1, 1, "", f"not XML: {line(str(error), 128)}"),)) from None
    _fill(graph, reader)
    return graph


class _Reader:
    """Parser events to elements, without recursion."""

    def __init__(self) -> None:
        self.elements: list[_Element] = []
        self.skipped: list[tuple[Place, str]] = []
        self.directed = False
        self._keys: dict[str, str] = {}  # id → attribute name
        self._defaults: dict[tuple[str, str], str] = {}  # (for, attribute name) → text
        self._open: list[
            tuple[str, _Element | None]
        ] = []  # what has not ended yet, and what data in it is of
        self._key: tuple[str, str] | None = None  # `for` and attribute name of the key that is open
        self._text: list[str] | None = None
        self._name = ""  # of the data that is open
        self._label: list[str] | None = None  # text of the drawn label that is open
        self._label_depth = 0  # how deep that stands
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.XmlDeclHandler = self._declaration
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    @property
    def place(self) -> Place:
        return self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1

    def default(self, kind: str) -> dict[str, object]:
        """Default attributes of an element of *kind*."""
        return {name: text for (owner, name), text in self._defaults.items() if owner in (kind, "all")}

    def _refuse(self, *_: Any) -> None:
        raise _Stop("a document type is not read")

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise _Stop(f"the encoding {short(encoding)} is not read; UTF-8 is")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = tag.rsplit(" ", 1)[-1]
        if len(self._open) >= MAX_DEPTH:
            raise _Stop(f"nested more than {MAX_DEPTH} deep")
        if not self._open and kind != "graphml":
            raise _Stop(f"not GraphML: the root is {short(kind)}")
        owner = self._open[-1][1] if self._open else None
        if kind in ("graph", "node", "edge"):
            owner = _Element(kind, self.place, attributes)
            if kind == "graph" and not any(element.kind == "graph" for element in self.elements):
                self.directed = attributes.get("edgedefault") == "directed"
            self.elements.append(owner)
        elif kind in ("hyperedge", "port"):
            self.skipped.append((self.place, kind))
            owner = None
        elif kind == "key":
            identity = attributes.get("id", "")
            name = attributes.get("attr.name", identity).lower()
            self._keys[identity] = name
            self._key = attributes.get("for", "all"), name
        elif kind in ("data", "default"):
            self._text = []
            self._name = self._keys.get(attributes.get("key", ""), attributes.get("key", "").lower())
        elif tag.startswith(YFILES) and owner is not None:
            self._start_drawn(kind, owner, attributes)
        self._open.append((kind, owner))

    def _start_drawn(self, kind: str, owner: _Element, attributes: dict[str, str]) -> None:
        """An element of what yFiles draws of *owner*."""
        if kind in ("NodeLabel", "Label.Text") and attributes.get("hasText") != "false":
            self._label, self._label_depth = [], len(self._open) + 1
        elif kind == "Label" and not owner.drawn:
            owner.drawn = attributes.get("Text", "")[:MAX_TEXT].strip()
        elif kind == "Arrows":
            heads = [attributes.get(end, "none") != "none" for end in ("source", "target")]
            owner.directed = heads[0] != heads[1]

    def _characters(self, text: str) -> None:
        if self._label is not None and len(self._open) == self._label_depth:
            self._label.append(text)
        elif self._text is not None:
            self._text.append(text)

    def _end(self, _tag: str) -> None:
        if self._label is not None and len(self._open) == self._label_depth:
            owner = self._open[-1][1]
            if owner is not None:
                owner.drawn = owner.drawn or "".join(self._label)[:MAX_TEXT].strip()
            self._label = None
        kind, owner = self._open.pop()
        if kind == "key":
            self._key = None
        if kind not in ("data", "default") or self._text is None:
            return
        text, self._text = "".join(self._text)[:MAX_TEXT].strip(), None
        if kind == "default" and self._key is not None:
            self._defaults[self._key] = text
        elif kind == "data" and owner is not None and text:
            owner.data.setdefault(self._name, text)


def _fill(graph: Graph, reader: _Reader) -> None:
    for place, kind in reader.skipped:
        graph.warn(place, f"a {kind} is left out")
    nodes, edges = reader.default("node"), reader.default("edge")
    ends = {element.attributes.get(end) for element in reader.elements for end in ("source", "target")}
    for element in reader.elements:
        own, data = element.attributes, element.data
        if element.kind == "graph":
            graph.name = graph.name or _text(data, "name", "label", "network")
            graph.description = graph.description or _text(data, "description")
        elif element.kind == "node":
            data = {**nodes, **data}
            label = _text(data, "label") or element.drawn or None
            vertex = Vertex(own.get("id", ""), element.place, _text(data, "name"), label)
            if "id" not in own:
                graph.error(element.place, "a node has no id")
            elif own.get(FOLDER) in ("group", "folder") and own["id"] not in ends:
                graph.warn(
                    element.place, f"the group {short(label or own['id'])} is left out, its nodes are not"
                )
            else:
                graph.add_vertex(vertex, data)
        else:
            drawn = reader.directed if element.directed is None else element.directed
            directed = {"true": True, "false": False}.get(own.get("directed", ""), drawn)
            edge = Edge(own.get("source", ""), own.get("target", ""), element.place, directed)
            graph.add_edge(edge, {**edges, **data})


def _text(data: dict[str, object], *names: str) -> str | None:
    for name in names:
        if data.get(name):
            return str(data[name])
    return None


def write_graphml(topology: Topology) -> str:
    """*topology* as GraphML: its nodes, and an edge for each direction of every link between them.

    Read again, it gives the same regions, nodes and links. What it does not
    hold: regions without nodes, and which links the file listed and which its defaults made.
    """
    keys = {("graph", "name"): "g0", ("graph", "description"): "g1"}
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f'<graphml xmlns="{NAMESPACE}">']
    for owner, names in (("node", _NODE_KEYS), ("edge", _EDGE_KEYS)):
        for number, (name, _) in enumerate(names):
            keys[owner, name] = f"{owner[0]}{number}"
    kinds = {**dict(_NODE_KEYS), **dict(_EDGE_KEYS)}
    for (owner, name), key in keys.items():
        kind = kinds.get(name, "string")
        lines.append(f'  <key id="{key}" for="{owner}" attr.name="{name}" attr.type="{kind}"/>')

    def data(owner: str, values: dict[str, object], indent: str) -> None:
        for name, value in values.items():
            if value is not None and value != "":
                lines.append(f'{indent}<data key="{keys[owner, name]}">{_xml(value)}</data>')

    lines.append('  <graph id="topology" edgedefault="directed">')
    data("graph", {"name": topology.name, "description": topology.description}, "    ")
    for node in topology.nodes:
        lines.append(f"    <node id={quoteattr(node.name)}>")
        data("node", node_attributes(topology, node.name), "      ")
        lines.append("    </node>")
    for source, target, attributes in topology.graph().edges(data=True):
        lines.append(f"    <edge source={quoteattr(source)} target={quoteattr(target)}>")
        data("edge", edge_attributes(attributes["link"]), "      ")
        lines.append("    </edge>")
    return "\n".join([*lines, "  </graph>", "</graphml>", ""])


def node_attributes(topology: Topology, name: str) -> dict[str, object]:
    """Attributes of a node."""
    node = topology.node(name)
    region = topology.region(node.region)
    return {
        "name": name,
        "label": region.title,
        "region": region.name,
        "roles": " ".join(sorted(node.roles)),
        "Latitude": region.latitude,
        "Longitude": region.longitude,
        "Country": region.country,
    }


def edge_attributes(link: Any) -> dict[str, object]:
    """Attributes of one direction of a link; `LinkSpeedRaw` is for readers of TopologyZoo's files."""
    speed = None if link.capacity_mbps is None else link.capacity_mbps * 1e6
    return {
        "peering": link.peering,
        **{name: getattr(link, name) for name in MEASURES},
        "LinkSpeedRaw": speed,
    }


def _xml(value: object) -> str:
    if isinstance(value, int | float):
        return number_text(value)
    # XML 1.0 has no way to write the other control characters.
    return escape("".join(char for char in str(value) if char.isprintable() or char in "\n\t"))
