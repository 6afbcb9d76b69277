"""The one HTTP address of a site: passes each request on to a worker.

    /worker/N/…        worker N, without that prefix; the URLs of sessions begin so, and what the
                       controller tells clients of a worker
    /status, /healthz  the site's own
    everything else    whichever worker has the fewest clients

In: requests, the roster, and where workers listen. Out: their answers, unchanged. A worker puts its
prefix before the URLs of its sessions, as behind any proxy that strips a path, so nothing here reads
or rewrites an answer, and no table of sessions can be wrong after a restart. It sees a
few requests for each client and no media.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from relaymesh.node.refusals import SignallingError
from relaymesh.node.whip import read_body
from relaymesh.runtime.log import get_logger
from relaymesh.site.plan import PREFIX
from relaymesh.site.roster import Roster

METHODS = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"]
ANSWER_WITHIN = 20.0  # s; of a worker, which itself waits for the controller for two
OFFERS = (b"/whip/", b"/whep/")
# RFC 9110 §7.6.1; and what each end of a connection says for itself.
HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
    *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"accept-encoding"),
}
_NAMED = re.compile(re.escape(PREFIX).encode() + rb"/([1-9][0-9]{0,2})(/.*)")

log = get_logger(__name__)


class Unreachable(Exception):
    """The worker did not take the request at all: another one may."""


class Router:
    """Requests in, answers of workers out."""

    def __init__(
        self, roster: Roster, workers: Mapping[int, httpx.AsyncClient], about: Mapping[str, object]
    ) -> None:
        """*workers*: a client for each, by number; *about*: what /status says of the site beside them."""
        self._roster = roster
        self._workers = workers
        self._about = about

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/status", self._status, methods=["GET"]),
                Route("/healthz", self._health, methods=["GET"]),
                Route("/{path:path}", self._pass_on, methods=METHODS),
            ],
            exception_handlers={SignallingError: _refuse, ClientDisconnect: _gone},
        )

    async def _status(self, request: Request) -> Response:
        return JSONResponse({**self._about, "workers": self._roster.debug_state()}, headers=_ANY_ORIGIN)

    async def _health(self, request: Request) -> Response:
        if self._roster.choose() is None:
            raise SignallingError(503, "no worker runs")
        return PlainTextResponse("ok\n", headers=_ANY_ORIGIN)

    async def _pass_on(self, request: Request) -> Response:
        path: bytes = request.scope["raw_path"]
        named = _NAMED.fullmatch(path)
        if named is None:
            return await self._to_any(request, path)
        number = int(named[1])
        if number not in self._roster:
            raise SignallingError(404, "no such worker")
        if self._roster.is_up(number):
            try:
                return await self._to(number, request, named[2], await read_body(request))
            except Unreachable:
                pass
        raise SignallingError(
            503, "this worker does not run now; it starts again, and its sessions have ended"
        )

    async def _to_any(self, request: Request, path: bytes) -> Response:
        body = await read_body(request)
        tried: set[int] = set()
        while (number := self._roster.choose(tried)) is not None:
            try:
                return await self._to(number, request, path, body)
            except Unreachable:
                tried.add(number)
        raise SignallingError(503, "no worker runs now; try again")

    async def _to(self, number: int, request: Request, path: bytes, body: bytes) -> Response:
        """The answer of one worker; an offer counts as a client of it from now on."""
        if request.method != "POST" or not path.startswith(OFFERS):
            return await self._ask(number, request, path, body)
        opened = False
        self._roster.handle_asked(number)
        try:
            response = await self._ask(number, request, path, body)
            opened = response.status_code == 201
        finally:
            self._roster.handle_answered(number, opened=opened)
        return response

    async def _ask(self, number: int, request: Request, path: bytes, body: bytes) -> Response:
        query: bytes = request.scope["query_string"]
        headers = [
            (name, value)
            for name, value in request.scope["headers"]
            if name not in HOP_BY_HOP and name != b"content-length"
        ]
        asked = httpx.Request(
            request.method,
            httpx.URL("http://worker").copy_with(raw_path=path + b"?" + query if query else path),
            headers=headers,
            content=body,
        )
        try:
            answer = await self._workers[number].send(asked)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            log.warning("a worker does not take a request", worker=number, why=repr(error))
            raise Unreachable from None
        except httpx.HTTPError as error:
            log.warning("a worker did not answer", worker=number, why=repr(error))
            raise SignallingError(503, "the worker ended before it answered; try again") from None
        response = Response(answer.content, answer.status_code)
        response.raw_headers = [
            (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _NOT_BACK
        ]
        return response


_ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}  # as everything a node answers
_NOT_BACK = HOP_BY_HOP | {b"date", b"server"}  # the router's own server says these


def worker_client(path: str) -> httpx.AsyncClient:
    """A client of the worker that listens at *path*.

    A connection for each request: a kept one may be of a worker that has died since.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=path, limits=limits, verify=False),
        timeout=ANSWER_WITHIN,
        trust_env=False,
    )


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignallingError)
    retry = {"Retry-After": "1"} if error.status == 503 else {}
    return PlainTextResponse(error.reason + "\n", error.status, headers={**retry, **_ANY_ORIGIN})


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody is there to read it
