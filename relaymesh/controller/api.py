"""The JSON API: what the mesh is like now, and its topology (:mod:`topology_api`).

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


def make_api(
    core: ControllerCore,
    admin_token: str | None,
    more_debug: Callable[[], dict[str, object]],
    on_applied: Applied,
    clock: Callable[[], float] = trio.current_time,
    locate: Locate | None = None,
) -> Starlette:
    """The ASGI app over *core*.

    *more_debug* is what ``/v1/debug`` shows beside the core; *on_applied* is called when a topology
    took the place of another; *locate* says where an IP address is, if that can be known.
    """

    async def health(request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def state(request: Request) -> Response:
        return await _long(await in_turns(core.view.state()))

    async def path(request: Request) -> Response:
        start, end = (request.query_params.get(key, "") for key in ("from", "to"))
        if not start or not end:
            raise HTTPException(400, "give two node names: /v1/path?from=NODE&to=NODE")
        found = core.path(start, end)
        if found is None:
            raise HTTPException(404, f"there is no path from {start!r} to {end!r}")
        return JSONResponse(found)

    async def explain(request: Request) -> Response:
        start, end = (request.query_params.get(key, "") for key in ("from", "to"))
        if not start or not end:
            raise HTTPException(400, "give two node names: /v1/routes/explain?from=NODE&to=NODE")
        work_out = core.explanation(start, end)
        if work_out is None:
            raise HTTPException(404, f"there is no path from {start!r} to {end!r}")
        return JSONResponse(await trio.to_thread.run_sync(work_out))

    async def routes(request: Request) -> Response:
        start = request.query_params.get("from", "")
        found = await in_turns(core.view.routes(start))
        if found is None:
            raise HTTPException(404, f"there is no node {start!r}: /v1/routes?from=NODE")
        return await _long({"from": start, "routes": found})

    async def debug(request: Request) -> Response:
        return await _long(await in_turns(core.debug_in_parts()) | more_debug())

    def is_admin(request: Request) -> bool:
        return admin_token is not None and _is_bearer(request, admin_token)

    def guarded(endpoint: Endpoint) -> Endpoint:
        async def checked(request: Request) -> Response:
            if admin_token is not None and not is_admin(request):
                raise HTTPException(
                    401, "the admin token is missing or wrong", {"WWW-Authenticate": "Bearer"}
                )
            return await endpoint(request)

        return checked

    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/v1/state", guarded(state)),
            Route("/v1/path", guarded(path)),
            Route("/v1/routes", guarded(routes)),
            Route("/v1/routes/explain", guarded(explain)),
            Route("/v1/debug", guarded(debug)),
            *EdgesApi(core, locate, is_admin, clock).routes(),
            *TopologyApi(core, on_applied, open_to_local=admin_token is None, clock=clock).routes(guarded),
        ],
        exception_handlers={HTTPException: _error},
    )


async def _long(answer: Mapping[str, object]) -> Response:
    return Response(await in_turns(encode_json(answer)), media_type="application/json")


def is_admitted(request: Request, admin_token: str | None) -> bool:
    """Whether *request* brings the token, where one is set."""
    return admin_token is None or _is_bearer(request, admin_token)


def _is_bearer(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for this type only"
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
