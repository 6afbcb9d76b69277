"""A controller that does not lead: it refers nodes to the leader, and names it in the API.

In: joins and requests. Out: refusals that name the leader. Tokens are checked here too: who leads is
nobody's business who has none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relaymesh.controller.api import is_admitted
from relaymesh.controller.outbox import Disconnect, Outgoing
from relaymesh.controller.refusal import JoinRefused
from relaymesh.controller.tokens import verify_join_token
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import Join, NodeMessage, Refused

_REASON_CHARS = 512


class StandbyCore:
    """Refuses every node. It has the face of a core, as far as channels see it."""

    def __init__(
        self, join_secret: str, unix_time: Callable[[], float], leader_url: Callable[[], str]
    ) -> None:
        self._join_secret = join_secret
        self._unix_time = unix_time
        self._leader_url = leader_url
        self._outgoing: deque[Outgoing] = deque()

    def handle_message(self, conn_id: int, message: NodeMessage, now: float) -> None:
        """Refuse the node, whatever its message."""
        if not isinstance(message, Join):
            self._refuse(conn_id, Refused("malformed", "the first message must be a join"))
            return
        try:
            verify_join_token(
                self._join_secret,
                message.token,
                name=message.name,
                region=message.region,
                unix_time=self._unix_time(),
                site=None if message.site is None else message.site.name,
            )
        except JoinRefused as refusal:
            self._refuse(conn_id, Refused(refusal.code, refusal.reason[:_REASON_CHARS]))
        else:
            self._refuse(conn_id, refusal_of_standby(self._leader_url()))

    def handle_malformed(self, conn_id: int, error: ProtocolError, now: float) -> None:
        """A channel carried what is no message."""
        self._refuse(conn_id, Refused("malformed", str(error)[:_REASON_CHARS]))

    def handle_disconnect(self, conn_id: int, now: float) -> None:
        """The channel closed."""

    def poll_outgoing(self) -> list[Outgoing]:
        """Messages to send and channels to close, in order."""
        outgoing = list(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def _refuse(self, conn_id: int, refused: Refused) -> None:
        self._outgoing.append((conn_id, refused))
        self._outgoing.append((conn_id, Disconnect(refused.reason)))


def refusal_of_standby(leader_url: str) -> Refused:
    """The refusal of a node that must go to another controller."""
    where = f"the leader is {leader_url}" if leader_url else "nobody is known to lead now"
    return Refused("standby", f"this controller does not lead; {where}"[:_REASON_CHARS], leader_url[:512])


def make_standby_api(admin_token: str | None, describe: Callable[[], dict[str, object]]) -> Starlette:
    """The ASGI app of a standby: health, and *describe* as its state; anything else is the leader's (503)."""

    async def health(request: Request) -> Response:
        return JSONResponse({"ok": True, "role": "standby"})

    async def state(request: Request) -> Response:
        if not is_admitted(request, admin_token):
            return JSONResponse({"error": "the admin token is missing or wrong"}, 401)
        return JSONResponse(describe())

    async def other(request: Request) -> Response:
        if not is_admitted(request, admin_token):
            return JSONResponse({"error": "the admin token is missing or wrong"}, 401)
        return JSONResponse({"error": "this controller is a standby; ask the leader"} | describe(), 503)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/v1/state", state),
            Route("/v1/debug", state),
            Route("/{path:path}", other, methods=methods),
        ]
    )
