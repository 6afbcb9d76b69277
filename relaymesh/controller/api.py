"""The JSON API: the present state of the mesh, and its topology (:mod:`topology_api`).

``GET /healthz``, and with the admin token, where one is set, as Bearer:
``GET /v1/state``, ``GET /v1/path?from=NODE&to=NODE``, ``GET /v1/routes?from=NODE``,
``GET /v1/routes/explain?from=NODE&to=NODE``, ``GET /v1/debug``,
``GET | PUT /v1/topology``, ``POST /v1/topology/plan``. Only PUT changes anything.
``GET /v1/edges`` (:mod:`edges_api`) is open to all, and limited.
Errors are ``{"error": "…"}``.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relaymesh.controller.core import ControllerCore
from relaymesh.controller.edges_api import EdgesApi, Locate
from relaymesh.controller.parts import encode_json, in_turns
from relaymesh.controller.topology_api import Applied, Endpoint, TopologyApi


class MeshApi:
    """The endpoints that read the mesh, the guard of the admin token, and the app of all three APIs."""

    def __init__(
        self, core: ControllerCore, admin_token: str | None, more_debug: Callable[[], dict[str, object]]
    ) -> None:
        """*more_debug* returns the entries of ``/v1/debug`` beside the core's."""
        self._core = core
        self._admin_token = admin_token
        self._more_debug = more_debug

    def routes(self) -> list[Route]:
        return [
            Route("/healthz", self._health),
            Route("/v1/state", self.guarded(self._state)),
            Route("/v1/path", self.guarded(self._path)),
            Route("/v1/routes", self.guarded(self._routes)),
            Route("/v1/routes/explain", self.guarded(self._explain)),
            Route("/v1/debug", self.guarded(self._debug)),
        ]

    def is_admin(self, request: Request) -> bool:
        """True when a token is set and *request* brings it."""
        return self._admin_token is not None and _is_bearer(request, self._admin_token)

    def guarded(self, endpoint: Endpoint) -> Endpoint:
        """Wrap *endpoint* to require the admin token, where one is set."""

        async def checked(request: Request) -> Response:
            if not is_admitted(request, self._admin_token):
                raise HTTPException(
                    401, "the admin token is missing or wrong", {"WWW-Authenticate": "Bearer"}
                )
            return await endpoint(request)

        return checked

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def _state(self, request: Request) -> Response:
        return await _long(await in_turns(self._core.view.state()))

    async def _path(self, request: Request) -> Response:
        start, end = _two_nodes(request)
        found = self._core.path(start, end)
        if found is None:
            raise _no_path(start, end)
        return JSONResponse(found)

    async def _explain(self, request: Request) -> Response:
        start, end = _two_nodes(request)
        work_out = self._core.explanation(start, end)
        if work_out is None:
            raise _no_path(start, end)
        return JSONResponse(await trio.to_thread.run_sync(work_out))

    async def _routes(self, request: Request) -> Response:
        start = request.query_params.get("from", "")
        found = await in_turns(self._core.view.routes(start))
        if found is None:
            raise HTTPException(404, f"there is no node {start!r}: /v1/routes?from=NODE")
        return await _long({"from": start, "routes": found})

    async def _debug(self, request: Request) -> Response:
        return await _long(await in_turns(self._core.debug_in_parts()) | self._more_debug())


def make_api(
    core: ControllerCore,
    admin_token: str | None,
    more_debug: Callable[[], dict[str, object]],
    on_applied: Applied,
    clock: Callable[[], float] = trio.current_time,
    locate: Locate | None = None,
) -> Starlette:
    """The ASGI app over *core*.

    *more_debug* returns the entries of ``/v1/debug`` beside the core's; *on_applied* is called when
    a topology took the place of another; *locate* finds the place of an IP address, if that can be known.
    """
    mesh = MeshApi(core, admin_token, more_debug)
    edges = EdgesApi(core, locate, mesh.is_admin, clock)
    topology = TopologyApi(core, on_applied, open_to_local=admin_token is None, clock=clock)
    return Starlette(
        routes=[*mesh.routes(), *edges.routes(), *topology.routes(mesh.guarded)],
        exception_handlers={HTTPException: _error},
    )


def _two_nodes(request: Request) -> tuple[str, str]:
    """The nodes named by ``from`` and ``to``. Raises HTTPException where one is missing."""
    start, end = (request.query_params.get(key, "") for key in ("from", "to"))
    if not start or not end:
        raise HTTPException(400, f"give two node names: {request.url.path}?from=NODE&to=NODE")
    return start, end


def _no_path(start: str, end: str) -> HTTPException:
    return HTTPException(404, f"there is no path from {start!r} to {end!r}")


async def _long(answer: Mapping[str, object]) -> Response:
    return Response(await in_turns(encode_json(answer)), media_type="application/json")


def is_admitted(request: Request, admin_token: str | None) -> bool:
    """True when *request* brings the token, or none is set."""
    return admin_token is None or _is_bearer(request, admin_token)


def _is_bearer(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for this type only"
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
