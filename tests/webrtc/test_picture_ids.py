"""Renumbering over a browser's packets: what moves, what stays, and that it wraps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.webrtc.picture_ids import (
    NO_OFFSETS,
    PictureNumbers,
    PictureOffsets,
    make_renumberer,
    offsets_after,
)
from tests.webrtc.recordings import NAMES, load

offsets_any = st.builds(PictureOffsets, st.integers(0, 0x7FFF), st.integers(0, 0xFF), st.integers(0, 0xFFFF))


@given(st.sampled_from(NAMES), st.integers(0, 150), offsets_any)
def test_a_browsers_packets_are_moved_and_moved_back(name, place, offsets):
    recording = load(name)
    packet = recording.packets[place]
    renumberer = make_renumberer(recording.codec)
    before = renumberer.numbers(packet.payload, packet.descriptor)
    payload, descriptor = renumberer.rewrite(packet.payload, packet.descriptor, offsets)
    after = renumberer.numbers(payload, descriptor)
    if before is None:
        assert after is None
        assert (payload, descriptor) == (packet.payload, packet.descriptor)
        return
    assert after == offsets.onto(before)
    assert len(payload) == len(packet.payload)
    back = PictureOffsets(-offsets.picture_id, -offsets.tl0picidx, -offsets.frame_number)
    assert renumberer.rewrite(payload, descriptor, back) == (packet.payload, packet.descriptor)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_count_up_by_one_in_what_a_browser_sends(name):
    recording = load(name)
    renumberer = make_renumberer(recording.codec)
    last = None
    for packet in recording.packets:
        numbers = renumberer.numbers(packet.payload, packet.descriptor)
        if numbers is None:
            assert name in ("h264-l1t1", "h264-mode-0", "av1-l1t1-plain")
            return
        if last is not None:
            step = offsets_after(last, numbers)
            same = PictureOffsets(1 if numbers.picture_id is not None else 0, 0, step.frame_number)
            assert (step.picture_id, step.frame_number) in ((0, 0), (same.picture_id, 0), (0, 1))
        last = numbers


def test_only_vp8_closes_up_what_is_left_out():
    compacting = {
        name for name in ("VP8", "vp8", "VP9", "AV1", "H264") if make_renumberer(name).compacts_pictures
    }
    assert compacting == {"VP8", "vp8"}


def test_offsets_lead_on_from_the_last_picture():
    last, following = PictureNumbers(0x7FFF, 15, 255, 0xFFFF), PictureNumbers(5, 15, 9, 3)
    assert offsets_after(last, following).onto(following) == PictureNumbers(0, 15, 0, 0)
    assert not offsets_after(last, PictureNumbers())
    assert not NO_OFFSETS


@given(
    st.sampled_from(["VP8", "VP9", "AV1"]),
    st.binary(max_size=9),
    st.none() | st.binary(max_size=5),
    offsets_any,
)
def test_what_cannot_be_read_stays_and_nothing_is_raised(codec, payload, descriptor, offsets):
    renumberer = make_renumberer(codec)
    moved, described = renumberer.rewrite(payload, descriptor, offsets)
    assert len(moved) == len(payload)
    if renumberer.numbers(payload, descriptor) is None:
        assert (moved, described) == (payload, descriptor)
