"""A bitmap font of 5 by 7 dots, drawn into an array: the digits and the capitals.

In: an RGB array, a text and a place. Out: the array, drawn on. A character the font
does not have is drawn as a blank. Knows nothing of pictures or clocks.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

GLYPH_WIDTH = 5
GLYPH_HEIGHT = 7

# Seven rows of five dots for each character; the leftmost dot is the highest of the five bits.
_GLYPHS: dict[str, tuple[int, ...]] = {
    "0": (0x0E, 0x11, 0x13, 0x15, 0x19, 0x11, 0x0E),
    "1": (0x04, 0x0C, 0x04, 0x04, 0x04, 0x04, 0x0E),
    "2": (0x0E, 0x11, 0x01, 0x02, 0x04, 0x08, 0x1F),
    "3": (0x1F, 0x02, 0x04, 0x02, 0x01, 0x11, 0x0E),
    "4": (0x02, 0x06, 0x0A, 0x12, 0x1F, 0x02, 0x02),
    "5": (0x1F, 0x10, 0x1E, 0x01, 0x01, 0x11, 0x0E),
    "6": (0x06, 0x08, 0x10, 0x1E, 0x11, 0x11, 0x0E),
    "7": (0x1F, 0x01, 0x02, 0x04, 0x08, 0x08, 0x08),
    "8": (0x0E, 0x11, 0x11, 0x0E, 0x11, 0x11, 0x0E),
    "9": (0x0E, 0x11, 0x11, 0x0F, 0x01, 0x02, 0x0C),
    ":": (0x00, 0x0C, 0x0C, 0x00, 0x0C, 0x0C, 0x00),
    ".": (0x00, 0x00, 0x00, 0x00, 0x00, 0x0C, 0x0C),
    "A": (0x0E, 0x11, 0x11, 0x1F, 0x11, 0x11, 0x11),
    "C": (0x0E, 0x11, 0x10, 0x10, 0x10, 0x11, 0x0E),
    "E": (0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x1F),
    "F": (0x1F, 0x10, 0x10, 0x1E, 0x10, 0x10, 0x10),
    "M": (0x11, 0x1B, 0x15, 0x15, 0x11, 0x11, 0x11),
    "R": (0x1E, 0x11, 0x11, 0x1E, 0x14, 0x12, 0x11),
    "T": (0x1F, 0x04, 0x04, 0x04, 0x04, 0x04, 0x04),
    "U": (0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x0E),
}
_INK = np.array([244, 246, 250], dtype=np.uint8)
_SHADOW = np.array([6, 10, 24], dtype=np.uint8)


def draw_text(picture: NDArray[np.uint8], text: str, center_x: int, top: int, scale: int) -> None:
    """Draw *text* into *picture*, shape (height, width, 3), centred on *center_x*; a dot is *scale* pixels.

    What does not fit is cut off at the border. A shadow keeps the text readable on any ground.
    """
    dots = np.concatenate([_glyph(character, scale) for character in text], axis=1)
    left = center_x - dots.shape[1] // 2
    _paint(picture, dots, left + max(1, scale // 2), top + max(1, scale // 2), _SHADOW)
    _paint(picture, dots, left, top, _INK)


def _paint(
    picture: NDArray[np.uint8], dots: NDArray[np.bool_], left: int, top: int, color: NDArray[np.uint8]
) -> None:
    height, width = picture.shape[:2]
    y, x = max(0, top), max(0, left)
    visible = dots[y - top : max(0, height - top), x - left : max(0, width - left)]
    picture[y : y + visible.shape[0], x : x + visible.shape[1]][visible] = color


@lru_cache(maxsize=256)
def _glyph(character: str, scale: int) -> NDArray[np.bool_]:
    """One character with its gap to the right, scaled, as a mask."""
    rows = _GLYPHS.get(character, (0,) * GLYPH_HEIGHT)
    mask = np.zeros((GLYPH_HEIGHT, GLYPH_WIDTH + 1), dtype=np.bool_)
    for y, row in enumerate(rows):
        for x in range(GLYPH_WIDTH):
            mask[y, x] = bool(row >> (GLYPH_WIDTH - 1 - x) & 1)
    return mask.repeat(scale, axis=0).repeat(scale, axis=1)
