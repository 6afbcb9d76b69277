"""The synthetic participants of an emulation: real WHIP and WHEP, real ICE, DTLS and SRTP, synthetic media.

In: a participant, and the namespace its region's clients are in. Out: the same
records as simulated clients leave (:class:`~relaymesh.netsim.clients.Crowd`), so
that both modes are measured by the same code. All of them live in the runner's
process; only their sockets are in the namespaces.

They behave as simulated clients do: whoever is refused, or loses its session,
asks again until its participant leaves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from random import Random

import trio

from relaymesh.netsim.clients import RETRY, Crowd, PlayingClient, PublishingClient, track_spec
from relaymesh.netsim.emulate.namespaces import NetworkNamespace
from relaymesh.netsim.emulate.plan import HTTP_PORT
from relaymesh.netsim.emulate.requests import RequestError, request
from relaymesh.netsim.media import SyntheticPublisher, TrackSpec
from relaymesh.netsim.player import PlayedTrack, SyntheticPlayer
from relaymesh.netsim.rtp_client import AnswerError, Direction, RtpClient, Section, answered_sources
from relaymesh.netsim.scenario.resolved import Participant
from relaymesh.runtime.timer import Timer
from relaymesh.runtime.udp import Address, UdpPort
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.rtcp import build_receiver_report

REPAIR_TICK = 0.01  # s between looks at what is missing
REPORT_INTERVAL = 1.0  # s between receiver reports

Clock = Callable[[], float]


class Refused(Exception):
    """The node did not take the offer, or there is no node."""


class Session:
    """One connection over a real socket: feeds it, and runs what rides on it.

    *poll* is asked for (RTP, RTCP) due and *next_poll* for when that is; *take* gets what came.
    """

    def __init__(
        self,
        port: UdpPort,
        client: RtpClient,
        clock: Clock,
        *,
        poll: Callable[[float], tuple[Iterable[bytes], Iterable[bytes]]],
        next_poll: Callable[[], float],
        take: Callable[[str, bytes, float], None],
    ) -> None:
        self.client = client
        self.connected = trio.Event()
        self.location = ""  # of the session at the node
        self._port = port
        self._clock = clock
        self._poll = poll
        self._next_poll = next_poll
        self._take = take
        self._offset = trio.current_time() - clock()
        self._timer = Timer(self._next_timeout, self._on_timeout)
        self._over = trio.Event()

    async def run(self) -> None:
        """Until it is over, for whatever reason; cancel it to leave it as it is."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            nursery.start_soon(self._timer.run)
            self._flush()
            await self._over.wait()
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        """Say goodbye and let go of the socket."""
        self.client.close(self._clock())
        self._send()
        self._port.close()

    async def _receive(self) -> None:
        client = self.client
        while True:
            batch = await self._port.receive()
            now = self._clock()
            for data, _ in batch:
                client.handle_datagram(data, now)
            received, client.received = client.received, []
            for kind, packet in received:
                self._take(kind, packet, now)
            self._flush()

    def _next_timeout(self) -> float | None:
        due = self.client.next_timeout()
        if due is None:
            return None
        return self._offset + (min(due, self._next_poll()) if self.client.connected else due)

    def _on_timeout(self, _: float) -> None:
        now = self._clock()
        self.client.handle_timeout(now)
        self._flush()

    def _flush(self) -> None:
        """Everything there is to say now."""
        client = self.client
        if client.connected:
            now = self._clock()
            if not self.connected.is_set():
                self.connected.set()
            media, reports = self._poll(now)
            for packet in media:
                client.send_rtp(packet)
            for packet in reports:
                client.send_rtcp(packet)
        self._send()
        if client.closed:
            self._over.set()
        self._timer.poke()

    def _send(self) -> None:
        datagrams = self.client.poll_datagrams()
        if datagrams:
            peer = self.client.peer
            self._port.send_batch([(data, peer) for data in datagrams])


