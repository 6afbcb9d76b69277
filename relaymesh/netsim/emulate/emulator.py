"""The wires between the namespaces: one process, one loop, one heap.

In: the descriptors of TUN devices, whose packets come out of them and go into
them, a :class:`~relaymesh.netsim.link_model.LinkModel` for each ordered pair of
addresses, and requests over a control socket. Out: each packet at the time its
link says, and how late that really was.

It is a process of its own, without trio and without a garbage collector: it has
one thing to do, at the right microsecond. With SCHED_FIFO, where that is
allowed, it holds that on a busy machine too; without, it says by its lateness
that it did not.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Any, NamedTuple

from relaymesh.netsim.emulate.cleanup import ProcessId
from relaymesh.netsim.emulate.lateness import Lateness
from relaymesh.netsim.link_model import LinkConditions, LinkModel

PACKET_BYTES = 2048  # longer than any device's MTU here
BATCH = 16  # packets of one device before deliveries that have come due go first
SPIN_S = 50e-6  # shorter waits are not worth a system call that may oversleep
LONGEST_WAIT_S = 0.05
# A packet's way from its sender's kernel to us, and from us into its receiver's, takes time of its own:
# half of an ICMP round trip beyond the links' delays, measured as 0.12 ms. So much earlier it is sent on.
HEAD_START_S = 100e-6
MAX_QUEUED = 500_000  # packets under way; more means that the emulator does not keep up
FIFO_PRIORITY = 50
MEDIA_LEAST = 120  # bytes of an IP packet on a relay link; probes and echoes are smaller, media is not


class Counters(NamedTuple):
    """What passed one wire so far: whole IP packets, and their bytes."""

    packets_in: int
    bytes_in: int
    packets_out: int  # delivered; copies of duplicated ones among them
    media: int
    media_bytes: int
    media_lost: int


class Wire:
    """One direction between two addresses: its model, where it leads, and what passed."""

    __slots__ = (
        "bytes_in", "due", "media", "media_bytes", "media_lost", "model", "name", "packets_in", "packets_out",
        "target",
    )  # fmt: skip

    def __init__(self, name: tuple[str, str], model: LinkModel, target: int) -> None:
        self.name = name
        self.model = model
        self.due = model.due
        self.target = target  # descriptor
        self.packets_in = self.packets_out = self.bytes_in = 0
        self.media = self.media_bytes = self.media_lost = 0  # of packets so large that they carry media

    def set(self, now: float, conditions: LinkConditions) -> None:
        """From *now* on the link is like this."""
        self.model.adopt(now, conditions)

    def counters(self) -> Counters:
        """What passed so far."""
        return Counters(
            self.packets_in, self.bytes_in, self.packets_out, self.media, self.media_bytes, self.media_lost
        )


class Emulator:
    """The devices, the wires between them, and the packets under way."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lateness = Lateness()
        self.unroutable = 0  # packets to an address no wire leads to; IPv6 and multicast among them
        self.overflowed = 0  # packets the receiving device, or the heap, had no room for
        self._clock = clock
        self._devices: dict[int, None] = {}
        self._wires: dict[bytes, Wire] = {}  # source and target address, 8 bytes
        self._by_name: dict[tuple[str, str], Wire] = {}
        self._heap: list[tuple[float, int, Wire, bytes]] = []
        self._sequence = 0
        self._poll = select.epoll()

    def add_device(self, descriptor: int) -> None:
        """Read packets from *descriptor*, which does not block."""
        self._devices[descriptor] = None
        self._poll.register(descriptor, select.EPOLLIN)

    def add_wire(self, source: str, target: str, model: LinkModel, descriptor: int) -> None:
        """Packets from the address *source* to *target* go by *model* into *descriptor*."""
        wire = Wire((source, target), model, descriptor)
        self._wires[socket.inet_aton(source) + socket.inet_aton(target)] = wire
        self._by_name[source, target] = wire

    def wire(self, source: str, target: str) -> Wire:
        """The wire between two addresses; ``KeyError`` without one."""
        return self._by_name[source, target]

    @property
    def queued(self) -> int:
        """Packets under way."""
        return len(self._heap)

    def turn(self, extra: int = -1, longest_wait: float = LONGEST_WAIT_S) -> bool:
        """Deliver what is due, wait for what comes next, take what has come; whether *extra* can be read.

        *extra* is a descriptor that was registered by :meth:`watch`.
        """
        now = self._deliver()
        wait = min(self._heap[0][0] - now, longest_wait) if self._heap else longest_wait
        if wait > SPIN_S:
            # epoll_wait counts milliseconds, select on the epoll's own descriptor microseconds.
            select.select((self._poll.fileno(),), (), (), wait - SPIN_S / 2)
        ready = False
        for descriptor, _ in self._poll.poll(0):
            if descriptor == extra:
                ready = True
            else:
                self._take(descriptor)
        return ready

    def watch(self, descriptor: int) -> None:
        """Wake up when *descriptor* can be read."""
        self._poll.register(descriptor, select.EPOLLIN)

    def _deliver(self) -> float:
        heap, clock = self._heap, self._clock
        now = clock()
        while heap and heap[0][0] <= now:
            due, _, wire, packet = heappop(heap)
            try:
                os.write(wire.target, packet)
            except BlockingIOError:
                self.overflowed += 1
            except OSError:
                self.overflowed += 1  # what the kernel takes for no packet; nobody sends such a thing twice
            else:
                wire.packets_out += 1
            now = clock()
            self.lateness.add(now - due)
        return now

    def _take(self, descriptor: int) -> None:
        for _ in range(BATCH):
            try:
                packet = os.read(descriptor, PACKET_BYTES)
            except BlockingIOError:
                return
            wire = self._wires.get(packet[12:20])
            if wire is None or packet[0] >> 4 != 4:
                self.unroutable += 1
                continue
            size = len(packet)
            wire.packets_in += 1
            wire.bytes_in += size
            arrivals = wire.due(self._clock(), size)
            if size > MEDIA_LEAST:
                wire.media += 1
                wire.media_bytes += size
                wire.media_lost += not arrivals
            for due in arrivals:
                if len(self._heap) >= MAX_QUEUED:
                    self.overflowed += 1
                    continue
                self._sequence += 1
                heappush(self._heap, (due - HEAD_START_S, self._sequence, wire, packet))

    def stats(self) -> dict[str, Any]:
        """What passed so far, by wires that were used, and how late the packets were."""
        return {
            "at": self._clock(),
            "wires": {name: w.counters() for name, w in self._by_name.items() if w.packets_in},
            "lateness_ms": self.lateness.summary(),
            "unroutable": self.unroutable,
            "overflowed": self.overflowed,
            "queued": self.queued,
            "cpu_s": round(time.process_time(), 3),
        }


