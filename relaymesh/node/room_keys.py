"""The file of room keys of a node, read again when it changes, so that keys rotate without a restart.

In: a path. Out: the ring of keys that holds now. A file that is broken or gone changes nothing: a slip while
keys are rotated must lock nobody out; the ring before it holds, and one line of the log says why.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from relaymesh.access.keys import MAX_BYTES, KeyRing, KeysError, read_ring
from relaymesh.runtime.log import get_logger

log = get_logger(__name__)


def read_room_keys(path: Path) -> KeyRing:
    """The keys in the file at *path*, a JWK set.

    Raises:
        KeysError: it cannot be read, or holds no such set.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe has its content once only, and may never end
            raise KeysError("not a file that can be read again")
        with path.open("rb") as file:
            return read_ring(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise KeysError(error.strerror or type(error).__name__) from None


class RoomKeys:
    """Keys of one file. Asking costs a look at its times; it is read only where they changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ring: KeyRing | None = None
        self._seen: tuple[int, ...] | None = None  # what the file was like when it was read

    def ring(self) -> KeyRing | None:
        """The keys that hold now; ``None`` while the file never held any."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen  # before reading: what changes meanwhile is seen the next time
            self._read()
        return self._ring

    def _look(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._path)
        except OSError as error:
            return (error.errno or 0,)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _read(self) -> None:
        try:
            ring = read_room_keys(self._path)
        except KeysError as error:
            which = "no client gets in" if self._ring is None else "those read before still hold"
            log.warning(f"room keys cannot be read: {which}", file=str(self._path), why=str(error))
            return
        self._ring = ring
        log.info("room keys", keys=[key.id for key in ring.keys])
        if any(key.public is not None and key.private is not None for key in ring.keys):
            log.warning("room keys hold private halves, which no node needs", file=str(self._path))
