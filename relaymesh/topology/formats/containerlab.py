"""A containerlab topology file to a graph.

Understood: `name`, `topology.nodes` and `topology.links`, in the short form
(`endpoints: ["a:eth1", "b:eth1"]`) and the long one (`endpoints: [{node: a, interface: eth1}, …]`).
Links to the host, to the management network and the like are left out. Nodes whose kind is a
bridge are no nodes of the mesh: what is linked to one is linked to all on it. A
file says nothing of delays; the coordinates that containerlab's viewers keep in a node's labels
(`graph-geoCoordinateLat`, `graph-geoCoordinateLng`) give them, or the measures of
our own format in a link's `labels` or `vars` (`delay_ms: 12`). A node's label `region` puts it there.

Labels and kinds come down to a node as in containerlab: its own go before those of its group,
then its kind, then the defaults. Environment variables (:mod:`variables`), anchors
and merge keys are read; templates (`.gotmpl`) are not.
Source: containerlab.dev/manual/topo-def-file, and types/topology.go for the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relaymesh.topology.formats.graph import Edge, Graph, Reading, Vertex, short
from relaymesh.topology.formats.joints import join_through
from relaymesh.topology.formats.variables import VariableError, expand
from relaymesh.topology.loader import MAX_FILE_BYTES
from relaymesh.topology.problems import Problem, TopologyError
from relaymesh.topology.source import Place, SourceError, SourceNode, read_source

# Ends of links that are no nodes of the lab.
OUTSIDE = ("host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "dummy")
BRIDGES = ("bridge", "ovs-bridge")  # kinds
HOST = "host"  # the kind of a node that stands for the machine the lab runs on
_LABELS = {"graph-geocoordinatelat": "latitude", "graph-geocoordinatelng": "longitude"}


def read_containerlab(data: bytes, source: str, reading: Reading | None = None) -> Graph:
    """The graph in *data*; raises ``TopologyError`` where it is no containerlab topology."""
    graph = Graph(source)
    root = _root(graph, data, (reading or Reading()).environment)
    topology = _child(root, "topology")
    if topology is None or not isinstance(topology.value, dict):
        raise TopologyError((Problem(source, *root.place, "", "not containerlab: no 'topology'"),))
    name = _child(root, "name")
    if name is not None and isinstance(name.value, str | int):
        graph.name = str(name.value)
    nodes = _child(topology, "nodes")
    if nodes is None or not isinstance(nodes.value, dict):
        graph.error(topology.place, "must be a mapping of nodes", "topology.nodes")
        return graph
    bridges, hosts = _add_nodes(graph, topology, nodes)
    links = _child(topology, "links")
    if links is not None and links.value is not None:
        _add_links(graph, links, hosts)
    if bridges:
        join_through(graph, bridges)
    return graph


def _root(graph: Graph, data: bytes, environment: Mapping[str, str]) -> SourceNode:
    source = graph.source
    if len(data) > MAX_FILE_BYTES:
        raise TopologyError((Problem(source, 1, 1, "", f"larger than {MAX_FILE_BYTES >> 20} MiB"),))
    try:
        text = _expanded(graph, data.decode("utf-8-sig"), environment)
        root, problems = read_source(text, aliases=True)
    except UnicodeDecodeError:
        raise TopologyError((Problem(source, 1, 1, "", "not UTF-8"),)) from None
    except SourceError as error:
        raise TopologyError((Problem(source, *error.place, "", error.message),)) from None
    if problems:
        raise TopologyError(tuple(Problem(source, *place, "", message) for _, place, message in problems))
    return root


def _expanded(graph: Graph, text: str, environment: Mapping[str, str]) -> str:
    """Replace the variables before the YAML is read, as containerlab does; a value may be any part of it."""
    try:
        found = expand(text, environment, MAX_FILE_BYTES)
    except VariableError as error:
        raise SourceError(_place(text, error.offset), error.message) from None
    for name, offset in found.used.items():
        graph.warn(_place(text, offset), f"the value of {short(name)} is the environment's")
    for name, offset in found.unset.items():
        graph.warn(
            _place(text, offset), f"{short(name)} is not set and has no default: left as it is written"
        )
    return found.text


def _place(text: str, offset: int) -> Place:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _child(node: SourceNode | None, key: str) -> SourceNode | None:
    return node.value.get(key) if node is not None and isinstance(node.value, dict) else None


def _add_nodes(graph: Graph, topology: SourceNode, nodes: SourceNode) -> tuple[list[str], set[str]]:
    """Add the lab's nodes, bridges among them; the keys of the bridges, and of nodes that are the host."""
    bridges, hosts = list[str](), set[str]()
    assert isinstance(nodes.value, dict), "judged before"
    for key, node in nodes.value.items():
        levels = _levels(topology, node)
        kind = next((kind for level in levels if (kind := _word(level, "kind"))), None)
        if kind == HOST:
            hosts.add(key)
            graph.warn(nodes.key_places[key], f"{short(key)} stands for the host: left out")
            continue
        labels = {
            name: value
            for level in reversed(levels)
            for name, value in _attributes(_child(level, "labels")).items()
        }
        vertex = Vertex(key, nodes.key_places[key], key, None)
        graph.add_vertex(vertex, {_LABELS.get(label, label): value for label, value in labels.items()})
        if kind in BRIDGES:
            bridges.append(key)
    return bridges, hosts


