"""Sources of a headless participant: the picture with the clock, and a tone that beeps each second.

In: a size and a rate. Out: media tracks for an ``RTCPeerConnection``. Both are paced by absolute deadlines,
so that a late frame does not delay the ones after it. They know nothing of who takes the frames.
"""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from relaymesh.client.picture import draw

VIDEO_CLOCK_HZ = 90_000
AUDIO_RATE_HZ = 48_000
SAMPLES_PER_FRAME = 960  # 20 ms, what Opus wants
TONE_HZ, BEEP_HZ = 220, 1000
BEEP_FRAMES = 5  # 100 ms
FRAMES_PER_SECOND = AUDIO_RATE_HZ // SAMPLES_PER_FRAME


class _Pace:
    """Deadlines of a steady rate, from the first call on."""

    def __init__(self, interval: float) -> None:
        self._interval = interval  # seconds
        self._started: float | None = None
        self._slot = -1

    async def next_slot(self) -> int:
        """Wait for the next deadline; returns its number. Deadlines already past are skipped."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        due = self._slot + 1
        late = int((now - self._started) / self._interval)
        # One frame of lateness is jitter of the event loop; beyond that the encoder does not keep up.
        self._slot = max(due, late) if late > due + 1 else due
        wait = self._started + self._slot * self._interval - now
        if wait > 0:
            await asyncio.sleep(wait)
        return self._slot


class ClockVideo(MediaStreamTrack):
    """The picture with the clock, *fps* times a second."""

    kind = "video"

    def __init__(self, width: int = 640, height: int = 360, fps: int = 25) -> None:
        super().__init__()
        self.width, self.height, self.fps = width, height, fps
        self.frames = 0  # drawn so far; also the number of the next frame
        self._pace = _Pace(1 / fps)

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        slot = await self._pace.next_slot()
        picture = draw(self.width, self.height, self.frames, int(time.time() * 1000))
        self.frames += 1
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = slot * VIDEO_CLOCK_HZ // self.fps
        frame.time_base = Fraction(1, VIDEO_CLOCK_HZ)
        return frame


class BeepAudio(MediaStreamTrack):
    """A quiet tone, and a louder beep at the start of each second. Mono, 48 kHz, 20 ms a frame."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        self._pace = _Pace(SAMPLES_PER_FRAME / AUDIO_RATE_HZ)
        self._tone = _sine(TONE_HZ, 0.05)
        self._beep = _sine(BEEP_HZ, 0.3)

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        slot = await self._pace.next_slot()
        position = slot % FRAMES_PER_SECOND
        second = self._beep if position < BEEP_FRAMES else self._tone
        start = position * SAMPLES_PER_FRAME
        frame = AudioFrame.from_ndarray(
            second[None, start : start + SAMPLES_PER_FRAME], format="s16", layout="mono"
        )
        frame.pts = slot * SAMPLES_PER_FRAME
        frame.sample_rate = AUDIO_RATE_HZ
        frame.time_base = Fraction(1, AUDIO_RATE_HZ)
        self.frames += 1
        return frame


def _sine(frequency_hz: int, volume: float) -> np.ndarray:
    """One second of a sine (a whole number of periods, so that seconds join), int16."""
    phase = np.arange(AUDIO_RATE_HZ) * (2 * np.pi * frequency_hz / AUDIO_RATE_HZ)
    samples: np.ndarray = (np.sin(phase) * volume * 32767).astype(np.int16)
    return samples