class Control:
    """Requests of who started the emulator, each answered by one; see :func:`send` for their form."""

    def __init__(self, emulator: Emulator, sock: socket.socket) -> None:
        self.ended = False
        self._emulator = emulator
        self._socket = sock
        self._children: list[ProcessId] = []
        self._told_to_stop = False

    def handle(self) -> None:
        """Take one request and answer it; an end of the stream ends the emulation."""
        request = receive(self._socket)
        if request is None:
            self.ended = True
        else:
            send(self._socket, self._answer(request))

    def _answer(self, request: tuple[Any, ...]) -> Any:
        match request:
            case ("stats",):
                return self._emulator.stats()
            case ("measure",):
                self._emulator.lateness = Lateness()
            case ("set", source, target, conditions):
                self._emulator.wire(source, target).set(time.monotonic(), conditions)
            case ("children", children):
                self._children = children
            case ("stop",):
                self.ended = self._told_to_stop = True
        return True

    def end_orphans(self) -> None:
        """Who started us was killed, and could not end its processes: do it in its place."""
        if not self._told_to_stop:
            for child in self._children:
                child.kill()


def send(sock: socket.socket, message: Any) -> None:
    """One message between the runner and its emulator: u32 length, pickled.

    Pickled, because both ends are one program, and nobody else has the socket.
    """
    data = pickle.dumps(message)
    sock.sendall(struct.pack("!I", len(data)) + data)


def receive(sock: socket.socket) -> Any:
    """The next message; ``None`` when the other end is gone."""
    head = sock.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        return None
    data = bytearray()
    (length,) = struct.unpack("!I", head)
    while len(data) < length:
        chunk = sock.recv(length - len(data))
        if not chunk:
            return None
        data += chunk
    return pickle.loads(data)


@dataclass(frozen=True, slots=True)
class WireSpec:
    """One direction between two addresses, as the runner wants it."""

    source: str
    target: str
    conditions: LinkConditions
    seed: str


@dataclass(frozen=True, slots=True)
class Setup:
    """All that an emulator must know."""

    devices: dict[int, list[str]]  # descriptor → addresses behind it
    wires: list[WireSpec]


def build(setup: Setup) -> Emulator:
    """The emulator that *setup* asks for."""
    emulator = Emulator()
    of_address: dict[str, int] = {}
    for descriptor, addresses in setup.devices.items():
        emulator.add_device(descriptor)
        of_address.update(dict.fromkeys(addresses, descriptor))
    for wire in setup.wires:
        model = LinkModel(wire.conditions, Random(wire.seed))
        emulator.add_wire(wire.source, wire.target, model, of_address[wire.target])
    return emulator


def ask_for_priority() -> bool:
    """Run before everything else on this machine; whether that is allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
    except OSError:
        return False
    return True


def main() -> None:
    """Run until the control socket (its descriptor is the only argument) is closed at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's, which still has to ask us things
    control = socket.socket(fileno=int(sys.argv[1]))
    emulator = build(receive(control))
    descriptor = control.fileno()
    emulator.watch(descriptor)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would be a pause of tens of milliseconds, and nothing here is cyclic
    send(control, {"fifo": ask_for_priority()})
    requests = Control(emulator, control)
    try:
        while not requests.ended:
            if emulator.turn(descriptor):
                requests.handle()
    except ConnectionError:
        pass  # the runner is gone
    requests.end_orphans()
