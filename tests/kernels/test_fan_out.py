"""The fan-out over both kernels: what each stream gets, the gate, what is refused, and both kernels alike."""

from __future__ import annotations

import gc
import socket
import struct
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.kernels.both import native, reference

GCM = "AEAD_AES_128_GCM"
HERE = ("127.0.0.1", 9)
THERE = ("127.0.0.1", 10)
NO_BLOCKS = [(b"", -1, -1)]
NO_PICTURES = (-1, 0, -1)
BLOCK = b"\xbe\xde\0\2\x31\0\0\x10\x01\0\0\0"  # the number at 5
OVERHEAD = 44


class Kernel:
    """The fan-out of one kernel with the SRTP that goes with it."""

    def __init__(self, pick: Any) -> None:
        module = pick("fan_out")
        self.Path, self.Stream = module.Path, module.Stream
        self.fan_out = module.FanOut(OVERHEAD)
        self.group = self.fan_out.group()
        self.SrtpSender = pick("srtp").SrtpSender

    def path(self, *, address: Any = HERE, key: int | None = None, **fields: Any) -> Any:
        sender = None if key is None else self.SrtpSender(bytes([key]) * 28, GCM)
        path = self.Path(sender)
        path.address, path.is_open = address, True
        for name, value in fields.items():
            setattr(path, name, value)
        return path

    def stream(self, path: Any, owner: object = None, *, add: bool = True, **fields: Any) -> Any:
        defaults = {
            "ssrc": 0x1234,
            "payload_type": 96,
            "profile": 0,
            "has_number": False,
            "urgent": False,
            "sequence_offset": 0,
            "timestamp_offset": 0,
            "spatial": 6,
            "temporal": 6,
        }
        stream = self.Stream(path, owner, **{**defaults, **fields})
        if add:
            self.group.add(stream)
        return stream

    def push(self, sequence: int = 7, **fields: Any) -> list[object]:
        defaults = {
            "timestamp": 3000,
            "marker": False,
            "layer_end": False,
            "spatial": 0,
            "temporal": 0,
            "payload": b"payload",
            "pictures": NO_PICTURES,
            "blocks": NO_BLOCKS,
            "now": 1.0,
        }
        return list(self.group.push(sequence, **{**defaults, **fields}))


