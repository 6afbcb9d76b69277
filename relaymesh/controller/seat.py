"""The role behind a controller's ports: a leader's core, or a standby's; one at a time.

    listeners, API ──▶ Seat ──▶ NodeChannels, ASGI app of the one who sits
    leadership ───────▶ lead(reign) … stand_by()

In: streams and requests, and who is to sit. A change of seats closes the channels of
whoever sat before: nodes come back, or go to the leader they are told of.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from relaymesh.controller.core import ControllerCore
from relaymesh.controller.reign import Reign
from relaymesh.controller.server import NodeChannels
from relaymesh.controller.standby import StandbyCore, make_standby_api, refusal_of_standby
from relaymesh.runtime.log import get_logger
from relaymesh.runtime.timer import Timer

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
log = get_logger(__name__)


class Seat:
    """The ports' end of a controller process."""

    def __init__(
        self,
        make_core: Callable[[Reign], ControllerCore],
        make_standby: Callable[[], StandbyCore],
        make_app: Callable[[ControllerCore, NodeChannels, Callable[[], None]], AsgiApp],
        admin_token: str | None,
        describe: Callable[[], dict[str, object]],
    ) -> None:
        """*make_app*: a leader's API, of its core, its channels, and what to call after a change to the
        core; *describe*: what a standby's API says of itself."""
        self._make_core = make_core
        self._make_standby = make_standby
        self._make_app = make_app
        self._admin_token = admin_token
        self._describe = describe
        self._on_change: Callable[[], None] = lambda: None
        self.core: ControllerCore | None = None  # while we lead
        self._channels, self._app = self._standby_seat()

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """One channel of a node, from its first byte to its end."""
        await self._channels.serve_stream(stream)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """One ASGI request."""
        await self._app(scope, receive, send)

    def changed(self) -> None:
        """Something happened to the core that did not come by a channel."""
        self._on_change()

    def lead(self, reign: Reign, on_change: Callable[[], None] = lambda: None) -> Timer:
        """Sit down as the leader; the caller runs the timer, and has :meth:`stand_by` called when it is over.

        *on_change* is called after each change to the core.
        """
        core = self._make_core(reign)

        def changed() -> None:
            channels.flush()
            for event in core.poll_events():
                log.info(event.name, **event.fields)
            timer.poke()
            on_change()

        def on_timeout(now: float) -> None:
            core.handle_timeout(now)
            changed()

        channels = NodeChannels(core, changed)
        timer = Timer(core.next_timeout, on_timeout)
        self._dismiss()
        self.core, self._on_change = core, changed
        self._channels = channels
        self._app = self._make_app(core, channels, changed)
        return timer

    def stand_by(self) -> None:
        """Send the nodes away, to the leader if one is known, and refuse them from now on."""
        self._dismiss()
        self.core, self._on_change = None, lambda: None
        self._channels, self._app = self._standby_seat()

    def _standby_seat(self) -> tuple[NodeChannels, AsgiApp]:
        standby = self._make_standby()
        channels = NodeChannels(standby, lambda: channels.flush())
        return channels, make_standby_api(self._admin_token, self._describe)

    def _dismiss(self) -> None:
        leader = self._describe().get("leader")
        self._channels.dismiss(refusal_of_standby(leader if isinstance(leader, str) else ""))
