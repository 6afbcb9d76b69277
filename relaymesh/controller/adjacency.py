"""Adjacency: the pairs of members that are neighbours, and the keys their links are sealed with.

In: members that joined or are gone, and time. Out: :class:`Links` messages, each
for one node. A pair has one epoch at a time, and in it one fresh key per
direction; a key serves one direction of one pair in one epoch only, which is
what lets the packet number be the nonce. A new boot of a node starts new epochs on all its
links (its packet numbers start again); the same boot on a new channel is told
the same keys again. Keys are rotated while both ends can be told.
In a big mesh only some of those who may peer do (:mod:`relaymesh.controller.sparse`).
This module makes no randomness: the key source is given. It knows no channel;
whom a message cannot reach is told everything when it comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relaymesh.controller.parts import Parts, gathered
from relaymesh.controller.policy import MeshPolicy
from relaymesh.controller.registry import Member
from relaymesh.controller.remembered import KEY_EPOCH_GAP
from relaymesh.controller.sites import address_for
from relaymesh.controller.sparse import LEAST, choose_neighbours
from relaymesh.protocol.messages import LinkConfig, Links

KEY_BYTES = 16
EPOCHS = 256
_ROTATED_AT_ONCE = 256  # pairs; those of a mesh that came together are due together: about 3 ms
_RETRY_S = 5.0  # a rotation that was due while an end was away is tried again after this

KeySource = Callable[[int], bytes]
Told = list[tuple[int, Links]]  # (index of the node, what it is told)


@dataclass(slots=True)
class _Pair:
    """Both directions between two members; *rising* is from the lower index to the higher."""

    epoch: int
    rising_key: bytes
    falling_key: bytes
    due: float  # when the keys are to be rotated


class Adjacency:
    """All pairs of neighbours and their keys."""

    def __init__(
        self,
        policy: MeshPolicy,
        key_source: KeySource,
        rotation_s: float,
        key_epochs: Iterable[tuple[int, int, int]] = (),
    ) -> None:
        """*key_epochs*: what an earlier controller left, as :meth:`key_epochs` returned it."""
        self._policy = policy
        self._key_source = key_source
        self._rotation_s = rotation_s
        self._members: dict[int, Member] = {}
        self._pairs: dict[tuple[int, int], _Pair] = {}
        self._left = {_ends(low, high): epoch for low, high, epoch in key_epochs}
        self._neighbours: dict[int, set[int]] = {}
        self._now = 0.0  # of the last call that had it
        self._next_due: float | None = None  # a lower bound of every pair's due

    def handle_join(
        self, member: Member, *, fresh: bool, moved: bool, departed: list[int], now: float
    ) -> Told:
        """*member* is in, on a new channel. *fresh*: with a new boot. *moved*: at a new address.

        Its own message comes last, and names the *departed* indexes to forget.
        """
        index = member.index
        told: Told = []
        if fresh:
            told += self._drop_unwanted(member)
        self._members[index] = member
        self._neighbours.setdefault(index, set())
        self._now = now
        for other in sorted(self._wanted(index)):
            known = other in self._neighbours[index]
            if not known or fresh:
                self._new_epoch(index, other, now)
            if not known or fresh or moved:
                told.append((other, Links(set=(self._config(other, index),))))
        configs = tuple(self._config(index, other) for other in sorted(self._neighbours[index]))
        told.append((index, Links(set=configs, remove=tuple(sorted(departed)))))
        return told

    def handle_gone(self, index: int) -> Told:
        """The member is gone for good: its neighbours forget it."""
        self._members.pop(index, None)
        others = self._unlink_all(index)
        told: Told = [(other, Links(remove=(index,))) for other in others]
        for other in others:
            if len(self._neighbours[other]) < LEAST:
                told += self._more(other)
        return told

    def handle_policy(self, index: int, now: float) -> tuple[Told, int]:
        """The policy is another: give *index* the neighbours it may have now; with how many those are.

        Who may not any more stays one until :meth:`part`.
        """
        if index not in self._members:
            return [], 0
        self._now = now
        new = sorted(self._wanted(index) - self._neighbours[index])
        return self._link(index, new), len(new)

    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of neighbours, rising, the lower index first."""
        return sorted(self._pairs)

    def unwanted(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of *pairs* that are neighbours, and by policy may not be."""
        return [
            ends
            for ends in pairs
            if ends in self._pairs and not self._policy.may_peer(*(self._members[end] for end in ends))
        ]

    def part(self, one: int, other: int) -> Told:
        """The two are no neighbours any more."""
        self._unlink(one, other)
        return [(one, Links(remove=(other,))), (other, Links(remove=(one,)))]

    def are_neighbours(self, one: int, other: int) -> bool:
        return other in self._neighbours.get(one, ())

    def neighbours(self, index: int) -> list[int]:
        """The neighbours of *index*, rising."""
        return sorted(self._neighbours.get(index, ()))

    def key_epochs(self) -> tuple[tuple[int, int, int], ...]:
        """(lower index, higher index, epoch) of each link, those of an earlier controller included."""
        now = {ends: pair.epoch for ends, pair in self._pairs.items()}
        return tuple((*ends, epoch) for ends, epoch in sorted({**self._left, **now}.items()))

    def next_timeout(self) -> float | None:
        """Time at which keys may next be due for rotation."""
        return self._next_due

    def handle_timeout(self, now: float) -> Told:
        """Rotate what is due, where both ends can be told."""
        self._now = now
        if self._next_due is None or now < self._next_due:
            return []
        configs: dict[int, list[LinkConfig]] = {}
        rotated = 0
        for (low, high), pair in self._pairs.items():
            if now < pair.due or rotated == _ROTATED_AT_ONCE:
                continue
            if not (self._members[low].connected and self._members[high].connected):
                # One end alone with the new keys would be deaf to the other.
                pair.due = now + _RETRY_S
                continue
            rotated += 1
            self._new_epoch(low, high, now)
            configs.setdefault(low, []).append(self._config(low, high))
            configs.setdefault(high, []).append(self._config(high, low))
        self._next_due = min((pair.due for pair in self._pairs.values()), default=None)
        return [(index, Links(set=tuple(configs[index]))) for index in sorted(configs)]

    def debug_state(self) -> Parts[dict[str, object]]:
        pairs = yield from gathered(
            {"between": list(ends), "epoch": pair.epoch, "rotation_due": pair.due}
            for ends, pair in list(self._pairs.items())
        )
        return {"pairs": pairs}

    def _drop_unwanted(self, member: Member) -> Told:
        """A new boot may be in another region, and so have other neighbours."""
        told: Told = []
        for other in self.neighbours(member.index):
            if not self._policy.may_peer(member, self._members[other]):
                self._unlink(member.index, other)
                told.append((other, Links(remove=(member.index,))))
        return told

    def _wanted(self, index: int) -> set[int]:
        """Neighbours of the member by policy, old and new."""
        member = self._members[index]
        allowed = {
            other: self._members[other]
            for other in self._members
            if other != index and self._policy.may_peer(member, self._members[other])
        }
        chosen = choose_neighbours(member, allowed, self._degree, self._policy)
        return chosen | (self._neighbours[index] & allowed.keys())

    def _degree(self, index: int) -> int:
        return len(self._neighbours.get(index, ()))

    def _more(self, index: int) -> Told:
        """Neighbours for one that lost too many."""
        return self._link(index, sorted(self._wanted(index) - self._neighbours[index]))

    def _link(self, index: int, others: list[int]) -> Told:
        """Make the *others* neighbours of *index*."""
        for other in others:
            self._new_epoch(index, other, self._now)
        told: Told = [(other, Links(set=(self._config(other, index),))) for other in others]
        if others:
            told.append((index, Links(set=tuple(self._config(index, other) for other in others))))
        return told

    def _unlink_all(self, index: int) -> list[int]:
        others = self.neighbours(index)
        for other in others:
            self._unlink(index, other)
        self._neighbours.pop(index, None)
        return others

    def _unlink(self, one: int, other: int) -> None:
        del self._pairs[_ends(one, other)]
        self._neighbours[one].discard(other)
        self._neighbours[other].discard(one)

    def _new_epoch(self, one: int, other: int, now: float) -> None:
        ends = _ends(one, other)
        due = now + self._rotation_s
        pair = self._pairs.get(ends)
        if pair is None:
            left = self._left.pop(ends, None)
            # A restarted controller that remembers nothing does not know the epochs in use: a random
            # start rarely meets the two that a node still holds.
            epoch = self._key_source(1)[0] if left is None else (left + KEY_EPOCH_GAP) % EPOCHS
            self._pairs[ends] = _Pair(epoch, self._key_source(KEY_BYTES), self._key_source(KEY_BYTES), due)
            self._neighbours[one].add(other)
            self._neighbours[other].add(one)
        else:
            pair.epoch = (pair.epoch + 1) % EPOCHS
            pair.rising_key, pair.falling_key = self._key_source(KEY_BYTES), self._key_source(KEY_BYTES)
            pair.due = due
        self._next_due = due if self._next_due is None else min(self._next_due, due)

    def _config(self, index: int, other: int) -> LinkConfig:
        """The link between the two, as *index* is told of it."""
        pair = self._pairs[_ends(index, other)]
        sends, receives = pair.rising_key, pair.falling_key
        if index > other:
            sends, receives = receives, sends
        peer = self._members[other]
        address = address_for(self._members[index], peer)
        return LinkConfig(other, peer.name, address, pair.epoch, sends, receives)


def _ends(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
