"""Write the test vectors of the relay protocol.

Run as ``python tests/vectors/relay/make.py``. The bytes are put together here
by hand, field by field from the tables of docs/protocol.md, and sealed with
AES-GCM directly: nothing of :mod:`relaymesh` is used, so that the vectors are a
second opinion, not an echo of the implementation. They are checked by
``tests/protocol/test_vectors.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from reedsolo import RSCodec

HERE = Path(__file__).parent
KEY = bytes(range(16))


def u(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def frame(kind: int, body: bytes) -> bytes:
    return u(kind, 1) + u(len(body), 2) + body


def routed(hop_limit: int, generation: int, bits: bytes) -> bytes:
    return u(hop_limit, 1) + u(len(bits), 1) + u(generation, 4) + bits


def stream(room: int, participant: int, track: int, encoding: int) -> bytes:
    return u(room, 8) + u(participant, 8) + u(track, 2) + u(encoding, 1)


ROUTE = {"hop_limit": 16, "generation": 7, "destinations": [0, 9]}
ROUTE_BYTES = routed(16, 7, b"\x01\x02")  # bit 0 of byte 0, bit 1 of byte 1
STREAM = {"room": 0x0102030405060708, "participant": 0x1112131415161718, "track": 3, "encoding": 2}
STREAM_BYTES = stream(0x0102030405060708, 0x1112131415161718, 3, 2)
LONG = frame(0x12, ROUTE_BYTES + STREAM_BYTES + b"and more")  # 38 bytes, which travel in two fragments


def media() -> list[dict[str, Any]]:
    plain = u(0, 1) + u(0, 1) + u(1, 4) + u(2, 4) + u(0, 1)
    # flags: keyframe 1 | marker 2 | discardable 8 | priority 2 << 4; layers: spatial 2 << 5 | temporal 1 << 2
    full = u(0x2B, 1) + u(0x44, 1) + u(0xFFFFFFFE, 4) + u(0xDEADBEEF, 4) + u(7, 1)
    extensions = b"\x02\x01\x03" + b"\x7f\x02hi"  # orientation 3, then a kind that nobody knows
    audio = u(0x74, 1) + u(0, 1) + u(70000, 4) + u(960, 4) + u(3, 1) + b"\x01\x01\x8a"
    # flags: marker 2 | entry 128 | priority 3 << 4; layers: S1 << 5 | T2 << 2 | start 2 | end 1
    layered = u(0xB2, 1) + u(0x2B, 1) + u(9, 4) + u(3000, 4) + u(5, 1) + b"\x03\x03\xc1\x00\x2a"
    fields: dict[str, Any] = {"keyframe": False, "marker": False, "audio": False, "discardable": False}
    fields["copy"] = False
    fields |= {"priority": 0, "spatial": 0, "temporal": 0, "extensions": [], **ROUTE, **STREAM}
    return [
        {
            "name": "media, smallest",
            "how": "every flag and field at rest, no extension, empty payload",
            "fields": {**fields, "sequence": 1, "timestamp": 2, "payload": ""},
            "frame": frame(0x10, ROUTE_BYTES + STREAM_BYTES + plain).hex(),
        },
        {
            "name": "media, video keyframe",
            "how": "first and last packet of a discardable keyframe, class 2, layer S2 T1, two extensions",
            "fields": {
                **fields,
                "keyframe": True,
                "marker": True,
                "discardable": True,
                "priority": 2,
                "spatial": 2,
                "temporal": 1,
                "sequence": 0xFFFFFFFE,
                "timestamp": 0xDEADBEEF,
                "extensions": [[2, "03"], [127, b"hi".hex()]],
                "payload": b"video".hex(),
            },
            "frame": frame(0x10, ROUTE_BYTES + STREAM_BYTES + full + extensions + b"video").hex(),
        },
        {
            "name": "media, audio with level",
            "how": "audio, class 3, a copy, voice flag set and level -10 dBov (RFC 6464: 0x8a)",
            "fields": {
                **fields,
                "audio": True,
                "copy": True,
                "priority": 3,
                "sequence": 70000,
                "timestamp": 960,
                "extensions": [[1, "8a"]],
                "payload": b"opus".hex(),
            },
            "frame": frame(0x10, ROUTE_BYTES + STREAM_BYTES + audio + b"opus").hex(),
        },
        {
            "name": "media, upper layer",
            "how": "the only packet of layer S1 T2 of its picture, where the layer can be taken up; class 3, "
            "with a dependency descriptor: first and last packet of the frame, template 1, frame 42",
            "fields": {
                **fields,
                "marker": True,
                "entry": True,
                "priority": 3,
                "spatial": 1,
                "temporal": 2,
                "layer_start": True,
                "layer_end": True,
                "sequence": 9,
                "timestamp": 3000,
                "extensions": [[3, "c1002a"]],
                "payload": b"svc".hex(),
            },
            "frame": frame(0x10, ROUTE_BYTES + STREAM_BYTES + layered + b"svc").hex(),
        },
    ]


def other_frames() -> list[dict[str, Any]]:
    return [
        {
            "name": "clock",
            "how": "NTP 0xe000000080000000 (half a second past a second) is RTP time 90000",
            "fields": {**ROUTE, **STREAM, "ntp": 0xE000000080000000, "timestamp": 90000},
            "frame": frame(0x11, ROUTE_BYTES + STREAM_BYTES + u(0xE000000080000000, 8) + u(90000, 4)).hex(),
        },
        {
            "name": "keyframe-request",
            "how": "the stream header and nothing more",
            "fields": {**ROUTE, **STREAM},
            "frame": frame(0x12, ROUTE_BYTES + STREAM_BYTES).hex(),
        },
        {
            "name": "skip",
            "how": "three packets from 0xfffffffe on, one picture",
            "fields": {**ROUTE, **STREAM, "first": 0xFFFFFFFE, "packets": 3, "pictures": 1},
            "frame": frame(0x14, ROUTE_BYTES + STREAM_BYTES + u(0xFFFFFFFE, 4) + u(3, 2) + u(1, 1)).hex(),
        },
        {
            "name": "skip, keyframe",
            "how": "one packet, number 9, that ends no picture; a keyframe is wanted",
            "fields": {**ROUTE, **STREAM, "first": 9, "packets": 1, "pictures": 0, "keyframe": True},
            "frame": frame(0x14, ROUTE_BYTES + STREAM_BYTES + u(9, 4) + u(1, 2) + u(0, 1) + u(1, 1)).hex(),
        },
        {
            "name": "demand",
            "how": "node 9 wants track 3: encoding 2 up to S2 T1, and track 4: encoding 0, its base only",
            "fields": {
                **ROUTE,
                "room": STREAM["room"],
                "participant": STREAM["participant"],
                "edge": 9,
                "serial": 0xFFFFFFFF,
                "wishes": [[3, 2, 2, 1], [4, 0, 0, 0]],
            },
            "frame": frame(
                0x15,
                ROUTE_BYTES
                + STREAM_BYTES[:16]
                + (u(9, 2) + u(0xFFFFFFFF, 4) + u(2, 1))
                + (u(3, 2) + u(2, 1) + u(0x44, 1) + u(4, 2) + u(0, 1) + u(0, 1)),
            ).hex(),
        },
        {
            "name": "layers",
            "how": "muted; encoding 0 is live, one layer of 150 kbit/s; encoding 1 is not, two by two layers",
            "fields": {
                **ROUTE,
                "room": STREAM["room"],
                "participant": STREAM["participant"],
                "track": STREAM["track"],
                "serial": 5,
                "muted": True,
                "encodings": [[0, True, 1, 1, [150_000]], [1, False, 2, 2, [1, 2, 3, 0xFFFFFFFF]]],
            },
            "frame": frame(
                0x16,
                ROUTE_BYTES
                + STREAM_BYTES[:18]
                + (u(5, 4) + u(1, 1) + u(2, 1))
                + (u(0, 1) + u(1, 1) + u(1, 1) + u(1, 1) + u(150_000, 4))
                + (u(1, 1) + u(0, 1) + u(2, 1) + u(2, 1) + u(1, 4) + u(2, 4) + u(3, 4) + u(0xFFFFFFFF, 4)),
            ).hex(),
        },
        {
            "name": "fragment, first half",
            "how": "class 3; one half of a keyframe request that has the bytes 'and more' behind it",
            "fields": {"second": False, "priority": 3, "data": LONG[:19].hex()},
            "frame": frame(0x20, u(0x30, 1) + LONG[:19]).hex(),
        },
        {
            "name": "fragment, second half",
            "how": "class 3; the rest of it, in the next datagram",
            "fields": {"second": True, "priority": 3, "data": LONG[19:].hex()},
            "frame": frame(0x20, u(0x31, 1) + LONG[19:]).hex(),
        },
        {
            "name": "probe",
            "how": "sequence, then the sender's microseconds",
            "fields": {"sequence": 0x01020304, "sent_at_us": 1_000_000},
            "frame": frame(0x01, u(0x01020304, 4) + u(1_000_000, 8)).hex(),
        },
        {
            "name": "echo",
            "how": "the probe's two fields copied, then 250 received, highest 0x01020305",
            "fields": {
                "sequence": 0x01020304,
                "sent_at_us": 1_000_000,
                "probes_received": 250,
                "probe_highest": 0x01020305,
            },
            "frame": frame(0x02, u(0x01020304, 4) + u(1_000_000, 8) + u(250, 4) + u(0x01020305, 4)).hex(),
        },
        {
            "name": "control",
            "how": "channel 3, token, sequence 6, of which 4 is the first not acknowledged, then the message",
            "fields": {"channel": 3, "token": 0xCAFEBABE, "sequence": 6, "distance": 2, "data": b"hi".hex()},
            "frame": frame(0x08, u(3, 1) + u(0xCAFEBABE, 4) + u(6, 4) + u(2, 1) + b"hi").hex(),
        },
        {
            "name": "control-ack",
            "how": "4 is missing, 5 and 7 are there: bits 0 and 2",
            "fields": {"channel": 3, "token": 0xCAFEBABE, "next": 4, "later": 5},
            "frame": frame(0x09, u(3, 1) + u(0xCAFEBABE, 4) + u(4, 4) + u(5, 4)).hex(),
        },
        {
            "name": "control-reset",
            "how": "channel and token of the stream",
            "fields": {"channel": 3, "token": 0xCAFEBABE},
            "frame": frame(0x0A, u(3, 1) + u(0xCAFEBABE, 4)).hex(),
        },
    ]


def repair_frames() -> list[dict[str, Any]]:
    runs = [3, 2, 4, 1, 2]  # of 12 from 100 on: 103, 104 and 109 are missing
    ack_body = u(1, 1) + u(100, 4) + u(12, 2) + u(0x00ABCDEF, 4) + u(5, 1) + u(2, 2) + u(1, 1)
    ack_body += b"".join(u(run, 2) for run in runs) + b"\x00\x04" + b"\xff\xff" + u(4, 2)
    sources = [frame(0x12, ROUTE_BYTES + STREAM_BYTES), frame(0x1F, routed(3, 7, b"\x02") + b"new")]
    symbols = [u(len(source), 2) + source for source in sources]
    size = max(map(len, symbols))
    padded = [symbol + bytes(size - len(symbol)) for symbol in symbols]
    codec = RSCodec(2, fcr=0, prim=0x11D, generator=2)
    words = [bytes(codec.encode(bytes(column))) for column in zip(*padded, strict=True)]
    second = bytes(word[3] for word in words)  # two sources, then two repair symbols: this is the second
    repair_body = u(1, 1) + u(200, 4) + u(2, 1) + u(2, 1) + u(1, 1) + u(7, 2) + second
    return [
        {
            "name": "ack",
            "how": "100 … 111 of epoch 1, 3 ms ago; the last three came 4 and -1 ticks apart; 104 recovered",
            "fields": {
                "epoch": 1,
                "base": 100,
                "runs": runs,
                "delay": 12,
                "arrival": 0x00ABCDEF,
                "deltas": [4, -1],
                "repaired": [4],
            },
            "frame": frame(0x04, ack_body).hex(),
        },
        {
            "name": "repair",
            "how": "second of two over packets 200 and 207 of epoch 1: a keyframe request, and a frame "
            "of type 0x1f with hop limit 3, generation 7, destination 1 and the bytes 'new'",
            "fields": {
                "epoch": 1,
                "numbers": [200, 207],
                "repairs": 2,
                "index": 1,
                "symbol": second.hex(),
            },
            "sources": [source.hex() for source in sources],
            "frame": frame(0x05, repair_body).hex(),
        },
        {
            "name": "retransmission",
            "how": "packet 300 of epoch 1, which held a keyframe request",
            "fields": {"epoch": 1, "number": 300, "frames": sources[0].hex()},
            "frame": frame(0x06, u(1, 1) + u(300, 4) + sources[0]).hex(),
        },
        {
            "name": "context-unknown",
            "how": "numbers 513 and 65535 under the key of epoch 1",
            "fields": {"epoch": 1, "numbers": [513, 65535]},
            "frame": frame(0x0B, u(1, 1) + u(513, 2) + u(65535, 2)).hex(),
        },
    ]


def contexts() -> list[dict[str, Any]]:
    """What crosses a link for a MEDIA frame after another one was announced."""
    prefix = ROUTE_BYTES + STREAM_BYTES
    payload = b"opus"

    def media_of(flags: int, sequence: int, timestamp: int, extensions: bytes = b"") -> bytes:
        tail = u(flags, 1) + u(0, 1) + u(sequence, 4) + u(timestamp, 4) + u(len(extensions), 1)
        return frame(0x10, prefix + tail + extensions + payload)

    # Number 513; audio of class 0, 960 ticks a packet; packet 0xfffffffe at 0xffffff00.
    announced = media_of(4, 0xFFFFFFFE, 0xFFFFFF00, b"\x01\x01\x8a")
    announce = frame(0x21, u(513, 2) + u(960, 2) + announced[3:])
    later = 0xFFFFFF00 + 3 * 960 - (1 << 32)
    number = u(513, 2)
    cases = [
        (
            "near",
            "three packets and 3 x 960 ticks later, over the wrap of both; nothing but an audio level",
            u(0x84, 1) + number + u(3, 1) + b"\x7f" + payload,
            media_of(4, 1, later, b"\x01\x01\x7f"),
        ),
        (
            "near, with a length",
            "the same, where another frame follows",
            frame(0x44, number + u(3, 1) + b"\x7f" + payload),
            media_of(4, 1, later, b"\x01\x01\x7f"),
        ),
        (
            "far",
            "300 packets later, no extension",
            u(0x90, 1) + number + u(300, 2) + payload,
            media_of(4, 298, 0xFFFFFF00 + 300 * 960 - (1 << 32)),
        ),
        (
            "full",
            "two packets and 1000 ticks before; flags: marker 2 | audio 4 | priority 1 << 4; two extensions",
            u(0xA9, 1) + number + b"\xff\xfe" + b"\xff\xfc\x18" + u(0x16, 1) + u(0, 1)
            + b"\x07\x02\x01\x03\x7f\x02hi" + payload,
            media_of(0x16, 0xFFFFFFFC, 0xFFFFFF00 - 1000, b"\x02\x01\x03\x7f\x02hi"),
        ),
    ]  # fmt: skip
    return [
        {
            "name": f"compact, {name}",
            "how": how,
            "announce": announce.hex(),
            "announced": announced.hex(),
            "number": 513,
            "compact": compact.hex(),
            "frame": whole.hex(),
        }
        for name, how, compact, whole in cases
    ]


def reroutes() -> list[dict[str, Any]]:
    body = ROUTE_BYTES + STREAM_BYTES
    return [
        {
            "name": "towards node 9 only",
            "how": "hop limit 16 becomes 15, the bit string becomes 00 02, the rest is untouched",
            "frame": frame(0x12, body).hex(),
            "destinations": [9],
            "rerouted": frame(0x12, routed(15, 7, b"\x00\x02") + STREAM_BYTES).hex(),
        },
        {
            "name": "towards node 0 only",
            "how": "the bit string shrinks to one byte, so the frame is a byte shorter",
            "frame": frame(0x12, body).hex(),
            "destinations": [0],
            "rerouted": frame(0x12, routed(15, 7, b"\x01") + STREAM_BYTES).hex(),
        },
        {
            "name": "of a type that is not assigned",
            "how": "type 0x1f, whose rest a transit node cannot read and need not",
            "frame": frame(0x1F, ROUTE_BYTES + b"new").hex(),
            "destinations": [9],
            "rerouted": frame(0x1F, routed(15, 7, b"\x00\x02") + b"new").hex(),
        },
    ]


def datagrams() -> list[dict[str, Any]]:
    probe = frame(0x01, u(5, 4) + u(6, 8))
    cases = [
        ("one probe, long header", b"\x21", 1, 2, 1, probe),
        (
            "probe and keyframe request, long header", b"\x21", 255, 0x07F7, 0xFFFFFFFF,
            probe + frame(0x12, ROUTE_BYTES + STREAM_BYTES),
        ),
        ("one probe, short header", b"\x22", 1, 2, 0x12345, probe),
    ]  # fmt: skip
    made = []
    for name, first, epoch, sender, number, plaintext in cases:
        begin = first + u(epoch, 1) + u(sender, 2)
        sealed = AESGCM(KEY).encrypt(bytes(4) + u(number, 8), plaintext, begin + u(number, 8))
        clear = begin + (u(number, 4) if first == b"\x21" else u(number & 0xFFFF, 2))
        made.append(
            {
                "name": name,
                "how": "AES-128-GCM; associated data: the first four bytes|number in eight; nonce: "
                "00000000|number in eight",
                "key": KEY.hex(),
                "epoch": epoch,
                "sender": sender,
                "number": number,
                "short": first == b"\x22",
                "plaintext": plaintext.hex(),
                "datagram": (clear + sealed).hex(),
            }
        )
    return made


def bad_plaintexts() -> list[dict[str, Any]]:
    """Sealed rightly, a receiver refuses each of these whole."""
    probe = frame(0x01, u(5, 4) + u(6, 8))
    cases = {
        "no frame": b"",
        "half a frame header": b"\x10\x00",
        "body shorter than its length": b"\x10\x00\x05abc",
        "good probe, then an echo of one byte": probe + frame(0x02, b"x"),
        "probe of eleven bytes": frame(0x01, bytes(11)),
        "ack of no runs": frame(0x04, bytes(15)),
        "ack whose runs are cut": frame(0x04, bytes(11) + b"\x02\x00\x00\x00\x00\x01"),
        "ack of a time for a packet that is missing": frame(
            0x04, bytes(11) + b"\x02\x00\x01\x00" + u(1, 2) + u(1, 2) + u(9, 2)
        ),
        "repair 2 of 2": frame(0x05, u(1, 1) + u(200, 4) + b"\x01\x02\x02" + b"\x00\x01x"),
        "repair of a source twice": frame(
            0x05, u(1, 1) + u(200, 4) + b"\x02\x01\x00" + u(0, 2) + b"\x00\x01x"
        ),
        "retransmission of nothing": frame(0x06, u(1, 1) + u(300, 4)),
        "fragment of nothing": frame(0x20, u(0, 1)),
        "fragment beside a probe": frame(0x20, u(0, 1) + LONG[:19]) + probe,
        "two fragments": frame(0x20, u(0, 1) + LONG[:19]) + frame(0x20, u(1, 1) + LONG[19:]),
        "control on channel 16": frame(0x08, u(16, 1) + u(1, 4) + u(0, 4) + u(0, 1)),
        "control of 1025 bytes": frame(0x08, u(0, 1) + u(1, 4) + u(0, 4) + u(0, 1) + bytes(1025)),
        "control from before the first": frame(0x08, u(0, 1) + u(1, 4) + u(0, 4) + u(1, 1)),
        "control ack of twelve bytes": frame(0x09, bytes(12)),
        "control reset of four bytes": frame(0x0A, bytes(4)),
        "unknown contexts without any": frame(0x0B, u(1, 1)),
        "unknown contexts of two and a half numbers": frame(0x0B, bytes(6)),
        "announce without the rest of its media header": frame(
            0x21, u(1, 2) + u(0, 2) + ROUTE_BYTES + STREAM_BYTES + bytes(10)
        ),
        "announce of a bit string that leaves it": frame(0x21, u(1, 2) + u(0, 2) + b"\x10\xff" + bytes(60)),
        "compact without its sequence": u(0x80, 1) + u(1, 2),
        "compact whose length is too short for it": frame(0x60, bytes(8)) + probe,
        "compact without the audio level it says it has": u(0x84, 1) + u(1, 2) + u(0, 1),
        "compact of a form that is not assigned": u(0xB0, 1) + bytes(40),
        "compact with extensions of a kind that is not assigned": u(0x8C, 1) + bytes(40),
    }
    return [{"name": name, "plaintext": plaintext.hex()} for name, plaintext in cases.items()]


def bad_bodies() -> list[dict[str, Any]]:
    """Bodies of media frames that are refused, with the reason."""
    head = u(0, 1) + u(0, 1) + u(1, 4) + u(2, 4)
    cases = [
        ("no room for a routed header", b"\x10\x01\x00\x00\x00", "truncated"),
        ("bit string of no bytes", routed(16, 7, b"") + STREAM_BYTES + head + b"\x00", "invalid"),
        ("bit string of zero bits", routed(16, 7, b"\x00\x00") + STREAM_BYTES + head + b"\x00", "invalid"),
        ("media header cut", ROUTE_BYTES + STREAM_BYTES + head, "truncated"),
        ("extensions beyond the end", ROUTE_BYTES + STREAM_BYTES + head + b"\x04\x01\x01\x00", "truncated"),
        ("extension beyond its block", ROUTE_BYTES + STREAM_BYTES + head + b"\x02\x01\x01\x00", "malformed"),
        ("audio level of no bytes", ROUTE_BYTES + STREAM_BYTES + head + b"\x02\x01\x00", "malformed"),
    ]
    return [{"name": name, "body": body.hex(), "reason": reason} for name, body, reason in cases]


def main(target: Path = HERE) -> None:
    files = {
        "frames.json": {
            "media": media(),
            "others": other_frames(),
            "repair": repair_frames(),
            "bad_media_bodies": bad_bodies(),
        },
        "contexts.json": {"contexts": contexts()},
        "reroutes.json": {"reroutes": reroutes()},
        "datagrams.json": {"datagrams": datagrams(), "bad_plaintexts": bad_plaintexts()},
    }
    for name, content in files.items():
        (target / name).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
