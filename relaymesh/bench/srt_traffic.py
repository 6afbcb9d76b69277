"""The two ends of the measurement: a constant sender and a receiver that notes what came, and when.

Each is a process of its own, without trio, and speaks UDP on the loopback of its
namespace to the system that is measured; all namespaces share this machine's
monotonic clock, so that one-way delays are exact. The payload of every packet:
tag (u64), index (u32), time of sending (f64, seconds), then zeros.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"
SEND_PROGRAM = (sys.executable, "-c", "from relaymesh.bench.srt_traffic import send; send()")
RECEIVE_PROGRAM = (sys.executable, "-c", "from relaymesh.bench.srt_traffic import receive; receive()")
_HEAD = struct.Struct("!QId")
_BUFFER_BYTES = 4 << 20
_LOOK_UP_S = 0.1  # how often the receiver looks whether it is to stop

Arrival = tuple[int, float, float]  # index, sent and received at (seconds)


def send() -> None:
    """Arguments: port, tag, packets a second, payload bytes, packets, start (monotonic seconds), result file.

    The result says how late packets left (ms): a machine that cannot keep the pace measures itself.
    """
    port, tag, rate, size, count = (int(word) for word in sys.argv[1:6])
    start, result = float(sys.argv[6]), Path(sys.argv[7])
    goal = (LOOPBACK, port)
    padding = bytes(size - _HEAD.size)
    late = array("d")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for index in range(count):
            due = start + index / rate
            left = due - time.monotonic()
            if left > 0:
                time.sleep(left)
            now = time.monotonic()
            sock.sendto(_HEAD.pack(tag, index, now) + padding, goal)
            late.append(now - due)
    ordered = sorted(late)
    result.write_text(json.dumps({"sent": count, "late_p99_ms": ordered[int(0.99 * count)] * 1e3}))


def receive() -> None:
    """Arguments: port, tag, result file, which is written at SIGTERM."""
    port, tag, result = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    stopped = False

    def stop(_: int, __: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    noted = array("d")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.bind((LOOPBACK, port))
        sock.settimeout(_LOOK_UP_S)
        while not stopped:
            try:
                packet = sock.recv(2048)
            except TimeoutError:
                continue
            now = time.monotonic()
            if len(packet) < _HEAD.size:
                continue
            theirs, index, sent_at = _HEAD.unpack_from(packet)
            if theirs == tag:
                noted.extend((index, sent_at, now))
    result.write_bytes(noted.tobytes())


def read_arrivals(path: Path) -> list[Arrival]:
    """What :func:`receive` wrote."""
    noted = array("d")
    noted.frombytes(path.read_bytes())
    return arrivals_of(noted)


def arrivals_of(noted: Sequence[float]) -> list[Arrival]:
    """Flat triples as tuples."""
    return [(int(noted[i]), noted[i + 1], noted[i + 2]) for i in range(0, len(noted), 3)]