def _levels(topology: SourceNode, node: SourceNode) -> list[SourceNode]:
    """Levels that a node inherits from, the nearest first: itself, its group, its kind, the defaults."""
    defaults = _child(topology, "defaults")
    kinds, groups = _child(topology, "kinds"), _child(topology, "groups")
    own_kind = _child(kinds, _word(node, "kind"))
    group = _child(groups, _word(node, "group") or _word(own_kind, "group") or _word(defaults, "group"))
    kind = _word(node, "kind") or _word(group, "kind") or _word(defaults, "kind")
    return [level for level in (node, group, _child(kinds, kind), defaults) if level is not None]


def _word(node: SourceNode | None, key: str) -> str:
    found = _child(node, key)
    return found.value if found is not None and isinstance(found.value, str) else ""


def _add_links(graph: Graph, links: SourceNode, hosts: set[str]) -> None:
    if not isinstance(links.value, list):
        graph.error(links.place, "must be a list", "topology.links")
        return
    for index, link in enumerate(links.value):
        _add_link(graph, link, f"topology.links[{index}]", hosts)


def _attributes(node: SourceNode | None) -> dict[str, object]:
    """The scalars of a mapping, by their keys in lower case."""
    if node is None or not isinstance(node.value, dict):
        return {}
    return {
        key.lower(): child.value
        for key, child in node.value.items()
        if not isinstance(child.value, list | dict)
    }


def _add_link(graph: Graph, link: SourceNode, path: str, hosts: set[str]) -> None:
    if not isinstance(link.value, dict):
        graph.error(link.place, "must be a mapping", path)
        return
    endpoints = _child(link, "endpoints")
    if endpoints is None and (_child(link, "endpoint") is not None or _child(link, "type") is not None):
        graph.warn(link.place, "a link with one end in the lab is left out", path)
        return
    ends = list(_ends(endpoints)) if endpoints is not None else []
    if len(ends) != 2 or None in ends:
        graph.error(link.place, 'must have endpoints, two of "node:interface" or {node, interface}', path)
        return
    known = [end for end in ends if end in graph.vertices]
    outside = [end for end in ends if end in hosts or (end in OUTSIDE and end not in graph.vertices)]
    if outside:
        graph.warn(link.place, f"a link to {short(outside[0])} is left out", path)
    elif len(known) < 2:
        unknown = next(end for end in ends if end not in graph.vertices)
        graph.error(link.place, f"no node {short(unknown)}", path)
    else:
        attributes = {**_attributes(_child(link, "labels")), **_attributes(_child(link, "vars"))}
        graph.add_edge(Edge(known[0], known[1], link.place, directed=False), attributes, path)


def _ends(endpoints: SourceNode) -> Iterator[str | None]:
    """The node of each end; ``None`` where there is none."""
    if not isinstance(endpoints.value, list):
        return
    for end in endpoints.value:
        node: SourceNode | None = _child(end, "node")
        if node is not None and isinstance(node.value, str | int):
            yield str(node.value)
        elif isinstance(end.value, str):
            yield end.value.split(":")[0] or None
        else:
            yield None
