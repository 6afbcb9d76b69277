"""Native kernels against their references, on hostile inputs: whatever goes in, both must do the same.

    python native/fuzz.py INPUTS SEED [aead | srtp | gf256 | udp | fan_out ...]

An input is a datagram, a packet or a product. Where the two differ it stops and prints what it had; the same
arguments find it again. `python native/fuzz.py 10000000 1` is the full run (half an hour on one core).
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import relaymesh_native as native

from relaymesh.kernels import (
    aead_reference,
    fan_out_reference,
    gf256_reference,
    srtp_reference,
    udp_reference,
)

PROFILES = {"AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44, "AES128_CM_SHA1_80": 30}
# Refusals that the kernels put in different words: (reference, native).
SAME_REASONS = {
    ("libsrtp status 14", "not encrypted"),
    ("libsrtp status 21", "bad parameter"),
    ("libsrtp status 8", "bad parameter"),
}


def equal(what: str, one: object, other: object, *context: object) -> None:
    if one != other:
        sys.exit(f"{what} differ\n  reference {one!r}\n  native    {other!r}\n  {context!r}")


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What *function* returns, or the type of what it raises: only errors of the interface are expected."""
    try:
        return function(*arguments)
    except (ValueError, OverflowError, IndexError, TypeError, OSError) as error:
        return type(error).__name__


def hostile(random: Random, data: bytes) -> bytes:
    """*data* as somebody who means harm, or a bad path, makes it."""
    way = random.randrange(8)
    if way == 0:
        return data[: random.randrange(len(data) + 1)]
    if way == 1:
        return data + random.randbytes(random.randrange(1, 2200))
    if way == 2:
        return random.randbytes(random.choice((0, 1, 7, 8, 11, 12, 16, 28, 40, 100, 1500, 2048, 2049)))
    if way == 3 and data:
        return data[:1] + random.randbytes(len(data) - 1)
    changed = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        if changed:
            at = random.randrange(len(changed) if way < 6 else min(len(changed), 20))
            changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)


def fuzz_aead(inputs: int, random: Random) -> None:
    done = 0
    while done < inputs:
        keys = [random.randbytes(16) for _ in range(3)]
        picks = [random.randrange(3) for _ in range(64)]
        jobs = [
            (pick, random.randbytes(12), random.randbytes(random.choice((0, 1, 15, 16, 17, 100, 1428))))
            for pick in picks
        ]
        sealed = []
        for kernel in (aead_reference, native.aead):
            sealers = [kernel.Sealer(key) for key in keys]
            sealed.append(kernel.seal_batch([(sealers[pick], header, plain) for pick, header, plain in jobs]))
        equal("sealed datagrams", *sealed, keys, jobs)
        datagrams = [
            (pick, datagram if random.random() < 0.3 else hostile(random, datagram))
            for pick, datagram in zip(picks, sealed[0], strict=True)
        ]
        opened = []
        for kernel in (aead_reference, native.aead):
            openers = [kernel.Opener(key) for key in keys]
            opened.append(kernel.open_batch([(openers[pick], datagram) for pick, datagram in datagrams]))
        equal("opened datagrams", *opened, keys, datagrams)
        done += len(datagrams)


