"""The participants of a scenario in the emulated network: each joins, publishes, plays, comes back, leaves.

In: a :class:`~relaymesh.netsim.scenario.resolved.Participant` and a way to its
node's signalling. Out: sessions made by :meth:`Node.publish` and
:meth:`Node.play` from real offers, and media over them. Signalling takes an
access round trip; the HTTP around it is left out. A client whose session ends
asks again until its participant leaves.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import trio

from relaymesh.netsim.connection import Connection, play_offer, played_ssrcs, publish_offer
from relaymesh.netsim.media import SyntheticPublisher, TrackSpec
from relaymesh.netsim.net import Network
from relaymesh.netsim.player import PlayedTrack, SyntheticPlayer
from relaymesh.netsim.scenario.resolved import Participant
from relaymesh.netsim.scenario.traffic import AudioTrack, VideoTrack
from relaymesh.node.app import Node
from relaymesh.node.offers import SignallingError
from relaymesh.protocol.messages import StreamName

RETRY = 0.5  # s until a refused client asks again
REPAIR_TICK = 0.01  # s between looks at what is missing

FindNode = Callable[[str], Node | None]


def track_spec(track: AudioTrack | VideoTrack) -> TrackSpec:
    """What a scenario says of a track, as the publisher takes it. Of simulcast layers the highest is sent."""
    if isinstance(track, AudioTrack):
        return TrackSpec("audio", track.kbps, 1000.0 / track.frame_ms)
    return TrackSpec(
        "video", track.kbps, track.fps, track.keyframe_s, track.keyframe_size, track.temporal_layers
    )


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


class Client:
    """One participant: a host with an access link, a publisher, players."""

    def __init__(
        self,
        participant: Participant,
        specs_of: Callable[[str], tuple[TrackSpec, ...]],
        *,
        network: Network,
        host: str,
        access_delay: float,
        find_node: FindNode,
        crowd: Crowd,
        seed: str,
    ) -> None:
        """*specs_of*: the tracks of another participant of the room; *access_delay*: one way, seconds."""
        self.participant = participant
        self._specs_of = specs_of
        self._network = network
        self._host = host
        self._access_delay = access_delay
        self._find_node = find_node
        self._crowd = crowd
        self._seed = seed
        self._ends_at = float("inf") if participant.leave_s is None else participant.leave_s

    async def run(self, ends_at: float) -> None:
        """From its join to its leave, or to *ends_at* (seconds), when nothing is sent any more."""
        participant = self.participant
        if participant.join_s >= ends_at:
            return
        await trio.sleep_until(participant.join_s)
        leaves_at = min(self._ends_at, ends_at)
        async with trio.open_nursery() as nursery:
            if participant.publish:
                nursery.start_soon(self._publish, leaves_at)
            for name in participant.play:
                nursery.start_soon(self._play, name, leaves_at, ends_at)

    # --- publishing ----------------------------------------------------------------------------

    async def _publish(self, leaves_at: float) -> None:
        participant, network = self.participant, self._network
        rng = Random(f"{self._seed}:{participant.room}/{participant.name}")
        specs = [track_spec(track) for track in participant.publish]
        # Publishers that join together do not send their frames in the same instant.
        start = network.now + rng.random() * max(spec.interval for spec in specs)
        publisher = SyntheticPublisher(specs, rng=rng, start=start)
        client = PublishingClient(participant, publisher)
        self._crowd.publishing[participant.room, participant.name] = client
        name = StreamName(participant.room, participant.name)
        while network.now < leaves_at:
            try:
                session, answer = await self._ask(
                    lambda node: node.publish(name, publish_offer(publisher.tracks), ("VP8",))
                )
            except SignallingError:
                client.refused += 1
                await trio.sleep(RETRY)
                continue
            client.sessions += 1
            await self._send(publisher, answer, rng, leaves_at)
            await self._hang_up(session, leaves_at)

    async def _send(self, publisher: SyntheticPublisher, answer: str, rng: Random, leaves_at: float) -> None:
        """Send until the session is over or *leaves_at*."""
        network, over = self._network, trio.Event()

        def connected(now: float) -> None:
            publisher.connected(now)
            self._crowd.changes += 1
            tick()

        def tick() -> None:
            now = network.now
            if now < leaves_at and connection.connected:
                media, reports = publisher.poll(now)
                connection.send(media)
                connection.send(reports)
                network.at(max(publisher.next_timeout(), now), tick)

        def packet(data: bytes, is_rtcp: bool, now: float) -> None:
            if is_rtcp:
                connection.send(publisher.handle_rtcp(data, now))

        connection = Connection(
            network,
            self._host,
            answer,
            rng=rng,
            on_connected=connected,
            on_packet=packet,
            on_over=lambda why: over.set(),
        )
        with trio.move_on_at(leaves_at):
            await over.wait()
        connection.close()
        self._crowd.changes += 1

    # --- playing -------------------------------------------------------------------------------

    async def _play(self, publisher: str, leaves_at: float, ends_at: float) -> None:
        participant, network = self.participant, self._network
        rng = Random(f"{self._seed}:{participant.room}/{participant.name}/{publisher}")
        specs = self._specs_of(publisher)
        tracks = [PlayedTrack(spec, joined_at=network.now) for spec in specs]
        player = SyntheticPlayer(tracks, ssrc=rng.getrandbits(32))
        client = PlayingClient(participant, publisher, tracks, network.now)
        self._crowd.playing[participant.room, participant.name, publisher] = client
        name = StreamName(participant.room, publisher)
        offer = play_offer([spec.kind for spec in specs])
        while network.now < leaves_at:
            try:
                session, answer = await self._ask(lambda node: node.play(name, offer))
            except SignallingError:
                client.refused += 1
                await trio.sleep(RETRY)
                continue
            client.sessions += 1
            await self._receive(player, answer, rng, leaves_at)
            if network.now >= ends_at:
                return  # what is under way may still arrive
            await self._hang_up(session, leaves_at)
        for track in tracks:
            track.left_at = leaves_at

    async def _receive(self, player: SyntheticPlayer, answer: str, rng: Random, leaves_at: float) -> None:
        """Take what comes until the session is over or *leaves_at*; what is under way then still counts."""
        network, over = self._network, trio.Event()
        ssrcs = played_ssrcs(answer)
        player.connected([pair or (-1, None) for pair in ssrcs], network.now)
        looking = False

        def look() -> None:
            nonlocal looking
            looking = False
            if connection.connected and player.is_waiting:
                connection.send(player.poll_rtcp(network.now))
                looking = True
                network.at(network.now + REPAIR_TICK, look)

        def packet(data: bytes, is_rtcp: bool, now: float) -> None:
            nonlocal looking
            if not is_rtcp:
                player.handle_rtp(data, now)
                if not looking and player.is_waiting:
                    looking = True
                    network.at(now + REPAIR_TICK, look)

        def connected(now: float) -> None:
            self._crowd.changes += 1

        connection = Connection(
            network,
            self._host,
            answer,
            rng=rng,
            on_connected=connected,
            on_packet=packet,
            on_over=lambda why: over.set(),
        )
        with trio.move_on_at(leaves_at):
            await over.wait()
        if over.is_set() or leaves_at == self._ends_at:
            connection.close()
        self._crowd.changes += 1

    # --- signalling ----------------------------------------------------------------------------

    async def _ask(self, request: Callable[[Node], Awaitable[tuple[str, str]]]) -> tuple[str, str]:
        """*request* of this participant's node, an access round trip away.

        Raises:
            SignallingError: refused; 503 where there is no node.
        """
        await trio.sleep(self._access_delay)
        node = self._find_node(self.participant.node)
        if node is None:
            raise SignallingError(503, "connection refused")
        answer = await request(node)
        await trio.sleep(self._access_delay)
        return answer

    async def _hang_up(self, session: str, leaves_at: float) -> None:
        """Tell the node, or wait a little before the next try."""
        if self._network.now < leaves_at:
            await trio.sleep(RETRY)
            return
        await trio.sleep(self._access_delay)
        node = self._find_node(self.participant.node)
        if node is not None:
            node.end(session)
