"""A mesh that only exists as state: three regions, a stream, links that can be cut."""

from __future__ import annotations

import itertools
from typing import Any

from relaymesh.demo.page import LinkError

PLACES = {"dallas": (32.78, -96.80), "washington-dc": (38.91, -77.04), "london": (51.51, -0.13)}
TITLES = {"dallas": "Dallas", "washington-dc": "Washington, D.C.", "london": "London"}
ROUND_TRIPS_MS = {
    ("dallas-1", "washington-dc-1"): 31.8,
    ("washington-dc-1", "london-1"): 76.1,
    ("dallas-1", "london-1"): 113.4,
}


class FakeMesh:
    def __init__(self, http_url: str = "http://127.0.0.1:9") -> None:
        self.http_url = http_url
        self.down: set[tuple[str, str]] = set()
        self.controller = True
        self.published = True
        self.names = [f"{region}-1" for region in PLACES]
        self.refuse: LinkError | None = None

    async def set_link(self, a: str, b: str, down: bool) -> None:
        if self.refuse:
            raise self.refuse
        key = (a, b) if (a, b) in ROUND_TRIPS_MS else (b, a)
        if key not in ROUND_TRIPS_MS:
            raise LinkError(f"there is no link between {a} and {b}", 404)
        (self.down.add if down else self.down.discard)(key)

    def state(self) -> dict[str, object]:
        return {
            "demo": {
                "room": "demo",
                "participant": "clock",
                "watch_region": "london",
                "titles": TITLES,
            },
            "controller": self.controller_state() if self.controller else None,
            "nodes": {name: self.node_status(name) for name in self.names},
            "links": [
                {"a": a, "b": b, "down": (a, b) in self.down, "delay_ms": rtt / 2}
                for (a, b), rtt in ROUND_TRIPS_MS.items()
            ],
        }

    def path(self, edge: str) -> list[str]:
        ways = {
            "dallas-1": [["dallas-1"]],
            "washington-dc-1": [["dallas-1", "washington-dc-1"], ["dallas-1", "london-1", "washington-dc-1"]],
            "london-1": [["dallas-1", "washington-dc-1", "london-1"], ["dallas-1", "london-1"]],
        }[edge]
        for way in ways:
            steps = itertools.pairwise(way)
            if not any((a, b) in self.down or (b, a) in self.down for a, b in steps):
                return way
        return []

    def controller_state(self) -> dict[str, Any]:
        links = []
        for (a, b), rtt in ROUND_TRIPS_MS.items():
            for source, target in ((a, b), (b, a)):
                up = (a, b) not in self.down
                link = {"from": source, "to": target, "up": up, "rtt_ms": rtt, "jitter_ms": 0.4, "loss": 0.0}
                links.append(link | {"cost_ms": rtt / 2})
        tracks = [
            {"track": 0, "kind": "video", "codec": "VP8"},
            {"track": 1, "kind": "audio", "codec": "opus"},
        ]
        stream = {"room": "demo", "participant": "clock", "ingress": "dallas-1", "tracks": tracks}
        paths = {edge: path for edge in ("london-1", "washington-dc-1") if (path := self.path(edge))}
        stream |= {"edges": list(paths), "paths": paths}
        return {
            "topology": "three-regions",
            "generation": 7,
            "active_generation": 7,
            "nodes": [
                {
                    "index": index,
                    "name": name,
                    "region": name[:-2],
                    "connected": True,
                    "http_url": self.http_url,
                    "sessions": 1,
                    "place": dict(zip(("latitude", "longitude"), PLACES[name[:-2]], strict=True)),
                }
                for index, name in enumerate(self.names)
            ],
            "links": links,
            "publications": [stream] if self.published else [],
        }

    def node_status(self, name: str) -> dict[str, Any]:
        transit = name == "washington-dc-1"
        return {
            "node": name,
            "region": name[:-2],
            "controller": "connected",
            "links": [],
            "publications": [],
            "sessions": [],
            "forwarded": {"packets": 2500 if transit else 0, "packets_per_s": 95.0 if transit else 0.0},
            "counters": {},
        }
