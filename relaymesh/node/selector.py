"""The layers of one played track: which encoding, and how much of it.

A :class:`LayerFilter` decides, packet by packet, which spatial and temporal layers of the
encoding that plays go on: it drops a layer with the next picture, and takes one up
only with a packet that says a decoder can (*entry*, or a keyframe). It knows no
player, estimate or codec; what is dropped is closed up by the rewriter.
"""

from __future__ import annotations

from typing import NamedTuple

from relaymesh.protocol.frames import MediaFrame

TOP = 7  # of the layers a MEDIA frame can name


class LayerChoice(NamedTuple):
    """One encoding of a track up to a spatial and a temporal layer."""

    encoding: int
    spatial: int = TOP
    temporal: int = TOP


class LayerFilter:
    """Spatial and temporal layers of one encoding."""

    __slots__ = ("_picture", "_spatial", "_temporal", "spatial", "temporal")

    def __init__(self, spatial: int = TOP, temporal: int = TOP) -> None:
        self.spatial, self.temporal = spatial, temporal  # the highest wanted
        self._spatial, self._temporal = spatial, temporal  # the highest that go on now
        self._picture: int | None = None  # timestamp of the picture under way

    def want(self, spatial: int, temporal: int) -> None:
        """Let layers up to these go on, as soon as a decoder can follow."""
        self.spatial, self.temporal = spatial, temporal

    def begin(self) -> None:
        """A keyframe begins the encoding: all that is wanted may go on."""
        self._spatial, self._temporal = self.spatial, self.temporal
        self._picture = None

    @property
    def wants_keyframe(self) -> bool:
        """A spatial layer is wanted that only a keyframe brings for sure."""
        return self.spatial > self._spatial

    @property
    def wanted(self) -> tuple[int, int]:
        """The highest (spatial, temporal) layer wanted."""
        return self.spatial, self.temporal

    @property
    def is_settled(self) -> bool:
        """All that is wanted goes on, and nothing else: what passes depends on its layers alone."""
        return (self._spatial, self._temporal) == (self.spatial, self.temporal)

    def passed(self, frame: MediaFrame) -> None:
        """*frame* went on without being shown to :meth:`passes`, while :attr:`is_settled`."""
        self._picture = frame.timestamp

    @property
    def at(self) -> tuple[int, int]:
        """The highest (spatial, temporal) layer that goes on now."""
        return self._spatial, self._temporal

    def passes(self, frame: MediaFrame) -> bool:
        """Whether *frame* goes on."""
        if frame.timestamp != self._picture:
            self._picture = frame.timestamp
            self._spatial = min(self._spatial, self.spatial)
            self._temporal = min(self._temporal, self.temporal)
        if frame.keyframe:  # perhaps not the first packet seen of its picture: that one may come late
            self._spatial, self._temporal = self.spatial, self.temporal
        if frame.entry and frame.layer_start:
            # Entry speaks of the temporal layer above the base, and of the spatial layer in it; a decoder
            # that takes one up has all below it, so they are climbed one at a time.
            if frame.temporal == self._temporal + 1 <= self.temporal and frame.spatial == 0:
                self._temporal += 1
            elif frame.temporal == 0 and frame.spatial == self._spatial + 1 <= self.spatial:
                self._spatial += 1
        return frame.spatial <= self._spatial and frame.temporal <= self._temporal

    def ends_picture(self, frame: MediaFrame) -> bool:
        """Whether *frame*, which goes on, is the last packet of its picture that does (RTP's marker)."""
        return frame.marker or (frame.layer_end and 0 < self._spatial + 1 == frame.spatial + 1 < TOP)
