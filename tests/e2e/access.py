"""A client's access line, emulated before a node's media port: a rate, a queue, a delay, in real time.

A page is pointed at :attr:`AccessLink.port` in place of the node's. What comes down is held to
the rate behind a queue that drops when it is full; what goes up is only delayed.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import threading
import time

Address = tuple[str, int]


class AccessLink:
    """One client's line to *target*; runs in a thread until it is closed."""

    def __init__(
        self, target: Address, *, down_bps: float, queue_ms: float = 200.0, delay_ms: float = 10.0
    ) -> None:
        self.down_bps = down_bps  # may be set while it runs
        self.dropped = 0
        self.down_bytes = 0
        self._queue_s, self._delay_s = queue_ms / 1e3, delay_ms / 1e3
        self._target = target
        self._inner = self._socket()  # towards the client
        self._outer = self._socket()  # towards the node
        self._client: Address | None = None
        self._free_at = 0.0
        self._due: list[tuple[float, int, socket.socket, bytes, Address]] = []
        self._order = itertools.count()
        self._closed = threading.Event()
        self.port: int = self._inner.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def _socket() -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("127.0.0.1", 0))
        opened.setblocking(False)
        return opened

    def close(self) -> None:
        self._closed.set()
        self._thread.join(5.0)
        self._inner.close()
        self._outer.close()

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._inner, selectors.EVENT_READ)
        selector.register(self._outer, selectors.EVENT_READ)
        while not self._closed.is_set():
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 0.05
            for key, _ in selector.select(min(wait, 0.05)):
                self._take(key.fileobj)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, out, data, address = heapq.heappop(self._due)
                try:
                    out.sendto(data, address)
                except OSError:
                    self.dropped += 1
        selector.close()

    def _take(self, ready: object) -> None:
        for _ in range(64):
            try:
                data, address = ready.recvfrom(2048)  # type: ignore[attr-defined]
            except OSError:
                return
            now = time.monotonic()
            if ready is self._inner:
                self._client = address
                self._push(now + self._delay_s, self._outer, data, self._target)
            elif self._client is not None:
                self._free_at = max(self._free_at, now)
                if self._free_at - now > self._queue_s:
                    self.dropped += 1
                    continue
                self._free_at += (len(data) + 28) * 8 / self.down_bps
                self.down_bytes += len(data) + 28
                self._push(self._free_at + self._delay_s, self._inner, data, self._client)

    def _push(self, at: float, out: socket.socket, data: bytes, address: Address) -> None:
        heapq.heappush(self._due, (at, next(self._order), out, data, address))
