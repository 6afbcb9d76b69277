"""DEMAND and LAYERS: what is refused of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaymesh.protocol import frames
from relaymesh.protocol.bitstring import MAX_INDEX
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import DemandFrame, EncodingLayers, LayersFrame, Wish
from relaymesh.protocol.ids import ParticipantId, TrackId

DEMAND = DemandFrame(ParticipantId(1, 2), 9, 5, (Wish(3, 0, 1, 2), Wish(3, 1, 0, 0)), 16, 7, 1)
HD = EncodingLayers(1, True, 2, 3, (100, 200, 300, 400, 500, 600))
LAYERS = LayersFrame(TrackId(1, 2, 3), 5, False, (EncodingLayers(0, False, 1, 1, (9,)), HD), 16, 7, 1)
DEMAND_COUNT = 7 + 22  # where their counts stand in a body with one byte of bit string
LAYERS_COUNT = 7 + 23


def test_a_demand_of_nothing_withdraws_all() -> None:
    frame = replace(DEMAND, wishes=())
    assert frames.decode_demand(frames.encode_demand(frame)[3:]) == frame


def test_a_demand_cut_anywhere_is_refused() -> None:
    body = frames.encode_demand(DEMAND)[3:]
    for size in range(len(body)):
        with pytest.raises(ProtocolError, match="truncated"):
            frames.decode_demand(body[:size])


def test_layers_cut_anywhere_are_refused() -> None:
    body = frames.encode_layers(LAYERS)[3:]
    for size in range(len(body)):
        with pytest.raises(ProtocolError, match="truncated"):
            frames.decode_layers(body[:size])


def test_bytes_behind_and_reserved_bits_are_ignored() -> None:
    body = bytearray(frames.encode_demand(DEMAND)[3:])
    body[-1] |= 3
    assert frames.decode_demand(bytes(body) + b"more") == DEMAND
    body = bytearray(frames.encode_layers(LAYERS)[3:])
    body[LAYERS_COUNT - 1] |= 0xFE
    assert frames.decode_layers(bytes(body) + b"more") == LAYERS


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (DEMAND_COUNT, frames.MAX_WISHES + 1),
        (DEMAND_COUNT + 4 + 3, 0),  # encoding 0 of track 3 a second time
        (DEMAND_COUNT - 6, 0xFF),  # the edge is 0xff09
    ],
)
def test_an_invalid_demand_is_refused(at: int, value: int) -> None:
    body = bytearray(frames.encode_demand(DEMAND)[3:] + bytes(300))
    body[at] = value
    with pytest.raises(ProtocolError, match="invalid"):
        frames.decode_demand(bytes(body))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (LAYERS_COUNT, frames.MAX_ENCODINGS + 1),
        (LAYERS_COUNT + 1, 1),  # encoding 1 a second time
        (LAYERS_COUNT + 3, 0),
        (LAYERS_COUNT + 3, 9),
        (LAYERS_COUNT + 4, 0),
        (LAYERS_COUNT + 4, 9),
    ],
)
def test_invalid_layers_are_refused(at: int, value: int) -> None:
    body = bytearray(frames.encode_layers(LAYERS)[3:] + bytes(300))
    body[at] = value
    with pytest.raises(ProtocolError, match="invalid"):
        frames.decode_layers(bytes(body))


@pytest.mark.parametrize(
    "change",
    [
        {"edge": 2040},
        {"edge": -1},
        {"serial": 1 << 32},
        {"destinations": 0},
        {"wishes": (Wish(3, 0, 8, 0),)},
        {"wishes": (Wish(3, 0, 0, -1),)},
        {"wishes": (Wish(1 << 16, 0, 0, 0),)},
        {"wishes": (Wish(3, 0, 0, 0), Wish(3, 0, 1, 0))},
        {"wishes": tuple(Wish(track, 0, 0, 0) for track in range(65))},
    ],
)
def test_a_wrong_demand_of_our_own_is_a_value_error(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        frames.encode_demand(replace(DEMAND, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"serial": -1},
        {"encodings": (HD, HD)},
        {"encodings": tuple(replace(HD, number=number) for number in range(9))},
        {"encodings": (replace(HD, number=256),)},
        {"encodings": (replace(HD, spatial=0, rates_bps=()),)},
        {"encodings": (replace(HD, spatial=9, temporal=1, rates_bps=(1,) * 9),)},
        {"encodings": (replace(HD, rates_bps=(1, 2)),)},
        {"encodings": (replace(HD, rates_bps=(1 << 32,) * 6),)},
    ],
)
def test_wrong_layers_of_our_own_are_a_value_error(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        frames.encode_layers(replace(LAYERS, **change))  # type: ignore[arg-type]


def test_the_longest_layers_fit_a_frame_for_any_edge_on_any_detour() -> None:
    full = EncodingLayers(0, True, 8, 8, (1,) * 64)
    encodings = tuple(replace(full, number=number) for number in range(frames.MAX_ENCODINGS))
    longest = replace(LAYERS, encodings=encodings, destinations=1 << MAX_INDEX)
    frame = frames.encode_layers(longest)
    assert frames.decode_layers(frame[3:]) == longest
    assert len(frames.detour(frame, range(13))) <= frames.MAX_FRAME_BYTES


def test_the_rate_of_layers_is_that_of_the_highest_there_are() -> None:
    assert [HD.rate_bps(0, 0), HD.rate_bps(0, 2), HD.rate_bps(1, 0), HD.rate_bps(1, 2)] == [
        100,
        300,
        400,
        600,
    ]
    assert HD.rate_bps(7, 7) == 600
    assert HD.rate_bps(0, 7) == 300
