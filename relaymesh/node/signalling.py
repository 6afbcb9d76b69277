"""WHIP (RFC 9725) and WHEP of a node, its status, and two plain pages to try them with.

Every refusal is a status and a sentence. Candidates of clients are not needed
(ICE-lite: they check us), so a trickle PATCH is accepted and ignored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib.resources import files
from typing import Protocol

import trio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from relaymesh.node.hitless import Hitless
from relaymesh.node.offers import SignallingError
from relaymesh.protocol.ids import NAME_PATTERN, is_name
from relaymesh.protocol.messages import ParticipantName

MAX_OFFER_BYTES = 64 << 10
BODY_TIMEOUT = 10.0  # s
CODECS = ("VP8", "H264")
HITLESS: dict[str, Hitless] = {"none": "none", "audio": "audio", "all": "all"}
PAGES = {
    "publish.html": "text/html",
    "play.html": "text/html",
    "whip.js": "text/javascript",
    "page.css": "text/css",
}

Handler = Callable[[Request], Awaitable[Response]]


class Signalling(Protocol):
    """What the endpoints ask of the node."""

    async def publish(
        self, name: ParticipantName, offer: str, prefer: tuple[str, ...], hitless: Hitless | None = None
    ) -> tuple[str, str]:
        """(session id, SDP answer), or :class:`SignallingError`."""

    async def play(self, name: ParticipantName, offer: str) -> tuple[str, str]:
        """(session id, SDP answer), or :class:`SignallingError`."""

    def end(self, session_id: str) -> bool:
        """``False`` when there is no such session."""

    def has_session(self, session_id: str) -> bool:
        """Whether this session is alive."""

    def status(self) -> dict[str, object]:
        """The node's own account of itself."""


def make_app(node: Signalling, extra_routes: list[Route] | None = None) -> Starlette:
    """The ASGI application of one node."""

    async def whip(request: Request) -> Response:
        name, offer = await _read(request)
        wanted = request.query_params.get("codec")
        if wanted is not None and wanted.upper() not in CODECS:
            raise SignallingError(400, f"codec must be one of {', '.join(CODECS)}")
        prefer = CODECS if wanted is None else (wanted.upper(), *(c for c in CODECS if c != wanted.upper()))
        hitless = request.query_params.get("hitless")
        if hitless is not None and hitless not in HITLESS:
            raise SignallingError(400, f"hitless must be one of {', '.join(HITLESS)}")
        return _created(*await node.publish(name, offer, prefer, HITLESS[hitless] if hitless else None))

    async def whep(request: Request) -> Response:
        name, offer = await _read(request)
        return _created(*await node.play(name, offer))

    async def session(request: Request) -> Response:
        session_id = request.path_params["session"]
        if not node.has_session(session_id):
            raise SignallingError(404, "no such session; it may have ended")
        if request.method == "DELETE":
            node.end(session_id)
            return Response(status_code=200)
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/trickle-ice-sdpfrag":
            raise SignallingError(415, "a PATCH carries application/trickle-ice-sdpfrag")
        if b"a=ice-ufrag:" in await _body(request) and request.headers.get("if-match") == "*":
            raise SignallingError(422, "ICE restart is not offered; make a new session")
        return Response(status_code=204)

    async def status(request: Request) -> Response:
        return JSONResponse(node.status())

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def page(request: Request) -> Response:
        name = request.url.path.lstrip("/")
        return Response((files("relaymesh.web") / name).read_bytes(), media_type=PAGES[name])

    routes = [
        Route("/whip/{room}/{participant}", whip, methods=["POST"]),
        Route("/whep/{room}/{participant}", whep, methods=["POST"]),
        Route("/session/{session}", session, methods=["DELETE", "PATCH"]),
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
        expose_headers=["Location", "ETag"],
    )
    return Starlette(
        routes=routes,
        middleware=[cors],
        exception_handlers={SignallingError: _refuse, ClientDisconnect: _gone},
    )


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignallingError)
    headers = {"Retry-After": "1"} if error.status == 503 else None
    return PlainTextResponse(error.reason + "\n", error.status, headers=headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def _created(session_id: str, answer: str) -> Response:
    headers = {"Location": f"/session/{session_id}", "ETag": f'"{session_id[:16]}"'}
    return Response(answer, 201, headers, media_type="application/sdp")


async def _read(request: Request) -> tuple[ParticipantName, str]:
    """The stream's name from the path and the offer from the body."""
    room, participant = request.path_params["room"], request.path_params["participant"]
    for what, text in (("room", room), ("participant", participant)):
        if not is_name(text):
            raise SignallingError(400, f"the {what}'s name must match {NAME_PATTERN}")
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/sdp":
        raise SignallingError(415, "the body must be an SDP offer, Content-Type: application/sdp")
    try:
        return ParticipantName(room, participant), (await _body(request)).decode()
    except UnicodeDecodeError:
        raise SignallingError(400, "the SDP offer is not UTF-8") from None


async def _body(request: Request) -> bytes:
    too_long = SignallingError(413, f"an offer has at most {MAX_OFFER_BYTES} bytes")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > MAX_OFFER_BYTES:
        raise too_long
    body = b""
    with trio.move_on_after(BODY_TIMEOUT):
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > MAX_OFFER_BYTES:
                    raise too_long
        return body
    raise SignallingError(408, f"the body did not come within {BODY_TIMEOUT:.0f} s")
