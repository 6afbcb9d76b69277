"""What each kernel costs, native beside reference in one run: CPU ns a packet, medians of interleaved runs.

    python native/measure.py [--runs 7] [--subscribers 50] [--burst 8] [--bytes 1200]

Sends to loopback; the sinks are emptied outside of the measured time, so the cost of a send is that of the
sending side and of the kernel's delivery into a socket.
"""

from __future__ import annotations

import argparse
import gc
import socket
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import relaymesh_native

KERNELS = ("reference", "native")
BLOCK = b"\xbe\xde\0\2\x31\0\0\x10\x01\0\0\0"
Measure = Callable[[], float]  # CPU ns for each of what a row counts


def module(kernel: str, name: str) -> Any:
    if kernel == "native":
        return getattr(relaymesh_native, name)
    return import_module(f"relaymesh.kernels.{name}_reference")


def cpu() -> int:
    return time.process_time_ns()


class Sinks:
    """Sockets on loopback that take a burst, with joined trains or without."""

    def __init__(self, count: int, *, joined: bool) -> None:
        self.source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.source.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.source.setblocking(False)
        self.sockets = []
        for _ in range(count):
            sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sink.setblocking(False)
            sink.bind(("127.0.0.1", 0))
            if joined:
                relaymesh_native.udp.enable_gro(sink.fileno())
            self.sockets.append(sink)

    def empty(self) -> int:
        return sum(len(relaymesh_native.udp.receive(sink.fileno(), 4096)) for sink in self.sockets)


class FanOut:
    """A burst to each of many subscribers: assigning, and sealing and sending, apart."""

    def __init__(self, kernel: str, sinks: Sinks, profile: str, arguments: argparse.Namespace) -> None:
        kernels, srtp = module(kernel, "fan_out"), module(kernel, "srtp")
        self.sinks, self.burst = sinks, arguments.burst
        self.payload = bytes(arguments.bytes - 12 - len(BLOCK))
        self.fan_out = kernels.FanOut(44)
        self.group = self.fan_out.group()
        key_bytes = {"AEAD_AES_128_GCM": 28, "AES128_CM_SHA1_80": 30}[profile]
        for number, sink in enumerate(sinks.sockets):
            path = kernels.Path(srtp.SrtpSender(bytes([number & 255]) * key_bytes, profile))
            path.address, path.is_open = sink.getsockname(), True
            path.gated, path.rate, path.least_burst = True, 1e9, 1e9
            self.group.add(
                kernels.Stream(
                    path, path, ssrc=number, payload_type=96, profile=0, has_number=True, urgent=False,
                    sequence_offset=number, timestamp_offset=number, spatial=6, temporal=6,
                )
            )  # fmt: skip
        self.sequence = 0
        self.now = 1.0

    def measure(self, rounds: int) -> tuple[float, float]:
        """CPU ns for each packet that leaves: to assign, to seal and send."""
        assigning = sending = 0
        blocks = [(BLOCK, 5, -1)]
        for _ in range(rounds):
            start = cpu()
            for _ in range(self.burst):
                self.sequence += 1
                self.group.push(
                    self.sequence, 0, False, False, 0, 0, self.payload, (-1, 0, -1), blocks, self.now
                )
            assigned = cpu()
            failures = self.fan_out.send(self.sinks.source.fileno())
            sending += cpu() - assigned
            assigning += assigned - start
            self.now += 0.01
            assert failures == 0, "loopback took less than a burst"
            assert self.sinks.empty() == self.burst * len(self.sinks.sockets)
        packets = rounds * self.burst * len(self.sinks.sockets)
        return assigning / packets, sending / packets


def srtp_rows(kernel: str, size: int) -> dict[str, Measure]:
    def protect(profile: str, key_bytes: int) -> Measure:
        sender = module(kernel, "srtp").SrtpSender(bytes(key_bytes), profile)
        packet = bytes([0x80, 96]) + bytes(size - 2)
        return lambda: each(lambda: sender.protect_rtp(packet), 5000)

    return {
        "SRTP GCM, protect": protect("AEAD_AES_128_GCM", 28),
        "SRTP CM, protect": protect("AES128_CM_SHA1_80", 30),
    }