@pytest.fixture(params=[reference, native], ids=["reference", "native"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return Kernel(request.param)


def rtp(sequence: int, timestamp: int, ssrc: int, *, marker: int = 0, block: bytes = b"") -> bytes:
    first = 0x90 if block else 0x80
    return struct.pack("!BBHII", first, 96 | marker << 7, sequence, timestamp, ssrc) + block + b"payload"


def test_each_stream_gets_its_own_numbers_and_address(kernel: Kernel) -> None:
    kernel.stream(kernel.path(), ssrc=1, sequence_offset=3, timestamp_offset=-1)
    kernel.stream(kernel.path(address=THERE), ssrc=2, sequence_offset=-8, timestamp_offset=2**32)
    kernel.stream(kernel.path(), ssrc=3, sequence_offset=10**30, timestamp_offset=-(10**30))
    assert kernel.push() == []
    assert len(kernel.fan_out) == 3
    assert kernel.fan_out.pop() == [
        (rtp(10, 2999, 1), HERE),
        (rtp(0xFFFF, 3000, 2), THERE),
        (rtp((7 + 10**30) % 2**16, (3000 - 10**30) % 2**32, 3), HERE),
    ]
    assert len(kernel.fan_out) == 0
    assert kernel.fan_out.pop() == []


def test_numbers_count_for_the_path_and_stand_in_the_block(kernel: Kernel) -> None:
    path = kernel.path(number=0xFFFE)
    kernel.stream(path, ssrc=1, has_number=True)
    kernel.stream(path, ssrc=2, has_number=False)
    kernel.stream(path, ssrc=3, has_number=True, profile=1)
    kernel.stream(path, ssrc=4, has_number=True, profile=2)
    kernel.push(blocks=[(BLOCK, 5, -1), (b"", -1, -1), (BLOCK, -1, -1)])
    assert path.number == 1
    numbered = BLOCK[:5] + b"\xff\xff" + BLOCK[7:]
    assert [packet for packet, _ in kernel.fan_out.pop()] == [
        rtp(7, 3000, 1, block=numbered),
        rtp(7, 3000, 2, block=BLOCK),
        rtp(7, 3000, 3),
        rtp(7, 3000, 4, block=BLOCK),
    ]


def test_layers_above_a_streams_own_are_refused(kernel: Kernel) -> None:
    owners = [object() for _ in range(3)]
    path = kernel.path()
    kernel.stream(path, owners[0], spatial=0, temporal=2)
    kernel.stream(path, owners[1], spatial=1, temporal=0)
    kernel.stream(path, owners[2], spatial=1, temporal=2)
    assert kernel.push(spatial=1, temporal=1) == owners[:2]
    assert len(kernel.fan_out) == 1


def test_a_layers_end_is_a_marker_where_the_stream_ends(kernel: Kernel) -> None:
    path = kernel.path()
    for spatial in (0, 1, 2):
        kernel.stream(path, ssrc=spatial, spatial=spatial)
    kernel.push(layer_end=True, spatial=0)
    assert [packet[1] >> 7 for packet, _ in kernel.fan_out.pop()] == [1, 0, 0]
    kernel.push(marker=True, spatial=0)
    assert [packet[1] >> 7 for packet, _ in kernel.fan_out.pop()] == [1, 1, 1]
    kernel.stream(path, ssrc=6, spatial=6)
    kernel.push(layer_end=True, spatial=6)
    assert [packet[1] >> 7 for packet, _ in kernel.fan_out.pop()] == [0]


def test_a_path_that_is_closed_or_has_no_address_drops(kernel: Kernel) -> None:
    closed, nowhere = kernel.path(is_open=False, gated=True, allowance=9999.0), kernel.path(address=None)
    kernel.stream(closed, has_number=True)
    kernel.stream(nowhere, has_number=True)
    assert kernel.push() == []
    assert len(kernel.fan_out) == 0
    assert (closed.dropped, nowhere.dropped, closed.number, nowhere.number) == (1, 1, 1, 1)
    assert closed.take_sent() == [(1, 12 + 7 + OVERHEAD, 1.0)]


def test_what_was_assigned_goes_where_the_path_led_then(kernel: Kernel) -> None:
    path = kernel.path(key=1)
    kernel.stream(path)
    kernel.push(1)
    path.address = THERE
    kernel.push(2)
    path.sender = None
    kernel.push(3)
    path.is_open = False
    path.address = None
    kernel.push(4)
    sender = kernel.SrtpSender(bytes([1]) * 28, GCM)
    assert kernel.fan_out.pop() == [
        (sender.protect_rtp(rtp(1, 3000, 0x1234)), HERE),
        (sender.protect_rtp(rtp(2, 3000, 0x1234)), THERE),
        (rtp(3, 3000, 0x1234), THERE),
    ]
    assert path.dropped == 1


def test_an_open_path_sends_without_a_gate_and_logs_nothing(kernel: Kernel) -> None:
    path = kernel.path(is_behind=True, allowance=-5.0)
    kernel.stream(path)
    assert kernel.push() == []
    assert len(kernel.fan_out) == 1
    assert path.take_sent() == []
    assert path.allowance == -5.0


def test_the_gate_lets_through_what_its_rate_allows(kernel: Kernel) -> None:
    owner = object()
    path = kernel.path(gated=True, rate=100_000.0, least_burst=100.0, at=1.0)
    kernel.stream(path, owner, has_number=True)
    assert kernel.push(now=1.0) == [owner]  # no allowance
    assert kernel.push(now=1.001) == []  # 100 bytes came, 63 went
    assert kernel.push(now=1.001) == []  # 37 left; the last may overdraw
    assert kernel.push(now=1.001) == [owner]
    assert path.allowance == pytest.approx(100 - 2 * 63)
    assert kernel.push(now=9.0) == []
    assert path.allowance == 500 - 63  # what a burst may be: 5 ms of the rate
    assert path.take_sent() == [(1, 63, 1.001), (2, 63, 1.001), (3, 63, 9.0)]
    assert path.take_sent() == []


def test_urgent_streams_pass_and_may_overdraw_to_a_bound(kernel: Kernel) -> None:
    owner = object()
    path = kernel.path(gated=True, is_behind=True, rate=50.0, at=1.0)
    kernel.stream(path, owner)
    kernel.stream(path, urgent=True)
    for sequence in range(3):
        assert kernel.push(sequence) == [owner]
    assert path.allowance == -100.0  # two seconds of the rate
    assert [(number, size) for number, size, _ in path.take_sent()] == [(None, 63)] * 3


def test_the_log_is_bounded(kernel: Kernel) -> None:
    path = kernel.path(gated=True)
    kernel.stream(path, urgent=True, has_number=True)
    for sequence in range(8200):
        kernel.push(sequence)
    sent = path.take_sent()
    assert len(sent) == 8192
    assert (sent[0][0], sent[-1][0]) == (9, 8200)


def test_groups_hold_each_stream_once_and_in_order(kernel: Kernel) -> None:
    path = kernel.path()
    streams = [kernel.stream(path, ssrc=ssrc) for ssrc in range(4)]
    kernel.group.add(streams[0])
    assert len(kernel.group) == 4
    kernel.group.remove(streams[1])
    kernel.group.remove(streams[1])
    assert streams[1] not in kernel.group
    assert streams[2] in kernel.group
    assert object() not in kernel.group
    other = kernel.fan_out.group()
    other.add(streams[1])
    kernel.push()
    other.push(7, 3000, False, False, 0, 0, b"payload", NO_PICTURES, NO_BLOCKS, 1.0)
    assert [packet[11] for packet, _ in kernel.fan_out.pop()] == [0, 2, 3, 1]


def test_pictures_are_counted_anew_for_each_stream(kernel: Kernel) -> None:
    path = kernel.path()
    kernel.stream(path)
    kernel.stream(path, picture_offset=0x7FFF, tl0_offset=2)
    kernel.stream(path, picture_offset=3, frame_offset=0xFFFF)
    long, short = b"\x90\xe0\x80\x01\xff\x00", b"\x90\xe0\x7f\xff\x00"
    kernel.push(payload=long, pictures=(2, 15, 4))
    kernel.push(payload=short, pictures=(2, 7, 3))
    kernel.push(pictures=NO_PICTURES, blocks=[(BLOCK, -1, 8)])
    sent = [packet for packet, _ in kernel.fan_out.pop()]
    assert [packet[12:] for packet in sent[:3]] == [
        long,
        b"\x90\xe0\x80\x00\x01\x00",
        b"\x90\xe0\x80\x04\xff\x00",
    ]
    assert [packet[12:] for packet in sent[3:6]] == [
        short,
        b"\x90\xe0\x7e\x01\x00",
        b"\x90\xe0\x02\xff\x00",
    ]
    assert [packet[20:22] for packet in sent[6:]] == [BLOCK[8:10], BLOCK[8:10], b"\x00\xff"], "0x0100 − 1"


@pytest.mark.parametrize("pictures", [(6, 15, -1), (7, 7, -1), (-1, 15, -1), (0, 8, -1), (0, 0, 7)])
def test_picture_numbers_outside_of_the_payload_are_the_callers_fault(kernel: Kernel, pictures) -> None:
    with pytest.raises(ValueError, match="picture"):
        kernel.push(pictures=pictures)


def test_blocks_that_do_not_fit_are_the_callers_fault(kernel: Kernel) -> None:
    kernel.stream(kernel.path(), profile=1)
    with pytest.raises(IndexError):
        kernel.push()
    with pytest.raises(ValueError, match="outside of its block"):
        kernel.push(blocks=[(b"abcd", 3, -1), (b"", -1, -1)])
    assert len(kernel.fan_out) == 0


def test_whole_packets_go_behind_what_was_assigned_to_their_path(kernel: Kernel) -> None:
    one, other = kernel.path(key=1), kernel.path(address=THERE, gated=True)
    kernel.stream(one)
    kernel.push(1)
    kernel.fan_out.put(one, rtp(2, 3000, 0x1234))
    kernel.fan_out.put(other, rtp(9, 1, 7)[:12])
    kernel.push(3)
    assert len(kernel.fan_out) == 4
    sender = kernel.SrtpSender(bytes([1]) * 28, GCM)
    sealed = [(sender.protect_rtp(rtp(sequence, 3000, 0x1234)), HERE) for sequence in (1, 2, 3)]
    assert kernel.fan_out.pop() == [*sealed[:2], (rtp(9, 1, 7)[:12], THERE), sealed[2]]
    assert other.take_sent() == []  # the caller books it


def test_whole_packets_on_a_closed_path_are_dropped_and_short_ones_refused(kernel: Kernel) -> None:
    closed, nowhere = kernel.path(is_open=False), kernel.path(address=None)
    kernel.fan_out.put(closed, rtp(1, 1, 1))
    kernel.fan_out.put(nowhere, rtp(1, 1, 1))
    assert (closed.dropped, nowhere.dropped, len(kernel.fan_out)) == (1, 1, 0)
    for size in range(12):
        with pytest.raises(ValueError, match="header of 12 bytes"):
            kernel.fan_out.put(kernel.path(), bytes(size))


def test_packets_that_srtp_refuses_are_counted(kernel: Kernel) -> None:
    kernel.stream(kernel.path(key=1), ssrc=1)
    kernel.stream(kernel.path(), ssrc=2)
    kernel.push(1, payload=bytes(1900))
    kernel.push(2)
    assert [(packet[11], len(packet)) for packet, _ in kernel.fan_out.pop()] == [(2, 1912), (1, 35), (2, 19)]
    assert kernel.fan_out.unsealed == 1
    kernel.push(3, payload=bytes(1900))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert kernel.fan_out.send(sock.fileno()) in (0, 1)  # nobody listens there
    assert kernel.fan_out.unsealed == 2


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
    for sock in made:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
    yield made
    for sock in made:
        sock.close()


def receive_all(sock: socket.socket) -> list[bytes]:
    received = []
    while True:
        try:
            received.append(sock.recv(4096))
        except BlockingIOError:
            return received


def test_bursts_are_sent_to_every_subscriber_in_order(kernel: Kernel, sockets: list[socket.socket]) -> None:
    source, *sinks = sockets
    for number, sink in enumerate(sinks):
        kernel.stream(kernel.path(address=sink.getsockname(), key=number), ssrc=number, has_number=True)
    sizes = [1200] * 70 + [900, 1200, 1200, 3, 3, 1200]
    for sequence, size in enumerate(sizes):
        kernel.push(sequence, payload=bytes([sequence]) * size, blocks=[(BLOCK, 5, -1)])
    assert kernel.fan_out.send(source.fileno()) == 0
    assert len(kernel.fan_out) == 0
    for number, sink in enumerate(sinks):
        sender = kernel.SrtpSender(bytes([number]) * 28, GCM)
        expected = [
            sender.protect_rtp(
                rtp(sequence, 3000, number, block=BLOCK[:5] + (sequence + 1).to_bytes(2) + BLOCK[7:])[:-7]
                + bytes([sequence]) * size
            )
            for sequence, size in enumerate(sizes)
        ]
        assert receive_all(sink) == expected
    assert kernel.fan_out.send(source.fileno()) == 0


def test_addresses_and_sockets_that_do_not_work_are_failures(
    kernel: Kernel, sockets: list[socket.socket]
) -> None:
    source, sink, *_ = sockets
    kernel.stream(kernel.path(address=("::1%\0", 9)))
    kernel.stream(kernel.path(address=("::1", 9)))
    kernel.stream(kernel.path(address=sink.getsockname()))
    kernel.push(1)
    assert kernel.fan_out.send(source.fileno()) == 2
    assert receive_all(sink) == [rtp(1, 3000, 0x1234)]
    kernel.push(2)
    assert kernel.fan_out.send(-1) == 3


def test_streams_and_their_owners_are_collected(kernel: Kernel) -> None:
    class Owner:
        stream: Any

    owner = Owner()
    owner.stream = kernel.stream(kernel.path(), owner)
    gone = weakref.ref(owner)
    kernel.push()
    kernel.group.remove(owner.stream)
    del owner
    gc.collect()
    assert gone() is None
    assert kernel.fan_out.pop() == [(rtp(7, 3000, 0x1234), HERE)]


packets = st.fixed_dictionaries(
    {
        "sequence": st.integers(0, 2**40),
        "timestamp": st.integers(0, 2**40),
        "marker": st.booleans(),
        "layer_end": st.booleans(),
        "spatial": st.integers(0, 6),
        "temporal": st.integers(0, 6),
        "payload": st.binary(min_size=4, max_size=40) | st.integers(1000, 2000).map(bytes),
        "pictures": st.sampled_from([NO_PICTURES, (1, 15, 3), (2, 15, -1), (3, 7, 0), (0, 0, 2)]),
        "now": st.floats(0, 10),
    }
)
streams = st.fixed_dictionaries(
    {
        "ssrc": st.integers(0, 2**32 - 1),
        "payload_type": st.integers(0, 127),
        "profile": st.integers(0, 2),
        "has_number": st.booleans(),
        "urgent": st.booleans(),
        "sequence_offset": st.integers(),
        "timestamp_offset": st.integers(),
        "spatial": st.integers(0, 6),
        "temporal": st.integers(0, 6),
        "picture_offset": st.sampled_from([0, 1, 0x7FFF]),
        "tl0_offset": st.sampled_from([0, 1, 255]),
        "frame_offset": st.sampled_from([0, 1, 0xFFFF]),
    }
)
paths = st.fixed_dictionaries(
    {
        "address": st.sampled_from([HERE, THERE, None]),
        "key": st.integers(0, 3) | st.none(),
        "is_open": st.sampled_from([True, True, True, False]),
        "number": st.integers(0, 0xFFFF),
        "gated": st.booleans(),
        "is_behind": st.booleans(),
        "allowance": st.floats(-3000, 3000),
        "rate": st.floats(0, 1e6),
        "least_burst": st.floats(0, 3000),
        "at": st.floats(0, 10),
    }
)
fields = ("number", "dropped", "allowance", "at")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(paths, min_size=1, max_size=4), st.lists(streams, max_size=6), st.lists(packets, max_size=12))
def test_both_kernels_do_the_same(
    path_fields: list[dict[str, Any]], stream_fields: list[dict[str, Any]], pushed: list[dict[str, Any]]
) -> None:
    blocks = [(BLOCK, 5, 8), (b"", -1, -1), (BLOCK[:8], -1, 4)]
    done = []
    for kernel in (Kernel(reference), Kernel(native)):
        made = [kernel.path(**each) for each in path_fields]
        for number, each in enumerate(stream_fields):
            kernel.stream(made[number % len(made)], number, **each)
        refused = [kernel.push(**each, blocks=blocks) for each in pushed]
        states = [[getattr(path, name) for name in fields] + [path.take_sent()] for path in made]
        done.append((refused, states, len(kernel.fan_out), kernel.fan_out.pop(), kernel.fan_out.unsealed))
    assert done[0] == done[1]
