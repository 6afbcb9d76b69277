"""A lock between threads of which one takes it again and again.

A plain lock goes to whoever asks first after its release, and that is the thread that has just released it
and is still running: at full load the others would wait for ever.
"""

from __future__ import annotations

import threading
from types import TracebackType


class FairLock:
    """Given to whoever has waited, before to who releases it and asks again. Not reentrant."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held by the one who is next

    def __enter__(self) -> None:
        with self._turn:
            self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