def aead_rows(kernel: str, size: int) -> dict[str, Measure]:
    aead = module(kernel, "aead")
    sealer, opener = aead.Sealer(bytes(16)), aead.Opener(bytes(16))
    jobs = [(sealer, bytes(12), bytes(size - 28))] * 64
    sealed = [(opener, datagram) for datagram in aead.seal_batch(jobs)]
    return {
        "seal, 64 at once": lambda: each(lambda: aead.seal_batch(jobs), 100) / 64,
        "open, 64 at once": lambda: each(lambda: aead.open_batch(sealed), 100) / 64,
    }


def gf256_rows(kernel: str, size: int) -> dict[str, Measure]:
    combine = module(kernel, "gf256").combine
    packets = [bytes([k + 1]) * size for k in range(10)]
    coefficients = list(range(2, 12))
    return {"erasure code, sum of 10": lambda: each(lambda: combine(coefficients, packets, size), 500)}


def udp_rows(kernel: str, size: int) -> dict[str, Measure]:
    udp = module(kernel, "udp")
    sinks = Sinks(8, joined=False)
    batch = [(bytes(size), sink.getsockname()) for sink in sinks.sockets for _ in range(8)]
    scattered = [batch[k * 8 % 64 + k // 8] for k in range(64)]

    def send(datagrams: list[Any]) -> float:
        spent = 0
        for _ in range(40):
            start = cpu()
            udp.send(sinks.source.fileno(), datagrams)
            spent += cpu() - start
            sinks.empty()
        return spent / 40 / len(datagrams)

    def receive(joined: bool) -> Measure:
        sink = Sinks(1, joined=joined)
        to = [(bytes(size), sink.sockets[0].getsockname())] * 64

        def measure() -> float:
            spent = 0
            for _ in range(40):
                relaymesh_native.udp.send(sink.source.fileno(), to)
                start = cpu()
                while udp.receive(sink.sockets[0].fileno(), 64):
                    pass
                spent += cpu() - start
            return spent / 40 / 64

        return measure

    return {
        "UDP send, trains of 8": lambda: send(batch),
        "UDP send, no trains": lambda: send(scattered),
        "UDP receive, one by one": receive(False),
        "UDP receive, joined": receive(kernel == "native"),
    }


def each(work: Callable[[], object], times: int) -> float:
    start = cpu()
    for _ in range(times):
        work()
    return (cpu() - start) / times


def fan_out_rows(kernel: str, arguments: argparse.Namespace) -> dict[str, Measure]:
    rows: dict[str, Measure] = {}
    cases = (
        ("GCM", "AEAD_AES_128_GCM", False),
        ("GCM, sinks join", "AEAD_AES_128_GCM", True),
        ("CM", "AES128_CM_SHA1_80", False),
    )
    for name, profile, joined in cases:
        fan_out = FanOut(kernel, Sinks(arguments.subscribers, joined=joined), profile, arguments)
        rows[f"fan-out {name}: assign"] = lambda fan_out=fan_out: fan_out.measure(20)[0]
        rows[f"fan-out {name}: seal, send"] = lambda fan_out=fan_out: fan_out.measure(20)[1]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--subscribers", type=int, default=50)
    parser.add_argument("--burst", type=int, default=8)
    parser.add_argument("--bytes", type=int, default=1200)
    arguments = parser.parse_args()
    rows = {
        kernel: {
            **fan_out_rows(kernel, arguments),
            **srtp_rows(kernel, arguments.bytes),
            **aead_rows(kernel, arguments.bytes),
            **gf256_rows(kernel, arguments.bytes),
            **udp_rows(kernel, arguments.bytes),
        }
        for kernel in KERNELS
    }
    gc.disable()
    print("| ns of CPU a packet | reference | native | ratio |\n|---|---|---|---|")
    for name in rows["native"]:
        measured: dict[str, list[float]] = {kernel: [] for kernel in KERNELS}
        for _ in range(arguments.runs):
            for kernel in KERNELS:
                measured[kernel].append(rows[kernel][name]())
        one, other = (statistics.median(measured[kernel]) for kernel in KERNELS)
        print(f"| {name} | {one:.0f} | {other:.0f} | {one / other:.1f} |", flush=True)


if __name__ == "__main__":
    main()
