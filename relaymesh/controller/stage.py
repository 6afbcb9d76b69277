"""The interface of a controller stage, and the events of membership that stages follow.

The core keeps its stages in one ordered table. Timeouts, membership events, the debug state and
the work of a lapsed leader all come from that table, so that a new stage is entered once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

from relaymesh.controller.parts import Parts
from relaymesh.controller.registry import Member
from relaymesh.protocol.messages import ControllerMessage, Join

Told: TypeAlias = Iterable[tuple[int, ControllerMessage]]  # (index of the node, the message)


@dataclass(frozen=True, slots=True)
class Replaced:
    """The same boot of a node opened another channel; :class:`Joined` follows at once."""

    member: Member


@dataclass(frozen=True, slots=True)
class Joined:
    """A node was let in, and its Welcome is queued."""

    member: Member
    join: Join
    fresh: bool  # a new boot: packet numbers and link reports start again
    moved: bool  # its relay address differs from the one its neighbours were told
    absent_since: float | None  # from when on it may have missed messages; None: it was no member


@dataclass(frozen=True, slots=True)
class Left:
    """A channel closed; its node stays a member, and may forward media still."""

    member: Member


@dataclass(frozen=True, slots=True)
class Gone:
    """A node was given up for good. It is a member until every stage has followed."""

    member: Member


MemberEvent: TypeAlias = Replaced | Joined | Left | Gone


class Stage(Protocol):
    """One row of the core's table."""

    works_lapsed: ClassVar[bool]  # its timeouts are handled by a leader whose lease has ended, too

    def next_timeout(self) -> float | None:
        """Time of the next :meth:`handle_timeout` with anything to do; None: never."""

    def handle_timeout(self, now: float) -> Told:
        """Do the work that is due; messages to send."""

    def handle_member(self, event: MemberEvent, now: float) -> Told:
        """Follow a change of membership; messages to send."""

    def debug_part(self) -> Parts[dict[str, object]]:
        """Entries of the debug state by name, without keys and tokens."""
