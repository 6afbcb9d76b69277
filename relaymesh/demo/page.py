"""The demo's HTTP application: the page, its files, the mesh's state, and the switch of a link.

In: a :class:`MeshSource` that knows the state and cuts links. Out: a Starlette application. Knows no
processes and no sockets.
"""

from __future__ import annotations

import json
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from relaymesh.web import DEMO_PAGES, load_pages

MAX_BODY_BYTES = 1024


class LinkError(Exception):
    """A link was not changed; the text says why, ``status`` is the HTTP status for it."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class MeshSource(Protocol):
    """Interface through which the page sees the mesh."""

    def state(self) -> dict[str, object]:
        """Answer of ``/api/state``: ``demo``, ``controller``, ``nodes`` and ``links``."""

    async def set_link(self, a: str, b: str, down: bool) -> None:
        """Cut or restore the link between two nodes, in both directions.

        Raises:
            LinkError: there is no such link, or a node did not obey.
        """


def make_page(mesh: MeshSource) -> Starlette:
    """The application."""
    pages = load_pages(DEMO_PAGES)

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "demo.html")
        found = pages.get(name)
        if found is None:
            return PlainTextResponse(f"there is no page {name!r}\n", 404)
        return Response(found.body, headers={"content-type": found.content_type, "cache-control": "no-cache"})

    async def state(_request: Request) -> Response:
        return JSONResponse(mesh.state(), headers={"cache-control": "no-store"})

    async def set_link(request: Request) -> Response:
        # A form of another site can post here without asking first, but not JSON.
        if not request.headers.get("content-type", "").startswith("application/json"):
            return PlainTextResponse("send application/json\n", 415)
        try:
            body = await _small_json(request)
            down = body["down"]
            if not isinstance(down, bool):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            return PlainTextResponse('send {"down": true} or {"down": false}\n', 400)
        try:
            await mesh.set_link(request.path_params["a"], request.path_params["b"], down)
        except LinkError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        return JSONResponse({"down": down})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/healthz", lambda _request: PlainTextResponse("ok\n")),
            Route("/api/state", state),
            Route("/api/links/{a}/{b}", set_link, methods=["POST"]),
            Route("/{name}", page),
        ]
    )


async def _small_json(request: Request) -> dict[str, object]:
    data = b""
    async for chunk in request.stream():
        if len(data) <= MAX_BODY_BYTES:  # what is beyond that is read, and thrown away
            data += chunk
    if len(data) > MAX_BODY_BYTES:
        raise ValueError("too long")
    value = json.loads(data)
    if not isinstance(value, dict):
        raise TypeError
    return value