class Spectator:
    """One participant: its address, its node, its publisher and players."""

    def __init__(
        self,
        participant: Participant,
        specs_of: Callable[[str], tuple[TrackSpec, ...]],
        *,
        namespace: NetworkNamespace,
        address: str,
        node_address: str,
        certificate: Certificate,
        clock: Clock,
        crowd: Crowd,
        seed: str,
    ) -> None:
        """*specs_of*: the tracks of another participant of the room; *clock*: seconds since the run began."""
        self.participant = participant
        self._specs_of = specs_of
        self._namespace = namespace
        self._address = address
        self._node: Address = node_address, HTTP_PORT
        self._certificate = certificate
        self._clock = clock
        self._crowd = crowd
        self._seed = seed

    async def run(self, ends_at: float) -> None:
        """From its join to its leave, or to *ends_at*, when nothing is sent any more."""
        participant = self.participant
        if participant.join_s >= ends_at:
            return
        await trio.sleep(max(0.0, participant.join_s - self._clock()))
        leave_s = participant.leave_s
        leaves_at = ends_at if leave_s is None else min(leave_s, ends_at)
        async with trio.open_nursery() as nursery:
            if participant.publish:
                nursery.start_soon(self._publish, leaves_at)
            for name in participant.play:
                nursery.start_soon(self._play, name, leaves_at, ends_at)

    # --- publishing ----------------------------------------------------------------------------

    async def _publish(self, leaves_at: float) -> None:
        participant, clock = self.participant, self._clock
        rng = Random(f"{self._seed}:{participant.room}/{participant.name}")
        specs = [track_spec(track) for track in participant.publish]
        # Publishers that join together do not send their frames in the same instant.
        start = clock() + rng.random() * max(spec.interval for spec in specs)
        publisher = SyntheticPublisher(specs, rng=rng, start=start)
        record = PublishingClient(participant, publisher)
        self._crowd.publishing[participant.room, participant.name] = record
        sections = [Section(t.spec.kind, t.ssrc, t.rtx_ssrc) for t in publisher.tracks]
        path = f"/whip/{participant.room}/{participant.name}"
        began = False

        def poll(now: float) -> tuple[list[bytes], list[bytes]]:
            nonlocal began
            if not began:
                began = True
                publisher.connected(now)
            return publisher.poll(now) if now < leaves_at else ([], [])

        def take(kind: str, packet: bytes, now: float) -> None:
            if kind == "rtcp":
                for again in publisher.handle_rtcp(packet, now):
                    session.client.send_rtp(again)

        while clock() < leaves_at:
            began = False
            try:
                session, _ = await self._ask(
                    "sendonly", sections, path, poll=poll, next_poll=publisher.next_timeout, take=take
                )
            except Refused:
                record.refused += 1
                await trio.sleep(RETRY)
                continue
            record.sessions += 1
            await self._attend(session, leaves_at, stays=False)

    # --- playing -------------------------------------------------------------------------------

    async def _play(self, publisher: str, leaves_at: float, ends_at: float) -> None:
        participant, clock = self.participant, self._clock
        rng = Random(f"{self._seed}:{participant.room}/{participant.name}/{publisher}")
        specs = self._specs_of(publisher)
        tracks = [PlayedTrack(spec, joined_at=clock()) for spec in specs]
        player = SyntheticPlayer(tracks, ssrc=rng.getrandbits(32))
        record = PlayingClient(participant, publisher, tracks, clock())
        self._crowd.playing[participant.room, participant.name, publisher] = record
        sections = [Section(spec.kind) for spec in specs]
        ssrc = rng.getrandbits(32)
        looked_at = report_at = 0.0

        def poll(now: float) -> tuple[list[bytes], list[bytes]]:
            nonlocal looked_at, report_at
            feedback: list[bytes] = []
            if player.is_waiting and now - looked_at >= REPAIR_TICK:
                looked_at = now
                feedback += player.poll_rtcp(now)
            if now >= report_at:
                # Empty, but the node learns by it that we have the keys.
                report_at = now + REPORT_INTERVAL
                feedback.append(build_receiver_report(ssrc, []))
            return [], feedback

        def next_poll() -> float:
            return min(report_at, looked_at + REPAIR_TICK) if player.is_waiting else report_at

        def take(kind: str, packet: bytes, now: float) -> None:
            if kind == "rtp":
                player.handle_rtp(packet, now)

        while clock() < leaves_at:
            try:
                session, answer = await self._ask(
                    "recvonly",
                    sections,
                    f"/whep/{participant.room}/{publisher}",
                    poll=poll,
                    next_poll=next_poll,
                    take=take,
                )
            except Refused:
                record.refused += 1
                await trio.sleep(RETRY)
                continue
            player.connected([pair or (-1, None) for pair in answered_sources(answer)], clock())
            record.sessions += 1
            await self._attend(session, leaves_at, stays=leaves_at == ends_at)
        for track in tracks:
            track.left_at = leaves_at

    # --- sessions ------------------------------------------------------------------------------

    async def _attend(self, session: Session, leaves_at: float, *, stays: bool) -> None:
        """Until *leaves_at* or the session's end. Who *stays* takes what is under way until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._count, session)
                remaining = float("inf") if stays else max(0.0, leaves_at - self._clock())
                with trio.move_on_after(remaining) as left:
                    await session.run()
                nursery.cancel_scope.cancel()
        finally:
            self._crowd.changes += 1
            session.close()
        if left.cancelled_caught:
            await self._hang_up(session)
        else:
            await trio.sleep(RETRY)

    async def _count(self, session: Session) -> None:
        await session.connected.wait()
        self._crowd.changes += 1

    async def _ask(
        self,
        direction: Direction,
        sections: list[Section],
        path: str,
        *,
        poll: Callable[[float], tuple[list[bytes], list[bytes]]],
        next_poll: Callable[[], float],
        take: Callable[[str, bytes, float], None],
    ) -> tuple[Session, str]:
        """A session at the node, and its answer.

        Raises:
            Refused: there is none.
        """
        with self._namespace.inside():
            port = UdpPort.open(self._address, 0)
        client = RtpClient(self._certificate, os.urandom)
        try:
            offer = client.offer(direction, sections, port.address)
            answer = await request(
                self._namespace, self._node, "POST", path, body=offer.encode(), source=self._address
            )
            if answer.status != 201:
                raise Refused(answer.body.decode(errors="replace").strip())
            text = answer.body.decode()
            client.accept(text, self._clock())
        except (RequestError, AnswerError) as error:
            port.close()
            raise Refused(str(error)) from None
        except BaseException:
            port.close()
            raise
        session = Session(port, client, self._clock, poll=poll, next_poll=next_poll, take=take)
        session.location = answer.headers.get("location", "")
        return session, text

    async def _hang_up(self, session: Session) -> None:
        try:
            await request(
                self._namespace, self._node, "DELETE", session.location, source=self._address, within=1.0
            )
        except RequestError:
            pass  # it learns by itself
