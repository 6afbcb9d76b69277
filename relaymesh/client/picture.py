"""A moving picture with a clock in it that people and programs can read.

In: a size, a frame number and a wall clock in milliseconds. Out: an RGB array; and back from a decoded
picture, perhaps after a lossy codec, to the :class:`Stamp` that was drawn. What a player reads back says
which frames were lost on the way and, on the same host, how long each one took from drawing to decoding.

The stamp is a grid of black and white blocks along the upper edge: 24 columns by 4 rows, read row by row,
most significant bit first: 32 bits of frame number, 48 bits of milliseconds since 1970, 16 bits of
CRC-16/XMODEM over those ten bytes. At 640 pixels a block is 24 pixels wide, which outlives VP8 and H.264 at
100 kbit/s.

Knows nothing of WebRTC, codecs, time or files: the clock is given.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from relaymesh.client.font import draw_text

Picture = NDArray[np.uint8]

COLUMNS = 24
ROWS = 4
MIN_WIDTH = 8 * COLUMNS
MIN_HEIGHT = 16 * ROWS
# Black and white of the blocks lie at least this far apart in a decoded picture, of 219 steps of luma.
MIN_CONTRAST = 48.0

_WHITE = np.array([244, 246, 250], dtype=np.uint8)
_BLACK = np.array([6, 8, 14], dtype=np.uint8)
_SUN = np.array([255, 176, 59], dtype=np.float32)
_TOP = np.array([16, 24, 54], dtype=np.float32)
_BOTTOM = np.array([38, 92, 124], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Contents of the stamp in one picture."""

    frame_number: int  # 0 … 2³² - 1, one more with each picture
    clock_ms: int  # wall clock when it was drawn, milliseconds since 1970


@dataclass(frozen=True, slots=True)
class _Grid:
    """Positions of a picture's blocks, in pixels."""

    left: int
    top: int
    block_width: int
    block_height: int

    @property
    def bottom(self) -> int:
        return self.top + self.block_height * ROWS


def _grid(width: int, height: int) -> _Grid:
    block_width = width // (COLUMNS + 2)
    block_height = max(8, min(block_width, height // (ROWS * 4)))
    return _Grid((width - block_width * COLUMNS) // 2, block_height // 2, block_width, block_height)


def draw(width: int, height: int, frame_number: int, clock_ms: int) -> Picture:
    """The picture of *frame_number* at *clock_ms* (milliseconds since 1970).

    Returns an array of shape (height, width, 3), RGB, which the caller owns.

    Raises:
        ValueError: smaller than ``MIN_WIDTH`` × ``MIN_HEIGHT``.
    """
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        raise ValueError(f"a picture is at least {MIN_WIDTH}x{MIN_HEIGHT}, not {width}x{height}")
    picture = _background(width, height).copy()
    grid = _grid(width, height)
    _draw_ball(picture, grid.bottom, frame_number)
    _draw_clock(picture, grid.bottom, frame_number, clock_ms)
    _draw_stamp(picture, grid, Stamp(frame_number, clock_ms))  # last: nothing may cover it
    return picture


def read(picture: Picture) -> Stamp | None:
    """The stamp in *picture*, or ``None`` when there is none that its checksum confirms.

    *picture* is RGB of shape (height, width, 3), or luma alone of shape (height, width); rows
    below the upper third are not looked at.
    """
    height, width = picture.shape[:2]
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return None
    grid = _grid(width, height)
    area = picture[grid.top : grid.bottom, grid.left : grid.left + grid.block_width * COLUMNS]
    if area.shape[0] != grid.block_height * ROWS:
        return None
    luma = area if area.ndim == 2 else area.mean(axis=2)
    blocks = luma.reshape(ROWS, grid.block_height, COLUMNS, grid.block_width)
    # Only the middle of each block: the codec smears the borders.
    v, h = grid.block_height // 4, grid.block_width // 4
    middle = blocks[:, v : grid.block_height - v, :, h : grid.block_width - h]
    means = middle.mean(axis=(1, 3)).ravel()
    low, high = float(means.min()), float(means.max())
    if high - low < MIN_CONTRAST:
        return None
    return _decode(np.packbits(means > (low + high) / 2).tobytes())


def _encode(stamp: Stamp) -> bytes:
    body = (stamp.frame_number & 0xFFFFFFFF).to_bytes(4, "big") + stamp.clock_ms.to_bytes(6, "big")
    return body + crc_hqx(body, 0).to_bytes(2, "big")


def _decode(code: bytes) -> Stamp | None:
    if crc_hqx(code[:10], 0) != int.from_bytes(code[10:], "big"):
        return None
    clock_ms = int.from_bytes(code[4:10], "big")
    if clock_ms == 0:  # an all-black grid has a valid checksum
        return None
    return Stamp(int.from_bytes(code[:4], "big"), clock_ms)


def _draw_stamp(picture: Picture, grid: _Grid, stamp: Stamp) -> None:
    bits = np.unpackbits(np.frombuffer(_encode(stamp), dtype=np.uint8)).reshape(ROWS, COLUMNS)
    large = bits.repeat(grid.block_height, axis=0).repeat(grid.block_width, axis=1)
    picture[grid.top : grid.bottom, grid.left : grid.left + grid.block_width * COLUMNS] = np.where(
        large[:, :, None] == 1, _WHITE, _BLACK
    )


def _draw_clock(picture: Picture, top: int, frame_number: int, clock_ms: int) -> None:
    height, width = picture.shape[:2]
    seconds, ms = divmod(clock_ms % 86_400_000, 1000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"
    scale = max(1, width // 110)
    small = max(1, scale // 2)
    middle = top + (height - top) // 2
    draw_text(picture, clock, width // 2, middle - 6 * scale, scale)
    draw_text(picture, f"UTC  FRAME {frame_number}", width // 2, middle + 3 * scale, small)


def _draw_ball(picture: Picture, top: int, frame_number: int) -> None:
    """A ball that bounces between the stamp and the lower edge: something must move for a codec to have
    work.
    """
    height, width = picture.shape[:2]
    disc = _disc(max(6, min(width, height) // 10))
    size = disc.shape[0]
    x = _bounce(frame_number * max(1, width // 120), width - size)
    y = top + _bounce(frame_number * max(1, height // 90), height - top - size)
    part = picture[y : y + size, x : x + size]
    part[:] = (part * (1 - disc) + _SUN * disc).astype(np.uint8)


def _bounce(distance: int, room: int) -> int:
    """Fold *distance* into 0 … *room* (triangle wave)."""
    if room <= 0:
        return 0
    offset = distance % (2 * room)
    return offset if offset < room else 2 * room - offset


@lru_cache(maxsize=8)
def _background(width: int, height: int) -> Picture:
    slope = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    sky = np.broadcast_to(_TOP * (1 - slope) + _BOTTOM * slope, (height, width, 3)).copy()
    step = max(16, width // 16)
    sky[::step, :, :] += 9
    sky[:, ::step, :] += 9
    return sky.clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _disc(radius: int) -> NDArray[np.float32]:
    """Coverage, 0 to 1, of a soft-edged disc, shape (2·radius, 2·radius, 1)."""
    axis = np.arange(-radius, radius, dtype=np.float32) + 0.5
    distance = np.hypot(axis[:, None], axis[None, :])
    coverage: NDArray[np.float32] = (radius - distance).clip(0.0, 1.0)[:, :, None].astype(np.float32)
    return coverage
