"""What is too long for a datagram crosses a link in two fragments, and is whole again behind it.

In: a routed frame to send; out: what to seal, each in a datagram of its own, one right after the
other. At the other end in: fragments as they arrive or are recovered, in whatever order; out: the frame,
once both are there.

The packet numbers of the two datagrams say that they belong together: the second is the first's plus
one. They are authenticated, and each is taken once; so a fragment can be neither forged nor repeated, and
nothing else needs to be compared. A fragment whose other half does not come is dropped. Knows no keys, and
repairs nothing: for acknowledgements, repair, and the rate, a fragment is a packet like others.
"""

from __future__ import annotations

from relaymesh.protocol import fec
from relaymesh.protocol.arrivals import HOLE_KEPT
from relaymesh.protocol.frames import (
    FRAGMENT_HEAD_BYTES,
    MAX_FRAME_BYTES,
    Fragment,
    halves,
    is_routed_alone,
    priority_of,
)

# Longer frames travel in two fragments. Some of them would fit a datagram; but no block of erasure coding
# protects them there, and the longest could not even be sent again.
MAX_WHOLE_BYTES = fec.MAX_SOURCE_BYTES
MAX_WAITING = 1024  # fragments without the other, each shorter than a datagram: 1.4 MB
assert MAX_FRAME_BYTES <= 2 * (MAX_WHOLE_BYTES - FRAGMENT_HEAD_BYTES), "each half must be repairable"


class FragmentFrame(bytes):
    """A FRAGMENT as it is sent, which knows the frame it is of.

    As long as one of the two may have to be sent another way, so may the whole.
    """

    whole: bytes


def fragmented(frame: bytes) -> tuple[FragmentFrame, FragmentFrame]:
    """The two FRAGMENTs of a routed *frame*. Raises :class:`ProtocolError` (oversized)."""
    first, second = map(FragmentFrame, halves(frame, priority_of(frame)))
    first.whole = second.whole = frame
    return first, second


class Reassembly:
    """The receiving side: joins the fragments that come from one peer."""

    def __init__(self) -> None:
        self.joined = 0  # frames
        self.dropped = 0  # fragments whose other half did not come in time
        self.invalid = 0  # pairs that are no frame
        self._waiting: dict[
            int, tuple[Fragment, float]
        ] = {}  # by the packet id of the first half; oldest first

    def add(self, packet_id: int, fragment: Fragment, now: float) -> list[bytes]:
        """*fragment* arrived in, or was recovered of, the datagram *packet_id*: the frame that it completes.

        The frame, whole, is alone in the list, which is empty while the other half is missing.
        """
        if self._waiting:
            self.forget_old(now)
        first_id = packet_id - fragment.second
        found = self._waiting.pop(first_id, None)
        if found is None:
            self._waiting[first_id] = (fragment, now)
            if len(self._waiting) > MAX_WAITING:
                self._drop_oldest()
            return []
        first, second = (found[0], fragment) if fragment.second else (fragment, found[0])
        return self._join(first, second)

    def _join(self, first: Fragment, second: Fragment) -> list[bytes]:
        frame = first.data + second.data
        if first.second == second.second or len(frame) > MAX_FRAME_BYTES or not is_routed_alone(frame):
            self.invalid += 1
            return []
        self.joined += 1
        return [frame]

    def forget_old(self, now: float) -> None:
        """Drop the fragments whose other half is not asked for any more; to be called now and then."""
        waiting = self._waiting
        while waiting and next(iter(waiting.values()))[1] < now - HOLE_KEPT:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        del self._waiting[next(iter(self._waiting))]
        self.dropped += 1

    def debug_state(self) -> dict[str, object]:
        return {
            "joined": self.joined,
            "waiting": len(self._waiting),
            "dropped": self.dropped,
            "invalid": self.invalid,
        }
