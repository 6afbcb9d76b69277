"""Tracks as synthetic publishers are told to make them: encodings, rates, layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Codec = Literal["opus", "VP8", "VP9"]

SIMULCAST_STEP = 4.0  # each encoding has so many times the rate of the one below
SPATIAL_STEP = 3.0  # likewise for spatial layers
RIDS = ("q", "h", "f")  # of simulcast encodings, the lowest first; as browsers' examples have them


@dataclass(frozen=True, slots=True)
class TrackSpec:
    """A track, or one encoding of it."""

    kind: Literal["audio", "video"] = "video"
    kbps: float = 1500.0  # of payload; of the highest encoding
    fps: float = 30.0  # frames a second; audio has one packet each
    keyframe_s: float | None = None  # between keyframes nobody asked for; video only; None: no such
    keyframe_size: float = 5.0  # of a keyframe, in frames between
    temporal: int = 1  # layers, 1 … 3; those above the first may be left out by a short link
    simulcast: int = 1  # encodings, 1 … 3
    spatial: int = 1  # SVC layers in one encoding, 1 … 3: VP9, L3T3_KEY and the like
    ignores_pli: bool = False  # makes no keyframe because somebody asks

    @property
    def interval(self) -> float:
        """Seconds from frame to frame."""
        return 1.0 / self.fps

    @property
    def codec(self) -> Codec:
        """Its codec; SVC is VP9's."""
        return "opus" if self.kind == "audio" else self.video_codec

    @property
    def video_codec(self) -> Codec:
        """The codec of its video; of audio it says nothing."""
        return "VP9" if self.spatial > 1 else "VP8"

    @property
    def is_layered(self) -> bool:
        """Whether parts of an encoding may be left out."""
        return self.temporal > 1 or self.spatial > 1

    @property
    def rids(self) -> tuple[str, ...]:
        """Of its simulcast encodings, the lowest first; empty without simulcast."""
        return RIDS[-self.simulcast :] if self.simulcast > 1 else ()

    def encodings(self) -> list[TrackSpec]:
        """Its encodings, the lowest first; each a quarter of the rate of the next."""
        return [
            replace(self, simulcast=1, kbps=self.kbps / SIMULCAST_STEP**below)
            for below in range(self.simulcast - 1, -1, -1)
        ]
