"""The recorded RTP of tests/vectors/rtp, as tests read it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).parent.parent / "vectors" / "rtp"
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.json"))


@dataclass(frozen=True)
class Recorded:
    """One packet of a browser."""

    sequence: int
    timestamp: int
    marker: bool
    payload: bytes  # its recorded beginning, then zeros up to its length
    descriptor: bytes | None


@dataclass(frozen=True)
class Recording:
    codec: str
    mode: str
    packets: list[Recorded]


def load(name: str) -> Recording:
    data = json.loads((DIRECTORY / f"{name}.json").read_text())
    packets = []
    for packet in data["packets"]:
        payload = bytes.fromhex(packet["payload"]).ljust(packet["bytes"], b"\0")
        descriptor = bytes.fromhex(packet["descriptor"]) if "descriptor" in packet else None
        packets.append(Recorded(packet["seq"], packet["ts"], packet["marker"], payload, descriptor))
    return Recording(data["made"]["codec"], data["made"]["mode"], packets)