class Srtp:
    """A session over both kernels: the same packets to both senders, and to both receivers."""

    def __init__(self, random: Random) -> None:
        self.random = random
        profile, key_bytes = random.choice(list(PROFILES.items()))
        key = random.randbytes(key_bytes)
        self.senders = [k.SrtpSender(key, profile) for k in (srtp_reference, native.srtp)]
        self.receivers = [k.SrtpReceiver(key, profile) for k in (srtp_reference, native.srtp)]
        self.sequences: dict[int, int] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.many = random.random() < 0.2  # more SSRCs than a receiver keeps

    def packet(self) -> bytes:
        random = self.random
        ssrc = random.randrange(400 if self.many else 4)
        sequence = self.sequences.get(ssrc, random.choice((0, 1, 30000, 32768, 32769, 65500)))
        sequence += random.choice(
            (1, 1, 1, 1, 2, -1, -3, 100, -1023, -1024, -1025, 1023, 5000, 32767, 32768, 32769)
        )
        self.sequences[ssrc] = max(0, sequence)
        first = 0x80 | random.choice((0, 0, 0, 0, 1, 3, 15, 0x10, 0x11))
        header = bytes([first, 96]) + (sequence & 0xFFFF).to_bytes(2) + random.randbytes(4) + ssrc.to_bytes(4)
        header += random.randbytes(4 * (first & 15))
        if first & 0x10:
            words = random.choice((0, 1, 4, 300, 0xFFFF))
            header += b"\xbe\xde" + words.to_bytes(2) + random.randbytes(4 * min(words, 4))
        return header + random.randbytes(random.choice((0, 1, 20, 160, 1200, 1876, 1888, 1889, 2100)))

    def report(self) -> bytes:
        ssrc = self.random.randrange(400 if self.many else 4)
        return (
            b"\x80\xc9\0\1"
            + ssrc.to_bytes(4)
            + self.random.randbytes(self.random.choice((0, 4, 24, 600, 1892, 1893)))
        )

    def both(self, pair: list[Any], method: str, packet: bytes) -> bytes | None:
        said = []
        for kernel in pair:
            try:
                said.append((True, getattr(kernel, method)(packet)))
            except (srtp_reference.SrtpFailure, native.srtp.SrtpFailure) as failure:
                said.append((False, str(failure)))
        if said[0][0] or said[1][0] or (said[0][1], said[1][1]) not in SAME_REASONS:
            equal(method, *said, packet)
        REASONS[said[1][1] if not said[1][0] else "accepted"] += 1
        return said[0][1] if said[0][0] else None

    def step(self) -> None:
        random = self.random
        kind = "rtp" if random.random() < 0.8 else "rtcp"
        packet = self.packet() if kind == "rtp" else self.report()
        if random.random() < 0.1:
            packet = hostile(random, packet)
        sealed = self.both(self.senders, f"protect_{kind}", packet)
        if sealed is not None:
            self.sent = [*self.sent[-40:], (kind, sealed)]
        if self.sent and random.random() < 0.4:
            kind, sealed = random.choice(self.sent)  # reordered, or replayed
        if sealed is None:
            sealed = packet
        if random.random() < 0.3:
            sealed = hostile(random, sealed)
        if random.random() < 0.05:
            kind = "rtcp" if kind == "rtp" else "rtp"
        self.both(self.receivers, f"unprotect_{kind}", sealed)


REASONS: Counter[str] = Counter()


def fuzz_srtp(inputs: int, random: Random) -> None:
    done = 0
    while done < inputs:
        session = Srtp(random)
        for _ in range(2000):
            session.step()
        done += 2000
    print("  " + ", ".join(f"{reason}: {count}" for reason, count in REASONS.most_common()))


def fuzz_gf256(inputs: int, random: Random) -> None:
    for _ in range(inputs):
        count = random.choice((0, 1, 2, 5, 10, 32))
        size = random.choice((0, 1, 31, 32, 33, 64, 100, 1200))
        coefficients = [random.choice((0, 1, 2, 255, random.randrange(256))) for _ in range(count)]
        packets = [
            random.randbytes(max(0, size - random.choice((0, 0, 1, 31, 600))))
            + random.choice((b"", b"", b"", b"\0", b"\0\1"))
            for _ in range(max(0, count - (random.random() < 0.02)))
        ]
        said = [outcome(k.combine, coefficients, packets, size) for k in (gf256_reference, native.gf256)]
        equal("sums", *said, coefficients, packets, size)


ADDRESSES: list[Any] = [
    ("fe80::1%\0", 9), ("::1%\0", 9), ("127.0.0.1", 70_000), ("127.0.0.1", -1), ("127.0.0.1", 2**70),
    ("\ud800", 9), ("127.0.0.1",), (), "127.0.0.1", None, 7, ("127.0.0.1", "9"), ("127.0.0.1", None),
    ("::1", 9),
]  # fmt: skip


def fuzz_udp(inputs: int, random: Random) -> None:
    sources, sinks = [], []
    for _ in range(2):
        for made in (sources, sinks):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
            sock.bind(("127.0.0.1", 0))
            made.append(sock)
    native.udp.enable_gro(sinks[1].fileno())
    done = 0
    while done < inputs:
        size = random.choice((0, 1, 40, 1200, 1472, 2048, 3000, 65_507))
        batch: list[tuple[bytes, Any]] = []
        for _ in range(random.randrange(1, 100 if size < 3001 else 6)):
            if random.random() < 0.2:
                size = random.choice((0, 1, 40, 1199, 1200, 1201, 65_508 if random.random() < 0.02 else 100))
            data = random.randbytes(4)[:size].ljust(size, b"x")
            batch.append((data, random.choice(ADDRESSES) if random.random() < 0.1 else ...))
        said = []
        for kernel, source, sink in zip((udp_reference, native.udp), sources, sinks, strict=True):
            mine = [(data, sink.getsockname() if address is ... else address) for data, address in batch]
            failures = kernel.send(source.fileno(), mine)
            received = []
            while some := kernel.receive(sink.fileno(), random.choice((1, 7, 64))):
                received += [data for data, address in some if address == source.getsockname()]
            said.append((failures, received))
        equal("datagrams", *said, [(len(data), address) for data, address in batch])
        done += len(batch)


