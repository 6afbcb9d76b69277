"""The HTTP application of a node: WHIP and WHEP, its status, and plain pages to try them with.

In: requests and a node to ask. Out: an ASGI application, in which every refusal is a status
and a sentence, and which pages of other origins may speak to. Room tokens decide who may publish and play;
status and pages are open.
"""

from __future__ import annotations

from importlib.resources import files

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relaymesh.node.gate import Gate
from relaymesh.node.refusals import SignallingError
from relaymesh.node.whip import EXPOSED, Signalling, accepts, whip_routes

RETRY_AFTER = {429: "1", 503: "1"}  # s, by status
PAGES = {
    "publish.html": "text/html",
    "play.html": "text/html",
    "whip.js": "text/javascript",
    "page.css": "text/css",
}


def make_app(
    node: Signalling, extra_routes: list[Route] | None = None, *, gate: Gate | None = None
) -> Starlette:
    """The ASGI application of one node; its *gate* is the one that its settings ask for."""
    gate = gate or Gate.of_settings(node.settings)

    async def status(request: Request) -> Response:
        said = node.status()
        counters = said.get("counters")
        if isinstance(counters, dict):
            counters["access_refused"] = dict(gate.refused)
        return JSONResponse(said)

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def page(request: Request) -> Response:
        name = request.url.path.lstrip("/")
        return Response((files("relaymesh.web") / name).read_bytes(), media_type=PAGES[name])

    routes = [
        *whip_routes(node, gate),
        Route("/status", status),
        Route("/healthz", health),
        *(Route(f"/{name}", page) for name in PAGES),
        *(extra_routes or []),
    ]
    # Signalling carries no cookies, so any page may speak it; what it may do is
    # not decided by where the page came from.
    cors = Middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["*"],
        expose_headers=EXPOSED,
    )
    return Starlette(
        routes=routes,
        middleware=[Middleware(Preflight), cors],
        exception_handlers={SignallingError: _refuse, ClientDisconnect: _gone},
    )


class Preflight:
    """Says in the answer to a CORS preflight too what may be sent (RFC 9725 §4.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                names = {name.lower() for name, _ in message["headers"]}
                message["headers"] += [
                    (name.lower().encode(), value.encode())
                    for name, value in accepts(scope["path"]).items()
                    if name.lower().encode() not in names
                ]
            await send(message)

        is_asked = scope["type"] == "http" and scope["method"] == "OPTIONS"
        asks_of_ours = is_asked and scope["path"].startswith(("/whip/", "/whep/", "/session/"))
        await self._app(scope, receive, tell if asks_of_ours else send)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignallingError)
    headers = {}
    if retry := RETRY_AFTER.get(error.status):
        headers["Retry-After"] = retry
    if error.challenge is not None:
        headers["WWW-Authenticate"] = error.challenge
    return PlainTextResponse(error.reason + "\n", error.status, headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it
