"""A controller core with a mesh of nodes that only answer, driven as its process drives it.

In: joins, reports and whatever else a node says, at times of its own. Out: what is measured of
each call: CPU time of this thread, message encoding included; bytes by kind of message.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from relaymesh.controller.core import ControllerCore, CoreOptions, Disconnect
from relaymesh.controller.policy import MeshPolicy
from relaymesh.controller.tokens import make_join_token
from relaymesh.protocol.messages import (
    CONTROL_VERSION,
    Address,
    ControllerMessage,
    Delta,
    Join,
    NodeMessage,
    Snapshot,
    TablesHeld,
    encode_message,
)

_SECRET = "a join secret that only a benchmark uses"
_STEPS = 1_000_000  # more than any run takes


class AnsweringMesh:
    """The core, and nodes that only answer. A node's index, number and channel are one."""

    def __init__(self, policy: MeshPolicy, settle_s: float = 8.0) -> None:
        self.core = ControllerCore(
            CoreOptions(_SECRET, settle_s=settle_s),
            policy,
            key_source=random.Random(0).randbytes,
            unix_time=lambda: 0.0,
        )
        self.now = 0.0
        self.longest_s = 0.0
        self.spent_s = 0.0
        self.tables_out_s = 0.0  # spent when the last of them left
        self.bytes: dict[str, int] = {}
        self.largest: dict[str, int] = {}
        self.count: dict[str, int] = {}
        self._answers: list[tuple[int, NodeMessage]] = []

    def reset(self) -> None:
        """Measure from here on."""
        self.longest_s = self.spent_s = 0.0
        for counted in (self.bytes, self.largest, self.count):
            counted.clear()

    def say(self, node: int, message: NodeMessage) -> list[ControllerMessage]:
        """A node's message, and what the core says to it, as the process would handle them."""
        return self._call(lambda: self.core.handle_message(node, message, self.now))

    def run(self, until_active: int) -> None:
        """Let time pass until the plan with this generation is active; how long is not measured."""
        for _ in range(_STEPS):
            self._answer()
            if self._active() >= until_active:
                return
            due = self.core.next_timeout()
            assert due is not None, "the core has nothing to do, and no such plan was made"
            self.now = max(self.now, due)
            self._call(lambda: self.core.handle_timeout(self.now))
        raise AssertionError("no such plan was made")

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        for _ in range(_STEPS):
            self._answer()
            due = self.core.next_timeout()
            if due is None or due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            self._call(lambda: self.core.handle_timeout(self.now))
        raise AssertionError("the core never rests")

    def _answer(self) -> None:
        """The nodes hold what they were told; taken in one call, as they are many and short."""
        while self._answers:
            answers, self._answers = self._answers, []

            def handle(answers: list[tuple[int, NodeMessage]] = answers) -> None:
                for node, answer in answers:
                    self.core.handle_message(node, answer, self.now)
                    self.core.next_timeout()

            self._call(handle)

    def _active(self) -> int:
        return self.core.active_generation

    def _call(self, action: Callable[[], None]) -> list[ControllerMessage]:
        started = time.thread_time()
        action()
        said: list[ControllerMessage] = []
        sizes: list[int] = []
        told: list[int] = []
        for node, message in self.core.poll_outgoing():
            if not isinstance(message, Disconnect):
                sizes.append(len(encode_message(message)))
                said.append(message)
                told.append(node)
        self.core.poll_events()
        self.core.next_timeout()
        took = time.thread_time() - started
        self.spent_s += took
        self.longest_s = max(self.longest_s, took)
        for node, message, size in zip(told, said, sizes, strict=True):
            name = type(message).__name__.lower()
            self.bytes[name] = self.bytes.get(name, 0) + size
            self.largest[name] = max(self.largest.get(name, 0), size)
            self.count[name] = self.count.get(name, 0) + 1
            if isinstance(message, Snapshot | Delta):
                self.tables_out_s = self.spent_s
                self._answers.append((node, TablesHeld(message.generation)))
        return said

    def work(self, action: Callable[[], None]) -> None:
        """Do something else to the core that its process would do."""
        self._call(action)

    def join(self, node: int, region: str = "here") -> None:
        """A node is in."""
        name = f"n{node}"
        token = make_join_token(_SECRET, name=name)
        address = Address("10.0.0.1", 4000)
        join = Join(CONTROL_VERSION, name, region, token, f"boot-of-{name}", address, "http://x", node)
        self.say(node, join)

    def bytes_told(self, prefix: str) -> dict[str, float]:
        """How many bytes of tables went out, and the largest message."""
        found: dict[str, float] = {}
        for kind in ("snapshot", "delta"):
            if self.count.get(kind):
                found[f"{prefix}_{kind}_bytes"] = self.bytes[kind]
                found[f"{prefix}_{kind}_bytes_largest"] = self.largest[kind]
        return found
