"""Erasure coding across the streams of a link: systematic Reed–Solomon over GF(256).

In: sources (the frames of one datagram each, named by packet ids) and how much
redundancy is wanted; out: REPAIR frames, and at the other end the sources that
were lost. Any k of a block's k + m packets give all its k sources.

The code is the one ``reedsolo`` defines (polynomial 0x11d, first consecutive
root 0, generator 2), whose encoder gives the generator matrix; products run in
:mod:`relaymesh.kernels.gf256`. A source enters as its length (u16)
and its bytes, padded by zeros to the longest of the block. Knows no policy,
no keys, no media.

A packet id is ``(ordinal of the key << 32) | packet number``: both ends count keys for themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from reedsolo import RSCodec

from relaymesh.kernels import gf256
from relaymesh.protocol.datagram import MAX_PLAINTEXT_BYTES
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import REPAIR

MAX_SOURCES = 32  # of a block
MAX_REPAIRS = 32  # of a block
MAX_SPAN = 8191  # packet numbers from a block's first source to its last
MAX_OPEN_BLOCKS = 64  # at the receiver
BLOCK_KEPT = 1.0  # seconds
# What one datagram may set off, about: each packet takes up to 0.3 ms, for which the other links wait.
MAX_SOLVED_AT_ONCE = 64
_U32 = 0xFFFFFFFF

_FRAME = struct.Struct("!BH")
_REPAIR = struct.Struct(
    "!BIBBB"
)  # epoch, first number, k, m, index; then k − 1 distances (u16), then the symbol
_LENGTH = struct.Struct("!H")
# What a block of MAX_SOURCES leaves of a datagram for its longest source.
MAX_SOURCE_BYTES = MAX_PLAINTEXT_BYTES - 3 - _REPAIR.size - 2 * (MAX_SOURCES - 1) - 2


@dataclass(frozen=True, slots=True)
class Repair:
    """One of the m repair packets of a block."""

    epoch: int  # u8, of the sources
    numbers: tuple[int, ...]  # u32, packet numbers of the sources, ascending
    repairs: int  # m
    index: int  # which of the m, from 0
    symbol: bytes  # as long as the longest source, and its length field


def encode_repair(repair: Repair) -> bytes:
    """The whole frame, with type and length. Raises ``ValueError`` for what :func:`decode_repair` refuses."""
    numbers = repair.numbers
    count = len(numbers)
    distances = [after - before for before, after in pairwise(numbers)]
    if (
        not 1 <= count <= MAX_SOURCES
        or not 1 <= repair.repairs <= MAX_REPAIRS
        or not 0 <= repair.index < repair.repairs
        or min(distances, default=1) < 1
        or numbers[-1] - numbers[0] > MAX_SPAN
        or len(repair.symbol) <= _LENGTH.size
    ):
        raise ValueError("no such block")
    body = (
        _REPAIR.pack(repair.epoch, numbers[0], count, repair.repairs, repair.index)
        + struct.pack(f"!{count - 1}H", *distances)
        + repair.symbol
    )
    return _FRAME.pack(REPAIR, len(body)) + body


def decode_repair(body: bytes) -> Repair:
    """The repair packet in *body*.

    Raises:
        ProtocolError: truncated, or invalid (a block that cannot be).
    """
    if len(body) < _REPAIR.size:
        raise ProtocolError("truncated", "repair")
    epoch, first, count, repairs, index = _REPAIR.unpack_from(body)
    if not 1 <= count <= MAX_SOURCES or not 1 <= repairs <= MAX_REPAIRS or index >= repairs:
        raise ProtocolError("invalid", f"repair {index} of {count} + {repairs}")
    start = _REPAIR.size + 2 * (count - 1)
    if len(body) <= start + _LENGTH.size:
        raise ProtocolError("truncated", "repair symbol")
    numbers = [first]
    for distance in struct.unpack_from(f"!{count - 1}H", body, _REPAIR.size):
        if not distance:
            raise ProtocolError("invalid", "a source twice in a block")
        numbers.append(numbers[-1] + distance)
    if numbers[-1] > _U32 or numbers[-1] - first > MAX_SPAN:
        raise ProtocolError("invalid", "a block too wide")
    return Repair(epoch, tuple(numbers), repairs, index, body[start:])


# --- the code ------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def generator_rows(sources: int, repairs: int) -> tuple[tuple[int, ...], ...]:
    """The *repairs* rows of *sources* coefficients: repair i is the sum of row[i][j] × source j.

    Taken from reedsolo: column j is what it appends to the j-th unit vector.
    """
    codec = RSCodec(repairs, fcr=0, prim=gf256.POLYNOMIAL, generator=2)
    columns = []
    for j in range(sources):
        unit = bytearray(sources)
        unit[j] = 1
        columns.append(bytes(codec.encode(unit))[sources:])
    return tuple(tuple(column[i] for column in columns) for i in range(repairs))


def symbol_of(source: bytes) -> bytes:
    """*source* as it enters the code, not yet padded."""
    return _LENGTH.pack(len(source)) + source


def encode_block(epoch: int, numbers: tuple[int, ...], sources: list[bytes], repairs: int) -> list[bytes]:
    """The *repairs* REPAIR frames for *sources*, ascending by packet number."""
    symbols = [symbol_of(source) for source in sources]
    size = max(map(len, symbols))
    return [
        encode_repair(Repair(epoch, numbers, repairs, i, gf256.combine(row, symbols, size)))
        for i, row in enumerate(generator_rows(len(sources), repairs))
    ]


def recover(
    known: dict[int, bytes], symbols: dict[int, bytes], sources: int, repairs: int
) -> dict[int, bytes]:
    """The lost sources of a block, by position.

    *known*: position → source; *symbols*: index of a repair → its symbol, at least as
    many as sources are lost.

    Raises:
        ProtocolError: invalid: the symbols contradict each other (only a faulty peer makes such).
    """
    lost = [j for j in range(sources) if j not in known]
    rows = generator_rows(sources, repairs)
    indices = sorted(symbols)[: len(lost)]
    size = max(len(symbol) for symbol in symbols.values())
    if any(len(source) + _LENGTH.size > size for source in known.values()):
        raise ProtocolError("invalid", "a source longer than its block")
    positions = list(known)
    packets = [symbol_of(known[j]) for j in positions]
    sums = [
        gf256.combine([1, *(rows[i][j] for j in positions)], [symbols[i], *packets], size) for i in indices
    ]
    inverse = gf256.invert_matrix([[rows[i][j] for j in lost] for i in indices])
    found = {}
    for j, row in zip(lost, inverse, strict=True):
        symbol = gf256.combine(row, sums, size)
        (length,) = _LENGTH.unpack_from(symbol)
        if length > size - _LENGTH.size or any(symbol[_LENGTH.size + length :]):
            raise ProtocolError("invalid", "a recovered source of impossible length")
        found[j] = symbol[_LENGTH.size : _LENGTH.size + length]
    return found


# --- the sender's open block -----------------------------------------------------------------------


class BlockBuilder:
    """Gathers sources until there are enough of them, or the first has waited long enough."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.sources: list[bytes] = []
        self.close_at: float | None = None  # seconds

    def fits(self, packet_id: int) -> bool:
        """Tell whether *packet_id* can join: the same key, not too far from the first."""
        return not self.ids or 0 < packet_id - self.ids[-1] <= MAX_SPAN - (self.ids[-1] - self.ids[0])

    def add(self, packet_id: int, source: bytes, close_at: float) -> None:
        """*source* joins; the block closes no later than *close_at*."""
        self.ids.append(packet_id)
        self.sources.append(source)
        if self.close_at is None or close_at < self.close_at:
            self.close_at = close_at

    def take(self) -> tuple[list[int], list[bytes]]:
        """The block, which is closed by this."""
        ids, sources = self.ids, self.sources
        self.ids, self.sources, self.close_at = [], [], None
        return ids, sources


