"""The API's part that reads, tries and replaces the topology of the running mesh.

``GET /v1/topology``; ``POST /v1/topology/plan`` answers what a file would change,
and changes nothing; ``PUT /v1/topology`` lets it hold, if ``If-Match`` names the
version that holds now (or is ``*``). A file that is no topology is refused with
all that is wrong and where, one that would cut nodes off only unless ``force=1``.

What costs time (parsing, comparing paths) runs in a thread, so that the nodes'
channels do not wait; how many requests may do so, and how much they may send, is
bounded. The core itself is touched by the event loop only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relaymesh.controller.core import ControllerCore
from relaymesh.controller.editing import Edit, EditRefused, prepare
from relaymesh.controller.parts import in_turns
from relaymesh.controller.preview import MAX_SHOWN, Preview, preview
from relaymesh.runtime.settings import is_loopback
from relaymesh.topology import Topology, TopologyError, parse_topology
from relaymesh.topology.describe import describe_problem
from relaymesh.topology.loader import MAX_FILE_BYTES

MAX_AT_ONCE = 4  # requests that hold a body and a thread

Endpoint = Callable[[Request], Awaitable[Response]]
Applied = Callable[[Topology], None]


class TopologyApi:
    """The three endpoints over one core."""

    def __init__(
        self, core: ControllerCore, on_applied: Applied, *, open_to_local: bool, clock: Callable[[], float]
    ) -> None:
        """*on_applied* is called after each change of the core by this API.

        *open_to_local*: there is no admin token; then a request must name a loopback host, or a
        page from anywhere could edit the mesh by a name that resolves to this machine.
        """
        self._core = core
        self._on_applied = on_applied
        self._open_to_local = open_to_local
        self._clock = clock
        self._limit = trio.CapacityLimiter(MAX_AT_ONCE)

    def routes(self, guarded: Callable[[Endpoint], Endpoint]) -> list[Route]:
        """*guarded* asks for the admin token, where one is set."""
        return [
            Route("/v1/topology", guarded(self._get), methods=["GET"]),
            Route("/v1/topology", guarded(self._put), methods=["PUT"]),
            Route("/v1/topology/plan", guarded(self._plan), methods=["POST"]),
        ]

    async def _get(self, request: Request) -> Response:
        topology, version = self._core.topology, self._core.topology_version
        shown = {
            "version": version,
            "name": None if topology is None else topology.name,
            "text": self._core.topology_text,
        }
        return JSONResponse(shown, headers={"ETag": f'"{version}"'})

    async def _plan(self, request: Request) -> Response:
        self._check_host(request)
        try:
            edit, found = await self._preview(request)
        except TopologyError as error:
            return _invalid(error)
        return JSONResponse(self._shown(edit.topology, found))

    async def _put(self, request: Request) -> Response:
        self._check_host(request)
        expected = _expected(request)
        try:
            edit, found = await self._preview(request)
        except TopologyError as error:
            return _invalid(error)
        topology = edit.topology
        if found.cut_off.count and request.query_params.get("force") != "1":
            pairs = "; ".join(f"{a} → {b}" for a, b in found.cut_off.shown[:20])
            more = f" and {found.cut_off.count - 20} more" if found.cut_off.count > 20 else ""
            reason = f"it would leave no way: {pairs}{more} (forced, it is done all the same)"
            return _refused(409, (reason,), **self._shown(topology, found))
        author = request.client.host if request.client else ""
        try:
            self._core.apply_topology(edit, self._clock(), expected=expected, author=author)
        except EditRefused as refusal:
            return _refused(412 if refusal.code == "version" else 409, refusal.reasons)
        self._on_applied(topology)
        shown = self._shown(topology, found)
        return JSONResponse(shown, headers={"ETag": f'"{self._core.topology_version}"'})

    def _shown(self, topology: Topology, found: Preview) -> dict[str, object]:
        return {
            "version": self._core.topology_version,
            "topology": topology.name,
            "warnings": [describe_problem(warning) for warning in topology.warnings[:MAX_SHOWN]],
            **found.as_json(),
        }

    async def _preview(self, request: Request) -> tuple[Edit, Preview]:
        """The topology in the body, and what it would change. Raises TopologyError and HTTPException."""
        try:
            self._limit.acquire_on_behalf_of_nowait(request)
        except trio.WouldBlock:
            raise HTTPException(503, "busy with other topologies", {"Retry-After": "1"}) from None
        try:
            body = await _body(request)
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            source = "topology.json" if kind == "application/json" else "topology.yaml"
            topology = await trio.to_thread.run_sync(parse_topology, body, source)
            edit = await trio.to_thread.run_sync(prepare, topology, self._core.topology)
            situation = await in_turns(self._core.view.situation())
            return edit, await trio.to_thread.run_sync(preview, situation, topology)
        finally:
            self._limit.release_on_behalf_of(request)

    def _check_host(self, request: Request) -> None:
        if self._open_to_local and not is_loopback(request.url.hostname or ""):
            raise HTTPException(403, "without an admin token only requests to a loopback host may do this")


async def _body(request: Request) -> bytes:
    """All of the body. Raises HTTPException where it is too long."""
    data = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > MAX_FILE_BYTES:
                raise HTTPException(413, f"larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    return bytes(data)


def _expected(request: Request) -> str | None:
    """The version named by If-Match; None for any."""
    given = request.headers.get("if-match", "").strip()
    if not given:
        raise HTTPException(428, "say by If-Match which version this replaces (GET /v1/topology tells), or *")
    return None if given == "*" else given.removeprefix("W/").strip('"')


def _invalid(error: TopologyError) -> JSONResponse:
    problems = [describe_problem(problem) for problem in error.problems]
    return _refused(400, tuple(map(str, error.problems)), problems=problems)


def _refused(status: int, reasons: tuple[str, ...], **more: object) -> JSONResponse:
    return JSONResponse({"error": "; ".join(reasons[:20]), "reasons": list(reasons), **more}, status)
