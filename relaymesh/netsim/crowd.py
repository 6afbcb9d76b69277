"""The clients of a run as measuring sees them: what publishers sent, what players got."""

from __future__ import annotations

from dataclasses import dataclass, field

from relaymesh.netsim.media import SyntheticPublisher
from relaymesh.netsim.player import PlayedTrack
from relaymesh.netsim.scenario.resolved import Participant


@dataclass(slots=True)
class PublishingClient:
    """A participant's publisher: what it sends, for measuring."""

    participant: Participant
    publisher: SyntheticPublisher
    sessions: int = 0
    refused: int = 0


@dataclass(slots=True)
class PlayingClient:
    """One participant's player of one other: what it got, for measuring."""

    participant: Participant
    publisher: str  # participant of the same room
    tracks: list[PlayedTrack]
    asked_at: float  # s; the first request
    sessions: int = 0
    refused: int = 0


@dataclass(slots=True)
class Crowd:
    """All clients of a run, by (room, participant) and (room, player, publisher)."""

    publishing: dict[tuple[str, str], PublishingClient] = field(default_factory=dict)
    playing: dict[tuple[str, str, str], PlayingClient] = field(default_factory=dict)
    changes: int = 0  # rises whenever a session begins or ends
