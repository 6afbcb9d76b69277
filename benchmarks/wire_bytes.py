"""What crosses the relay links of a simulated scenario, by what it carries, and what media costs there.

    python benchmarks/wire_bytes.py simulations/atlantic-cut.yaml [--set KEY=VALUE ...]

Takes the arguments of `relaymesh simulate`. Bytes are those of whole IP packets. Of audio and of video: the
packets that crossed a link, their payload, and what they took on the wire; second copies (hitless, salvaged)
are packets of their own. Those that share a datagram share its bytes equally.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from relaymesh.cli.main import main
from relaymesh.netsim.link_model import UDP_OVERHEAD_BYTES
from relaymesh.node import relay
from relaymesh.protocol import frames
from relaymesh.protocol.contents import read_contents
from relaymesh.protocol.contexts import ContextTable
from relaymesh.protocol.datagram import SealJob, seal_jobs, size_of
from relaymesh.protocol.errors import ProtocolError

NAMES = {
    frames.PROBE: "probes and echoes",
    frames.ECHO: "probes and echoes",
    frames.ACK: "acknowledgements",
    frames.REPAIR: "repair",
    frames.RETRANSMISSION: "repair",
    frames.MEDIA: "media, whole",
    frames.ANNOUNCE: "media, announcing a context",
    frames.DETOUR: "media on a detour, or a second copy's way",
    frames.FRAGMENT: "fragments",
}


class Wire:
    """What all nodes sealed."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.datagrams: Counter[str] = Counter()
        self.packets: Counter[str] = Counter()  # of media, by kind
        self.payload: Counter[str] = Counter()
        self.spent: Counter[str] = Counter()  # on the wire
        self._contexts: dict[object, ContextTable] = {}  # by key

    def seal(self, jobs: Sequence[SealJob]) -> list[bytes]:
        """Count *jobs*, and seal them as the product does."""
        for job in jobs:
            self._count(job)
        return seal_jobs(jobs)

    def _count(self, job: SealJob) -> None:
        size, plaintext = size_of(job) + UDP_OVERHEAD_BYTES, job[2]
        kind = plaintext[0]
        name = "media, compact" if frames.is_compact(kind) else NAMES.get(kind, "other")
        self.bytes[name] += size
        self.datagrams[name] += 1
        if kind in (frames.REPAIR, frames.RETRANSMISSION):
            return
        table = self._contexts.setdefault(job[0], ContextTable())
        try:
            contents = read_contents(plaintext, table)
        except ProtocolError:
            return
        for number, context in contents.announced:
            table.put(number, context)
        media = [self._media(frame) for frame in contents.routed]
        found = [(name, payload) for name, payload in media if name]
        for name, payload in found:
            self.packets[name] += 1
            self.payload[name] += payload
            self.spent[name] += size / len(found)  # type: ignore[assignment]

    def _media(self, frame: bytes) -> tuple[str, int]:
        if frame[0] == frames.DETOUR:
            _, frame = frames.follow_detour(frame, frames.read_route(frame, frames.HEAD_BYTES))
            return self._media(frame)
        if frame[0] != frames.MEDIA:
            return "", 0
        return "audio" if frames.is_audio(frame) else "video", frames.payload_size(frame)

    def table(self) -> str:
        """What was counted."""
        total = sum(self.bytes.values())
        lines = [f"{total:,} bytes on relay links", f"{'':42} {'datagrams':>10} {'bytes':>12} {'share':>7}"]
        for name, size in self.bytes.most_common():
            lines.append(f"{name:42} {self.datagrams[name]:10,} {size:12,} {size / total:7.1%}")
        lines.append(f"{'':42} {'packets':>10} {'payload':>12} {'on the wire':>12} {'overhead':>9}")
        for name, count in self.packets.items():
            payload, spent = self.payload[name] / count, self.spent[name] / count
            lines.append(f"{name:42} {count:10,} {payload:12.1f} {spent:12.1f} {spent / payload - 1:9.1%}")
        return "\n".join(lines)


if __name__ == "__main__":
    wire = Wire()
    relay.seal_jobs = wire.seal  # type: ignore[assignment]
    try:
        main(["simulate", "--jobs", "1", *sys.argv[1:]])
    finally:  # it exits
        print(wire.table())
