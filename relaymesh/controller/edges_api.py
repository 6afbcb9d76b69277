"""The API's public part: ``GET /v1/edges`` tells a client, or whoever acts for it, which edges to try.

``room`` is required; where the client is comes from ``lat`` and ``lon``, ``region``,
``ip`` (looked up in the MaxMind file, if there is one), or else from the address the
request came from. It needs no token and may be asked by any page, so it says no more
than the public URLs of edges and their scores, and is limited for each address. Who
brings the admin token is not limited: an application asks for all of its clients.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relaymesh.controller.buckets import TokenBucket
from relaymesh.controller.core import ControllerCore
from relaymesh.controller.placement import Client, Spot
from relaymesh.protocol.ids import is_name

Locate = Callable[[str], Spot | None]  # of an IP address

REQUESTS_PER_S = 2.0  # from one address; a client asks once for each join
BURST = 20.0  # many clients share one address
MAX_ADDRESSES = 10_000  # whose limits are remembered; those that asked longest ago are forgotten
DEFAULT_LIMIT, MAX_LIMIT = 3, 20

CORS = {"Access-Control-Allow-Origin": "*"}
PREFLIGHT = {
    **CORS,
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Authorization",
    "Access-Control-Max-Age": "86400",
}


class EdgesApi:
    """The endpoint over one core."""

    def __init__(
        self,
        core: ControllerCore,
        locate: Locate | None,
        is_admin: Callable[[Request], bool],
        clock: Callable[[], float],
    ) -> None:
        self._core = core
        self._locate = locate
        self._is_admin = is_admin
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def routes(self) -> list[Route]:
        return [
            Route("/v1/edges", self._get, methods=["GET"]),
            Route("/v1/edges", self._preflight, methods=["OPTIONS"]),
        ]

    async def _preflight(self, request: Request) -> Response:
        return Response(status_code=204, headers=PREFLIGHT)

    async def _get(self, request: Request) -> Response:
        now = self._clock()
        if not self._is_admin(request) and not self._may_ask(_address(request), now):
            raise HTTPException(429, "too many requests from this address", {"Retry-After": "1", **CORS})
        try:
            room, limit = _room(request), _limit(request)
            client = self._client(request)
        except ValueError as error:
            raise HTTPException(400, str(error), CORS) from None
        edges = self._core.view.edges(room, client, limit, now)
        return JSONResponse({"edges": edges}, headers={**CORS, "Cache-Control": "no-store"})

    def _may_ask(self, address: str, now: float) -> bool:
        bucket = self._buckets.pop(address, None) or TokenBucket(REQUESTS_PER_S, BURST, now)
        self._buckets[address] = bucket
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket.take(now)

    def _client(self, request: Request) -> Client:
        """Place of the client. Raises ValueError, with a text for its author."""
        query = request.query_params
        region = query.get("region")
        if region is not None and not is_name(region):
            raise ValueError("region is no name")
        if ("lat" in query) != ("lon" in query):
            raise ValueError("lat and lon go together")
        if "lat" in query:
            return Client(
                Spot(_degrees(query["lat"], "lat", 90.0), _degrees(query["lon"], "lon", 180.0)), region
            )
        given = query.get("ip")
        if given is not None:
            try:
                ipaddress.ip_address(given)
            except ValueError:
                raise ValueError("ip is no IP address") from None
        if region is not None or self._locate is None:
            return Client(None, region)
        return Client(self._locate(given or _address(request)), None)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _room(request: Request) -> str:
    room = request.query_params.get("room", "")
    if not is_name(room):
        raise ValueError("give a room: /v1/edges?room=ROOM")
    return room


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= MAX_LIMIT:
        raise ValueError(f"limit is a number from 1 to {MAX_LIMIT}")
    return int(text)


def _degrees(text: str, name: str, bound: float) -> float:
    try:
        value = float(text[:32])
    except ValueError:
        value = math.nan
    if not abs(value) <= bound:
        raise ValueError(f"{name} is a number of degrees from -{bound:g} to {bound:g}")
    return value
