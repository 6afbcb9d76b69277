"""Rooms, participants and their tracks as a scenario file writes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from relaymesh.netsim.scenario.strict import Fraction, Milliseconds, Name, Seconds, Strict
from relaymesh.protocol.ids import NAME_PATTERN

MAX_PARTICIPANTS = 2000
Kbps = Annotated[float, Field(gt=0, le=1e7)]


class AudioTrack(Strict):
    """A published audio track."""

    kind: Literal["audio"]
    kbps: Annotated[float, Field(ge=6, le=512)] = 32.0
    frame_ms: Literal[10, 20, 40, 60] = 20


class VideoTrack(Strict):
    """A published video track. With layers above 1: simulcast, each a quarter of the rate of the next.

    A node that does not accept simulcast is sent the highest only.
    """

    kind: Literal["video"]
    kbps: Annotated[float, Field(ge=30, le=50_000)] = Field(
        default=800.0, description="Of the highest layer."
    )
    fps: Annotated[float, Field(ge=1, le=120)] = 30.0
    keyframe_s: Annotated[float, Field(gt=0, le=3600)] | None = Field(
        default=None, description="Keyframe interval, seconds. Default: only when asked for one."
    )
    keyframe_size: Annotated[float, Field(ge=1, le=50)] = Field(
        default=5.0, description="Size of a keyframe, in mean frames."
    )
    layers: Annotated[int, Field(ge=1, le=3)] = 1
    temporal_layers: Annotated[int, Field(ge=1, le=3)] = Field(
        default=1, description="As WebRTC's L1T1 to L1T3; a short link leaves out those above the first."
    )
    spatial_layers: Annotated[int, Field(ge=1, le=3)] = Field(
        default=1, description="SVC in one encoding, as WebRTC's L2T1_KEY to L3T3_KEY: VP9 instead of VP8."
    )
    ignores_pli: bool = Field(
        default=False, description="It makes no keyframe because somebody asks for one; give keyframe_s."
    )


def _track_shape(value: object) -> str:
    if isinstance(value, str):
        return "<name>"
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "<audio>" if kind == "audio" else "<video>"


Track = Annotated[
    Annotated[Literal["audio", "video"], Tag("<name>")]
    | Annotated[AudioTrack, Tag("<audio>")]
    | Annotated[VideoTrack, Tag("<video>")],
    Discriminator(_track_shape),
]
Publish = Annotated[list[Track], Field(max_length=2)]


def _play_shape(value: object) -> str:
    return "<word>" if isinstance(value, str) else "<names>"


Play = Annotated[
    Annotated[Literal["all", "none"], Tag("<word>")] | Annotated[list[Name], Tag("<names>")],
    Discriminator(_play_shape),
]
PUBLISH: Any = Field(default=[], description="Its tracks, at most one of each kind. Default: none.")
PLAY: Any = Field(
    default="all", description="Whom it plays: all others of the room who publish, none, or names."
)
LEAVE_S: Any = Field(default=None, description="When it leaves. Default: it stays.")


class RateStep(Strict):
    """From a time on the access link has another rate."""

    at_s: Seconds
    rate_kbps: Kbps


class ParticipantAccess(Strict):
    """A participant's own access link, each direction; what is left out is as 'access' says."""

    delay_ms: Milliseconds | None = Field(default=None, description="One-way delay, milliseconds.")
    loss: Fraction | None = Field(default=None, description="Random loss, a fraction.")
    rate_kbps: Kbps | None = Field(default=None, description="Rate, kilobits per second. Default: no limit.")
    queue_ms: Milliseconds | None = Field(
        default=None, description="Bound of the queue before the rate, milliseconds at that rate."
    )
    steps: Annotated[list[RateStep], Field(max_length=1000)] = Field(
        default=[], description="Other rates later, in order of time."
    )

    def changes(self) -> dict[str, float]:
        """The values given, under the names of ``LinkConditions``."""
        names = ("delay_ms", "loss", "queue_ms")
        given: dict[str, float] = {name: v for name in names if (v := getattr(self, name)) is not None}
        if self.rate_kbps is not None:
            given["rate_bps"] = self.rate_kbps * 1e3
        return given


ACCESS: Any = Field(default=None, description="Default: as 'access' says for everybody.")


class ParticipantEntry(Strict):
    """One participant of a room."""

    name: Name
    at: Name = Field(description="Its edge: a node, or a region.")
    publish: Publish = PUBLISH
    play: Play = PLAY
    join_s: Seconds = 0.0
    leave_s: Seconds | None = LEAVE_S
    access: ParticipantAccess | None = ACCESS


class JoinSpan(Strict):
    """Joins spread evenly over a time."""

    from_s: Seconds = 0.0
    to_s: Seconds


class GroupEntry(Strict):
    """Many participants who do the same: ``prefix-1``, ``prefix-2``, …"""

    prefix: Annotated[str, Field(pattern=NAME_PATTERN, max_length=56)]
    count: Annotated[int, Field(ge=1, le=MAX_PARTICIPANTS)]
    at: Annotated[list[Name], Field(min_length=1)] = Field(description="Their edges, taken in turns.")
    publish: Publish = PUBLISH
    play: Play = PLAY
    join: JoinSpan | None = Field(default=None, description="Default: all at the start.")
    leave_s: Seconds | None = LEAVE_S
    access: ParticipantAccess | None = ACCESS


def _participant_shape(value: object) -> str:
    group = isinstance(value, GroupEntry) or (
        isinstance(value, dict) and ("count" in value or "prefix" in value)
    )
    return "<group>" if group else "<one>"


Participant = Annotated[
    Annotated[ParticipantEntry, Tag("<one>")] | Annotated[GroupEntry, Tag("<group>")],
    Discriminator(_participant_shape),
]


class RoomEntry(Strict):
    """A room and who comes to it."""

    name: Name
    participants: Annotated[list[Participant], Field(min_length=1, max_length=MAX_PARTICIPANTS)]


class Traffic(Strict):
    """Who publishes and plays what, where and when."""

    rooms: Annotated[list[RoomEntry], Field(min_length=1, max_length=1000)]