def fuzz_fan_out(inputs: int, random: Random) -> None:
    done = 0
    while done < inputs:
        kernels = ((fan_out_reference, srtp_reference), (native.fan_out, native.srtp))
        fan_outs = [kernel.FanOut(44) for kernel, _ in kernels]
        groups = [fan_out.group() for fan_out in fan_outs]
        keys = [random.randbytes(28) if random.random() < 0.7 else None for _ in range(6)]
        pairs = [
            [kernel.Path(key and srtp.SrtpSender(key, "AEAD_AES_128_GCM")) for key in keys]
            for kernel, srtp in kernels
        ]
        streams: list[list[Any]] = [[], []]
        for number in range(12):
            fields = {
                "ssrc": random.getrandbits(32), "payload_type": random.randrange(128),
                "profile": random.randrange(4), "has_number": random.random() < 0.5,
                "urgent": random.random() < 0.3, "sequence_offset": random.randrange(-(2**70), 2**70),
                "timestamp_offset": random.randrange(-(2**70), 2**70), "spatial": random.randrange(7),
                "temporal": random.randrange(7), "tl0_offset": random.randrange(256),
                "picture_offset": random.choice((0, random.randrange(0x8000))),
                "frame_offset": random.choice((0, random.randrange(0x10000))),
            }  # fmt: skip
            for side, (kernel, _) in enumerate(kernels):
                streams[side].append(kernel.Stream(pairs[side][number % 6], number, **fields))
        for _ in range(200):
            number, now, on = random.randrange(12), random.uniform(0, 100), random.random() < 0.7
            change = random.randrange(8)
            field, value = random.choice(
                [
                    ("address", random.choice([("127.0.0.1", 9), ("127.0.0.1", 10), ("a", 1), None])),
                    ("is_open", random.random() < 0.8), ("number", random.randrange(65536)),
                    ("gated", random.random() < 0.7), ("is_behind", random.random() < 0.3),
                    ("allowance", random.uniform(-3000, 3000)), ("rate", random.uniform(0, 1e6)),
                    ("least_burst", random.uniform(0, 3000)),
                ]
            )  # fmt: skip
            blocks = [
                (
                    random.randbytes(size),
                    random.choice((-1, 0, size - 2, size - 1)) if size else -1,
                    random.choice((-1, 0, size - 2, size - 2, size - 1)) if size else -1,
                )
                for size in (random.choice((0, 4, 12)) for _ in range(random.choice((3, 4, 4, 4, 4))))
            ]
            arguments = (
                random.getrandbits(40), random.getrandbits(40), random.random() < 0.3, random.random() < 0.3,
                random.randrange(7), random.randrange(7),
                random.randbytes(random.choice((0, 1, 100, 1200, 1888, 1889))),
                (random.randrange(-2, 4), random.choice((0, 7, 15, 15, 8)), random.randrange(-2, 4)),
                blocks, now,
            )  # fmt: skip
            said = []
            whole = hostile(random, random.randbytes(random.choice((12, 40, 1200))))
            pops = random.random() < 0.1
            for side in (0, 1):
                if change == 0:
                    setattr(pairs[side][number % 6], field, value)
                elif change == 1:
                    (groups[side].add if on else groups[side].remove)(streams[side][number])
                elif change == 2:
                    pairs[side][number % 6].refill(now)
                elif change == 3:
                    outcome(fan_outs[side].put, pairs[side][number % 6], whole)
                refused = outcome(groups[side].push, *arguments)
                popped = fan_outs[side].pop() if pops else None
                state = [(p.number, p.dropped, p.allowance, p.at, p.take_sent()) for p in pairs[side]]
                said.append((refused, popped, state, len(fan_outs[side]), fan_outs[side].unsealed))
            equal("fan-outs", *said, arguments)
        done += 200


FUZZERS: dict[str, Callable[[int, Random], None]] = {
    "aead": fuzz_aead,
    "srtp": fuzz_srtp,
    "gf256": fuzz_gf256,
    "udp": fuzz_udp,
    "fan_out": fuzz_fan_out,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("inputs", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument(
        "kernels", nargs="*", choices=[*FUZZERS, []], default=[], help="all, if none is named"
    )
    arguments = parser.parse_args()
    for name in arguments.kernels or FUZZERS:
        start = time.monotonic()
        FUZZERS[name](arguments.inputs, Random(f"{name} {arguments.seed}"))
        print(f"{name}: {arguments.inputs} inputs alike, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
