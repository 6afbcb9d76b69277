"""The refusal of a join: one error for every check a join passes through."""

from __future__ import annotations

from typing import Literal

RefusalCode = Literal["token", "name-taken", "region", "version", "full", "malformed", "standby"]


class JoinRefused(Exception):
    """The node's fault, or the operator's: this join is refused and nothing was changed by it.

    ``code`` is what the :class:`~relaymesh.protocol.messages.Refused` message
    carries; ``reason`` is one sentence for the person who reads the node's log.
    """

    def __init__(self, code: RefusalCode, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code: RefusalCode = code
        self.reason = reason