# --- the receiver's open blocks ----------------------------------------------------------------------


@dataclass(slots=True)
class _OpenBlock:
    ids: tuple[int, ...]
    repairs: int
    expires_at: float
    symbols: dict[int, bytes] = field(default_factory=dict)


class BlockDecoder:
    """Blocks of which something is lost, until they are solved, expire, or make room for newer ones.

    A block that contradicts itself takes all others with it.

    *source* gives the frames of a packet id that is at hand; *wanted* says whether one is missing and not
    given up.
    """

    def __init__(self, source: Callable[[int], bytes | None], wanted: Callable[[int], bool]) -> None:
        self._source = source
        self._wanted = wanted
        self._blocks: dict[tuple[tuple[int, ...], int], _OpenBlock] = {}
        self.invalid = 0  # blocks that contradicted themselves

    @property
    def open(self) -> int:
        """The number of blocks that wait."""
        return len(self._blocks)

    def add(self, ids: tuple[int, ...], repair: Repair, now: float) -> dict[int, bytes]:
        """The sources that this repair packet made known, by packet id; often none."""
        if not any(map(self._wanted, ids)):
            self._blocks.pop((ids, repair.repairs), None)
            return {}
        key = (ids, repair.repairs)
        block = self._blocks.get(key)
        if block is None:
            self._expire(now)
            if len(self._blocks) >= MAX_OPEN_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            block = self._blocks[key] = _OpenBlock(ids, repair.repairs, now + BLOCK_KEPT)
        block.symbols[repair.index] = repair.symbol
        return self._try(block, {})

    def retry(self, packet_id: int) -> dict[int, bytes]:
        """*packet_id* is at hand now: what that makes known."""
        found: dict[int, bytes] = {}
        invalid = self.invalid
        for block in [block for block in self._blocks.values() if packet_id in block.ids]:
            found |= self._try(block, found)
            if self.invalid > invalid or len(found) >= MAX_SOLVED_AT_ONCE:
                break
        return found

    def _try(self, block: _OpenBlock, found: dict[int, bytes]) -> dict[int, bytes]:
        """Return the packets that *block* recovers besides *found*, which nobody has taken yet."""
        known = {}
        for j, packet_id in enumerate(block.ids):
            source = found.get(packet_id) or self._source(packet_id)
            if source is not None:
                known[j] = source
        lost = len(block.ids) - len(known)
        if lost and len(block.symbols) < lost:
            return {}
        self._blocks.pop((block.ids, block.repairs), None)
        if not lost:
            return {}
        try:
            solved = recover(known, block.symbols, len(block.ids), block.repairs)
        except ProtocolError:
            # Only a faulty peer makes such, and one packet could set off all its blocks.
            self.invalid += 1
            self._blocks.clear()
            return {}
        return {block.ids[j]: source for j, source in solved.items()}

    def _expire(self, now: float) -> None:
        for key in [key for key, block in self._blocks.items() if block.expires_at <= now]:
            del self._blocks[key]

    def debug_state(self) -> dict[str, object]:
        return {"open": len(self._blocks), "invalid": self.invalid}
