"""A containerlab topology file to a graph.

Understood: `name`, `topology.nodes` and `topology.links`, in the short form
(`endpoints: ["a:eth1", "b:eth1"]`) and the long one (`endpoints: [{node: a, interface: eth1}, …]`).
Links to the host, to the management network and the like are left out. A
file says nothing of delays; the coordinates that containerlab's viewers keep in a node's labels
(`graph-geoCoordinateLat`, `graph-geoCoordinateLng`) give them, or the measures of
our own format in a link's `labels` or `vars` (`delay_ms: 12`). A node's label `region` puts it there.
Source: containerlab.dev/manual/topo-def-file.
"""

from __future__ import annotations

from collections.abc import Iterator

from relaymesh.topology.formats.graph import Edge, Graph, Vertex, short
from relaymesh.topology.loader import MAX_FILE_BYTES
from relaymesh.topology.problems import Problem, TopologyError
from relaymesh.topology.source import SourceError, SourceNode, read_source

# Ends of links that are no nodes of the lab.
OUTSIDE = ("host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "dummy")
_LABELS = {"graph-geocoordinatelat": "latitude", "graph-geocoordinatelng": "longitude"}


def read_containerlab(data: bytes, source: str) -> Graph:
    """The graph in *data*; raises ``TopologyError`` where it is no containerlab topology."""
    graph = Graph(source)
    root = _root(data, source)
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
    for key, node in nodes.value.items():
        labels = _attributes(_child(node, "labels"))
        vertex = Vertex(key, nodes.key_places[key], key, None)
        graph.add_vertex(vertex, {_LABELS.get(label, label): value for label, value in labels.items()})
    links = _child(topology, "links")
    if links is None or links.value is None:
        return graph
    if not isinstance(links.value, list):
        graph.error(links.place, "must be a list", "topology.links")
        return graph
    for index, link in enumerate(links.value):
        _add_link(graph, link, f"topology.links[{index}]")
    return graph


def _root(data: bytes, source: str) -> SourceNode:
    if len(data) > MAX_FILE_BYTES:
        raise TopologyError((Problem(source, 1, 1, "", f"larger than {MAX_FILE_BYTES >> 20} MiB"),))
    try:
        root, problems = read_source(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise TopologyError((Problem(source, 1, 1, "", "not UTF-8"),)) from None
    except SourceError as error:
        raise TopologyError((Problem(source, *error.place, "", error.message),)) from None
    if problems:
        raise TopologyError(tuple(Problem(source, *place, "", message) for _, place, message in problems))
    return root


def _child(node: SourceNode, key: str) -> SourceNode | None:
    return node.value.get(key) if isinstance(node.value, dict) else None


def _attributes(node: SourceNode | None) -> dict[str, object]:
    """The scalars of a mapping, by their keys in lower case."""
    if node is None or not isinstance(node.value, dict):
        return {}
    return {
        key.lower(): child.value
        for key, child in node.value.items()
        if not isinstance(child.value, list | dict)
    }


def _add_link(graph: Graph, link: SourceNode, path: str) -> None:
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
    outside = [end for end in ends if end in OUTSIDE and end not in graph.vertices]
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
