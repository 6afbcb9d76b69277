"""The keys of one link: their epochs, which of them sends, and what was seen under each.

In: keys from the controller, plaintexts to send, ``now``. Out: numbered datagrams that are yet to be
sealed, with the id of each, and for each key what is known of the numbers that arrived. A key
serves one direction of one adjacency and one epoch, and no packet number twice.

A packet id is ``(ordinal of the key << 8 | epoch) << 32 | packet number``; see
:mod:`relaymesh.protocol.fec`.
"""

from __future__ import annotations

import math

from relaymesh.kernels.aead import Opener, Sealer
from relaymesh.protocol import datagram as sealed
from relaymesh.protocol.arrivals import ArrivalTracker
from relaymesh.protocol.contexts import ContextTable
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.replay import ReplayWindow

KEY_GRACE = 1.0  # seconds: by then the controller's message has reached the other end too
EPOCHS_HELD = 2
# So far beyond a number that the peer has seen the last 2 bytes tell a packet number: half of what they
# could, for those that overtake each other.
SHORT_WITHIN = 1 << 14


class Key:
    """One epoch: a key for each direction, with the count of the one and the window of the other."""

    __slots__ = (
        "acked", "arrivals", "contexts", "epoch", "opener", "prefix", "receive_key", "sealer", "send_key",
        "sent", "window",
    )  # fmt: skip

    def __init__(self, epoch: int, send_key: bytes, receive_key: bytes, ordinal: int) -> None:
        self.epoch = epoch
        self.prefix = (ordinal << 8 | epoch) << 32  # of packet ids
        self.arrivals = ArrivalTracker(epoch)
        self.contexts = ContextTable()  # that the peer announced
        self.send_key = send_key
        self.receive_key = receive_key
        self.sealer = Sealer(send_key)
        self.opener = Opener(receive_key)
        self.sent = 0  # the last packet number used
        self.acked = 0  # a number that the peer has seen, or a later one
        self.window = ReplayWindow()

    def expand(self, low: int) -> int:
        """The packet number that ends in the 2 bytes *low*, nearest to the one after the highest seen.

        0, which counts as seen, where there is none.
        """
        expected = self.window.highest + 1
        number = expected + (low - expected + 0x8000 & 0xFFFF) - 0x8000
        return number if number > 0 else 0

    def debug_state(self) -> dict[str, object]:
        return {
            "epoch": self.epoch,
            "sent": self.sent,
            "window": self.window.debug_state(),
            "arrivals": self.arrivals.debug_state(),
            "contexts": len(self.contexts),
        }


class KeyRing:
    """The newest :data:`EPOCHS_HELD` keys."""

    def __init__(self, own_index: int) -> None:
        self.trackers: tuple[ArrivalTracker, ...] = ()  # of the keys held, oldest first
        self._own_index = own_index
        self._keys: dict[int, Key] = {}  # by epoch, oldest first
        self._sending: Key | None = None
        self._switch_at = math.inf  # when sending moves to the newest key unasked
        self._made = 0

    def install(self, epoch: int, send_key: bytes, receive_key: bytes, now: float) -> bool:
        """Hold the keys of a new *epoch* (0..255): heard at once, sent with after the overlap rule.

        The same epoch with the same keys again changes nothing, so that the
        packet numbers go on: False.

        Raises:
            ProtocolError: invalid: a key of the wrong length, or one that already serves elsewhere here.
        """
        held = self._keys.get(epoch)
        if held and (held.send_key, held.receive_key) == (send_key, receive_key):
            return False
        self._check(epoch, send_key, receive_key)
        self._keys.pop(epoch, None)  # the same epoch with other keys counts as new
        self._made += 1
        self._keys[epoch] = Key(epoch, send_key, receive_key, self._made)
        while len(self._keys) > EPOCHS_HELD:
            del self._keys[next(iter(self._keys))]
        self.trackers = tuple(key.arrivals for key in self._keys.values())
        held_keys = self.held()
        if self._sending not in held_keys:
            self._sending = held_keys[0]
        self._switch_at = math.inf if self._sending is held_keys[-1] else now + KEY_GRACE
        return True

    def _check(self, epoch: int, send_key: bytes, receive_key: bytes) -> None:
        # A key used twice would repeat nonces, which gives the plaintexts away.
        if not 0 <= epoch <= 255 or len(send_key) != sealed.KEY_BYTES or len(receive_key) != sealed.KEY_BYTES:
            raise ProtocolError("invalid", f"keys of epoch {epoch}")
        in_use = {receive_key}
        for key in self._keys.values():
            in_use |= {key.send_key, key.receive_key}
        if send_key in in_use:
            raise ProtocolError("invalid", f"key of epoch {epoch} already serves elsewhere")

    def held(self) -> list[Key]:
        """Oldest first."""
        return list(self._keys.values())

    def get(self, epoch: int) -> Key | None:
        """The key of *epoch*, if it is held."""
        return self._keys.get(epoch)

    def sending(self, now: float) -> Key:
        """The key that sends. Raises :class:`ProtocolError` (unknown_key) before the first."""
        if now >= self._switch_at:
            self._send_with_newest()
        if self._sending is None:
            raise ProtocolError("unknown_key", "no key to send with")
        return self._sending

    def assign(self, plaintext: bytes, now: float) -> tuple[sealed.SealJob, int, int]:
        """(the datagram that is to carry *plaintext*, its packet id, its size): numbered, not yet sealed.

        Raises:
            ProtocolError: unknown_key before the first key, or when its numbers are used up; oversized when
                it fits no datagram.
        """
        key = self._sending
        if key is None or now >= self._switch_at:
            key = self.sending(now)
        number = key.sent + 1
        if number > sealed.MAX_NUMBER:
            raise ProtocolError("unknown_key", "the key is used up")
        short = number - key.acked <= SHORT_WITHIN
        job = sealed.seal_job(key.sealer, key.epoch, self._own_index, number, plaintext, short=short)
        key.sent = number
        size = len(plaintext) + (sealed.SHORT_OVERHEAD_BYTES if short else sealed.OVERHEAD_BYTES)
        return job, key.prefix | number, size

    def handle_heard(self, key: Key) -> None:
        """The peer sends with *key*: if it is the newest, so do we."""
        if self._switch_at != math.inf and key is next(reversed(self._keys.values())):
            self._send_with_newest()

    def _send_with_newest(self) -> None:
        self._sending = next(reversed(self._keys.values()))
        self._switch_at = math.inf

    def debug_state(self) -> dict[str, object]:
        return {
            "keys": [key.debug_state() for key in self._keys.values()],
            "sending_epoch": self._sending.epoch if self._sending else None,
            "switch_at": None if self._switch_at == math.inf else self._switch_at,
        }
