from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from aiortc.codecs.h264 import H264Decoder, H264Encoder
from aiortc.codecs.vpx import Vp8Decoder, Vp8Encoder
from aiortc.jitterbuffer import JitterFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.client.participant import luma
from relaymesh.client.picture import MIN_HEIGHT, MIN_WIDTH, Stamp, draw, read

NOW_MS = 1_795_235_661_033


@settings(max_examples=30)
@given(
    width=st.integers(MIN_WIDTH, 1300),
    height=st.integers(MIN_HEIGHT, 800),
    number=st.integers(0, 2**32 - 1),
    clock_ms=st.integers(1, 2**48 - 1),
)
def test_what_is_drawn_is_read(width: int, height: int, number: int, clock_ms: int) -> None:
    picture = draw(width, height, number, clock_ms)
    assert picture.shape == (height, width, 3)
    assert read(picture) == Stamp(number, clock_ms)
    assert read(picture.mean(axis=2).astype(np.uint8)) == Stamp(number, clock_ms)


def test_a_picture_moves_and_is_the_callers_own() -> None:
    first = draw(640, 360, 1, NOW_MS)
    kept = first.copy()
    second = draw(640, 360, 2, NOW_MS)
    assert (first[120:] != second[120:]).any()
    first[:] = 0
    assert (draw(640, 360, 1, NOW_MS) == kept).all()


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_a_flat_picture_has_no_stamp(level: int) -> None:
    assert read(np.full((360, 640, 3), level, dtype=np.uint8)) is None


def test_noise_has_no_stamp() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        assert read(rng.integers(0, 256, (360, 640, 3), dtype=np.uint8)) is None


def test_a_damaged_block_is_not_read_as_something_else() -> None:
    picture = draw(640, 360, 77, NOW_MS)
    picture[10:40, 30:90] = 255 - picture[10:40, 30:90]
    assert read(picture) is None


def test_too_small_is_refused_when_drawn_and_empty_when_read() -> None:
    with pytest.raises(ValueError, match="at least"):
        draw(100, 50, 0, NOW_MS)
    assert read(np.zeros((50, 100), dtype=np.uint8)) is None


@pytest.mark.parametrize(("encoder", "decoder"), [(Vp8Encoder, Vp8Decoder), (H264Encoder, H264Decoder)])
@pytest.mark.parametrize(("width", "height", "bitrate"), [(640, 360, 300_000), (320, 180, 250_000)])
def test_the_stamp_outlives_a_codec(
    encoder: type, decoder: type, width: int, height: int, bitrate: int
) -> None:
    coder, opener = encoder(), decoder()
    coder.target_bitrate = bitrate  # bits per second
    stamps = []
    for number in range(30):
        frame = av.VideoFrame.from_ndarray(draw(width, height, number, NOW_MS + 40 * number), format="rgb24")
        frame.pts, frame.time_base = number * 3600, Fraction(1, 90_000)
        payloads, timestamp = coder.encode(frame, force_keyframe=number == 0)
        data = b"".join(opener_payload(encoder, payload) for payload in payloads)
        for decoded in opener.decode(JitterFrame(data=data, timestamp=timestamp)):
            stamps.append(read(luma(decoded)))
    assert len(stamps) >= 28
    assert [stamp for stamp in stamps if stamp is None] == []
    assert stamps[0] == Stamp(0, NOW_MS)
    assert stamps[-1] == Stamp(len(stamps) - 1, NOW_MS + 40 * (len(stamps) - 1))


def opener_payload(encoder: type, payload: bytes) -> bytes:
    """An RTP payload as the decoder wants it: without the payload format's own header."""
    from aiortc.codecs import depayload
    from aiortc.rtcrtpparameters import RTCRtpCodecParameters

    name = "video/VP8" if encoder is Vp8Encoder else "video/H264"
    codec = RTCRtpCodecParameters(mimeType=name, clockRate=90_000, payloadType=96)
    return bytes(depayload(codec, payload))
