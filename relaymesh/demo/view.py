"""State of the mesh, by its own word: asks the controller and the nodes, merges it, and cuts links.

In: a :class:`Plan` and an HTTP client. Out: the state the page and the table draw, and evidence for the
verdict. A part that does not answer is left out, and asked again: the demo watches, it does not judge.
"""

from __future__ import annotations

from typing import Any

import httpx
import trio

from relaymesh.demo.checks import Evidence
from relaymesh.demo.page import LinkError
from relaymesh.demo.plan import PARTICIPANT, ROOM, Plan

POLL_S = 0.5
ANSWER_WITHIN_S = 2.0


class MeshView:
    """The latest state of the whole mesh."""

    def __init__(self, plan: Plan, http: httpx.AsyncClient) -> None:
        self.plan = plan
        self.controller: dict[str, Any] | None = None
        self.nodes: dict[str, dict[str, Any] | None] = {node.name: None for node in plan.nodes}
        self.evidence = Evidence(plan.title(plan.path[0]), plan.title(plan.path[-1]), plan.path_delay_ms)
        self._down: set[frozenset[str]] = set()
        self._http = http

    async def refresh(self) -> None:
        """Ask everybody at once."""

        async def ask_node(name: str) -> None:
            self.nodes[name] = await self._get(f"{self.plan.node(name).http_url}/status")

        async def ask_controller() -> None:
            self.controller = await self._get(f"{self.plan.api_url}/v1/state")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_controller)
            for name in self.nodes:
                nursery.start_soon(ask_node, name)
        self._note()

    def state(self) -> dict[str, object]:
        """Answer of ``/api/state``."""
        return {
            "demo": {
                "room": ROOM,
                "participant": PARTICIPANT,
                "watch_region": self.plan.node(self.plan.path[-1]).region,
                "titles": {region.name: region.title for region in self.plan.topology.regions},
            },
            "controller": self.controller,
            "nodes": self.nodes,
            "links": [
                {"a": a, "b": b, "down": frozenset((a, b)) in self._down, "delay_ms": rtt_ms / 2}
                for a, b, rtt_ms in self.plan.links
            ],
        }

    async def set_link(self, a: str, b: str, down: bool) -> None:
        """Cut or restore a link at both of its ends.

        Raises:
            LinkError: there is no such link, or a node did not obey.
        """
        if not any({a, b} == {one, other} for one, other, _ in self.plan.links):
            raise LinkError(f"there is no link between {a} and {b}", 404)
        for here, there in ((a, b), (b, a)):
            url = f"{self.plan.node(here).http_url}/emulation/links/{there}"
            try:
                response = await self._http.post(url, json={"down": down}, timeout=ANSWER_WITHIN_S)
            except httpx.HTTPError as error:
                raise LinkError(f"{here} does not answer: {error or type(error).__name__}", 502) from None
            if not response.is_success:
                raise LinkError(f"{here} refused: {response.text.strip()[:200]}", 502)
        (self._down.add if down else self._down.discard)(frozenset((a, b)))

    def ready(self) -> bool:
        """Check that all nodes have joined, and all their links are up."""
        if self.controller is None:
            return False
        joined = {node["name"] for node in self.controller["nodes"] if node["connected"]}
        up = {(link["from"], link["to"]) for link in self.controller["links"] if link["up"]}
        wanted = {(a, b) for one, other, _ in self.plan.links for a, b in ((one, other), (other, one))}
        return joined >= set(self.nodes) and up >= wanted

    def stream(self) -> dict[str, Any] | None:
        """The headless participant's stream, as the controller knows it."""
        streams = self.controller["publications"] if self.controller else []
        for stream in streams:
            if (stream["room"], stream["participant"]) == (ROOM, PARTICIPANT):
                return dict(stream)
        return None

    def _note(self) -> None:
        stream = self.stream()
        path = stream["paths"].get(self.plan.path[-1]) if stream else None
        if path:
            self.evidence.paths.append(tuple(path))
        for name, status in self.nodes.items():
            if status is not None:
                self.evidence.forwarded.setdefault(name, []).append(status["forwarded"]["packets"])

    async def _get(self, url: str) -> dict[str, Any] | None:
        try:
            response = await self._http.get(url, timeout=ANSWER_WITHIN_S)
            return dict(response.json()) if response.is_success else None
        except (httpx.HTTPError, ValueError):
            return None
