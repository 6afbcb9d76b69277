"""NetJSON NetworkGraph to a graph, and a topology to NetJSON.

Understood of a node: `id`, `label`, and in its `properties` coordinates
(`latitude`/`longitude`, or `location: {lat, lng}` as netjsongraph.js has it),
`name`, `region`, `roles`, `country`; of a link: `source`, `target` and in its `properties`
the measures of our own format by their names. A `cost` has no unit and is not
read. A link that stands there in one direction only holds for both.
Source: NetJSON (netjson.org/rfc.html, NetworkGraph).
"""

from __future__ import annotations

import json
from typing import Any

from relaymesh.topology.formats.graph import Edge, Graph, Vertex, line, slug, usable_name
from relaymesh.topology.formats.graphml import edge_attributes, node_attributes
from relaymesh.topology.loader import MAX_FILE_BYTES
from relaymesh.topology.model import Topology
from relaymesh.topology.problems import Problem, TopologyError

_TOP = (1, 1)  # JSON is read without places; problems have paths


def read_netjson(data: bytes, source: str) -> Graph:
    """The graph in *data*; raises ``TopologyError`` where it is no NetworkGraph."""
    graph = Graph(source)
    document = _network_graph(_loaded(data, source), source)
    graph.name = _text(document.get("topology_id")) or _text(document.get("label"))
    graph.description = _text(document.get("description"))
    for path, node in _entries(graph, document, "nodes"):
        key = node.get("id")
        if not isinstance(key, str | int) or isinstance(key, bool):
            graph.error(_TOP, "a node must have an id", path)
            continue
        properties = _properties(node)
        label = _text(node.get("label"))
        # A label goes before the id, which often is an address or a number.
        name = _text(properties.get("name")) or (label if label and usable_name(label) else None)
        if not name and not slug(label or ""):
            name = str(key)
        graph.add_vertex(Vertex(str(key), _TOP, name, label), properties, path)
    links = list(_entries(graph, document, "links"))
    given = {(str(link.get("source")), str(link.get("target"))) for _, link in links}
    for path, link in links:
        ends = str(link.get("source")), str(link.get("target"))
        graph.add_edge(Edge(*ends, _TOP, directed=ends[::-1] in given), _properties(link), path)
    return graph


def _loaded(data: bytes, source: str) -> object:
    if len(data) > MAX_FILE_BYTES:
        raise TopologyError((Problem(source, *_TOP, "", f"larger than {MAX_FILE_BYTES >> 20} MiB"),))
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        problem = Problem(source, error.lineno, error.colno, "", f"not JSON: {error.msg}")
    except UnicodeDecodeError:
        problem = Problem(source, *_TOP, "", "not UTF-8")
    except (ValueError, RecursionError) as error:  # numbers without end, lists without end
        problem = Problem(source, *_TOP, "", f"not JSON: {line(str(error), 128)}")
    raise TopologyError((problem,))


def _network_graph(document: object, source: str) -> dict[str, Any]:
    """The NetworkGraph that *document* is, or is a collection with one of."""
    found = [document]
    if isinstance(document, dict) and document.get("type") == "NetworkCollection":
        collection = document.get("collection")
        found = [
            entry
            for entry in (collection if isinstance(collection, list) else [])
            if isinstance(entry, dict) and entry.get("type") == "NetworkGraph"
        ]
        if len(found) != 1:
            message = f"a collection must hold one NetworkGraph, not {len(found)}"
            raise TopologyError((Problem(source, *_TOP, "collection", message),))
    graph = found[0]
    if not isinstance(graph, dict) or graph.get("type") != "NetworkGraph":
        raise TopologyError((Problem(source, *_TOP, "type", "not a NetJSON NetworkGraph"),))
    return graph


def _entries(graph: Graph, document: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    entries = document.get(key)
    if not isinstance(entries, list):
        graph.error(_TOP, "must be a list", key)
        return []
    found = []
    for index, entry in enumerate(entries):
        if isinstance(entry, dict):
            found.append((f"{key}[{index}]", entry))
        else:
            graph.error(_TOP, "must be an object", f"{key}[{index}]")
    return found


def _properties(entry: dict[str, Any]) -> dict[str, object]:
    properties = entry.get("properties")
    found: dict[str, object] = {}
    for level in (entry, properties):
        if isinstance(level, dict):
            location = level.get("location")
            found.update(location if isinstance(location, dict) else {})
    if isinstance(properties, dict):
        found.update((key.lower(), value) for key, value in properties.items())
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def write_netjson(topology: Topology) -> str:
    """*topology* as a NetworkGraph: its nodes, and a link for each direction between them.

    `cost` is the routing cost the topology leads one to expect, milliseconds.
    Read again, it gives the same regions, nodes and links; see :func:`write_graphml`.
    """
    nodes, links = [], []
    for node in topology.nodes:
        attributes = node_attributes(topology, node.name)
        properties = {key.lower(): value for key, value in attributes.items() if value is not None}
        nodes.append({"id": node.name, "label": properties.pop("label"), "properties": properties})
    for source, target, edge in topology.graph().edges(data=True):
        values = edge_attributes(edge["link"])
        del values["LinkSpeedRaw"]
        cost = edge["link"].cost_ms
        links.append(
            {
                "source": source,
                "target": target,
                "cost": cost,
                "cost_text": f"{cost:.3g} ms",
                "properties": {key: value for key, value in values.items() if value is not None},
            }
        )
    document = {
        "type": "NetworkGraph",
        "protocol": "static",
        "version": None,
        "metric": "cost_ms",
        "topology_id": topology.name,
        "label": topology.name,
        "description": topology.description,
        "nodes": nodes,
        "links": links,
    }
    return json.dumps(document, indent=2) + "\n"
