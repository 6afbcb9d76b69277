"""The controller's messages, each acted on; one that makes no sense here is counted, and changes nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from relaymesh.protocol import messages
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.messages import ControllerMessage

if TYPE_CHECKING:
    from relaymesh.node.core import NodeCore


class ControllerMessages:
    """Acts on messages of the controller."""

    def __init__(self, core: NodeCore) -> None:
        self._core = core
        self._probe_interval = 0.05
        self._dead_after = 0.2

    def handle(self, message: ControllerMessage, now: float) -> None:
        """Act on *message*, unless an older leader said it."""
        handler = self._HANDLERS.get(type(message))
        if handler is None:
            self._refuse(type(message).__name__)
        elif not self._core.fence.admits(message):
            self._refuse("stale leader")
        else:
            handler(self, message, now)

    def _refuse(self, what: str) -> None:
        self._core.outbox.refused[what] += 1

    def _on_welcome(self, message: messages.Welcome, now: float) -> None:
        core = self._core
        if core.index is not None and core.index != message.index:
            core.relay.clear()
            core.repair.clear()
            core.forwarder.ways.clear()
        core.index = core.forwarder.own_index = message.index
        self._probe_interval = message.probe_interval_ms / 1e3
        self._dead_after = message.dead_after_ms / 1e3
        core.reporting.start(message.report_interval_ms / 1e3, now)
        core.outbox.connected = True
        core.directory.handle_welcome(message.index)

    def _on_links(self, message: messages.Links, now: float) -> None:
        core = self._core
        for peer in message.remove:
            core.relay.remove_link(peer)
            core.repair.handle_removed(peer)
        if core.index is None:
            self._refuse("Links")
            return
        for config in message.set:
            if config.peer == core.index or not _is_literal(config.address.host):
                self._refuse("Links")
                continue
            try:
                core.relay.set_link(
                    config,
                    own_index=core.index,
                    probe_interval=self._probe_interval,
                    dead_after=self._dead_after,
                    now=now,
                )
            except ProtocolError:
                self._refuse("Links")

    def _on_snapshot(self, message: messages.Snapshot, now: float) -> None:
        self._core.tables.install_snapshot(message)
        self._core.outbox.tell(messages.TablesHeld(message.generation))

    def _on_delta(self, message: messages.Delta, now: float) -> None:
        if self._core.tables.install_delta(message):
            self._core.outbox.tell(messages.TablesHeld(message.generation))
        else:
            self._core.outbox.tell(messages.SnapshotWanted())

    def _on_activate(self, message: messages.Activate, now: float) -> None:
        if self._core.tables.activate(message.generation):
            self._core.repair.handle_activate()
        else:
            self._core.outbox.tell(messages.SnapshotWanted())

    def _on_hitless_ways(self, message: messages.HitlessWays, now: float) -> None:
        self._core.forwarder.ways.install(message)

    def _on_forward(self, message: messages.Forward, now: float) -> None:
        if not self._core.directory.handle_forward(message, now):
            self._refuse("Forward")

    def _on_publish_reply(self, message: messages.PublishReply, now: float) -> None:
        self._core.directory.handle_publish_reply(message, now)

    def _on_subscribe_reply(self, message: messages.SubscribeReply, now: float) -> None:
        self._core.directory.handle_subscribe_reply(message, now)

    def _on_ended(self, message: messages.PublicationEnded, now: float) -> None:
        self._core.directory.handle_ended(message, now)

    def _on_moved(self, message: messages.PublicationMoved, now: float) -> None:
        self._core.directory.handle_moved(message, now)

    def _on_close(self, message: messages.Close, now: float) -> None:
        self._core.directory.handle_close(message, now)

    _HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {
        messages.Welcome: _on_welcome,
        messages.Links: _on_links,
        messages.Snapshot: _on_snapshot,
        messages.Delta: _on_delta,
        messages.Activate: _on_activate,
        messages.HitlessWays: _on_hitless_ways,
        messages.Forward: _on_forward,
        messages.PublishReply: _on_publish_reply,
        messages.SubscribeReply: _on_subscribe_reply,
        messages.PublicationEnded: _on_ended,
        messages.PublicationMoved: _on_moved,
        messages.Close: _on_close,
    }


def _is_literal(host: str) -> bool:
    """Whether *host* is an IP address: looking up a name for each datagram would block the node.

    One with a scope (``fe80::1%eth0``) is refused: it means nothing elsewhere, and its scope may be any text.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
