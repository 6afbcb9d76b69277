"""NetJSON NetworkGraph to a graph, and a topology to NetJSON.

Understood of a node: `id`, `label`, and in its `properties` coordinates
(`latitude`/`longitude`, or `location: {lat, lng}` as netjsongraph.js has it),
`name`, `region`, `roles`, `country`; of a link: `source`, `target` and in its `properties`
the measures of our own format by their names. A `cost` has no unit and is not
read. A link that stands there in one direction only holds for both. Of a
NetworkCollection one graph is read, which the caller names where there are several.
Source: NetJSON (netjson.org/rfc.html, NetworkGraph).
"""

from __future__ import annotations

import json
from typing import Any

from relaymesh.topology.formats.graph import Edge, Graph, Reading, Vertex, line, short, slug, usable_name
from relaymesh.topology.formats.graphml import edge_attributes, node_attributes
from relaymesh.topology.loader import MAX_FILE_BYTES
from relaymesh.topology.model import Topology
from relaymesh.topology.problems import Problem, TopologyError

MAX_CHOICES = 16  # graphs of a collection that a message lists
MAX_NESTED = 4  # collections in collections
_TOP = (1, 1)  # JSON is read without places; problems have paths


def read_netjson(data: bytes, source: str, reading: Reading | None = None) -> Graph:
    """The graph in *data*; raises ``TopologyError`` where it is no NetworkGraph."""
    graph = Graph(source)
    document = _network_graph(_loaded(data, source), source, (reading or Reading()).graph)
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


def _network_graph(document: object, source: str, wanted: str | None) -> dict[str, Any]:
    """The NetworkGraph that *document* is, or the *wanted* one of the collection that it is."""
    found = [document]
    if isinstance(document, dict) and document.get("type") == "NetworkCollection":
        found = _members(document, 0)
    graphs = [one for one in found if isinstance(one, dict) and one.get("type") == "NetworkGraph"]
    if not graphs:
        message = (
            "not a NetJSON NetworkGraph" if found == [document] else "the collection holds no NetworkGraph"
        )
        raise TopologyError(
            (Problem(source, *_TOP, "type" if found == [document] else "collection", message),)
        )
    chosen = graphs if wanted is None else _called(graphs, wanted)
    if len(chosen) == 1:
        return chosen[0]
    choices = ", ".join(_choice(number, graph) for number, graph in enumerate(graphs[:MAX_CHOICES]))
    choices += f" and {len(graphs) - MAX_CHOICES} more" if len(graphs) > MAX_CHOICES else ""
    if wanted is None:
        message = f"there are {len(graphs)} graphs, choose one by its label or number: {choices}"
    elif chosen:
        message = f"{len(chosen)} graphs are called {short(wanted)}, choose by number: {choices}"
    else:
        message = f"no graph is called {short(wanted)}; there are: {choices}"
    raise TopologyError((Problem(source, *_TOP, "collection", message),))


def _members(collection: dict[str, Any], depth: int) -> list[object]:
    """Members of a collection, nested collections opened (as deep as anybody would write them)."""
    members = collection.get("collection")
    found: list[object] = []
    for member in members if isinstance(members, list) else []:
        if depth < MAX_NESTED and isinstance(member, dict) and member.get("type") == "NetworkCollection":
            found += _members(member, depth + 1)
        else:
            found.append(member)
    return found


def _called(graphs: list[dict[str, Any]], wanted: str) -> list[dict[str, Any]]:
    """The graphs whose label or topology_id is *wanted*, else the one of that number."""
    found = [
        graph for graph in graphs if wanted in (_text(graph.get("label")), _text(graph.get("topology_id")))
    ]
    if found or not (wanted.isascii() and wanted.isdigit() and len(wanted) < 9):
        return found
    return graphs[int(wanted) : int(wanted) + 1]


def _choice(number: int, graph: dict[str, Any]) -> str:
    """A graph as a choice: `1 'IPv6' (olsr, 12 nodes)`."""
    label = _text(graph.get("label")) or _text(graph.get("topology_id"))
    nodes = graph.get("nodes")
    count = f"{len(nodes)} nodes" if isinstance(nodes, list) else "no nodes"
    protocol = line(graph.get("protocol"), 32)
    return f"{number}{f' {short(label)}' if label else ''} ({f'{protocol}, ' if protocol else ''}{count})"


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
