"""Drives scripted participants in an emulation: real WHIP and WHEP, real ICE, DTLS and SRTP, synthetic media.

In: a :class:`~relaymesh.netsim.participant.ScriptedParticipant`, and the namespace its
region's clients are in. Out: sessions and media. All participants live in the runner's
process; only their sockets are in the namespaces.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from relaymesh.netsim.emulate.namespaces import NetworkNamespace
from relaymesh.netsim.emulate.plan import HTTP_PORT
from relaymesh.netsim.emulate.requests import RequestError, request
from relaymesh.netsim.participant import Ask, Attend, Call, HangUp, ScriptedParticipant, Wait
from relaymesh.netsim.rtp_client import AnswerError, RtpClient
from relaymesh.runtime.timer import Timer
from relaymesh.runtime.udp import Address, UdpPort
from relaymesh.webrtc.certificate import Certificate

PATHS = {"publish": "whip", "play": "whep"}

Clock = Callable[[], float]


class Session:
    """A call over a real socket: feeds both, and keeps their time."""

    def __init__(self, port: UdpPort, client: RtpClient, clock: Clock, call: Call) -> None:
        self._client = client
        self._port = port
        self._clock = clock
        self._call = call
        self._begun = False  # the call knows that there is a connection
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
        self._client.close(self._clock())
        self._send()
        self._port.close()

    async def _receive(self) -> None:
        client = self._client
        while True:
            batch = await self._port.receive()
            now = self._clock()
            for data, _ in batch:
                client.handle_datagram(data, now)
            received, client.received = client.received, []
            for kind, packet in received:
                for again in self._call.handle_packet(packet, kind == "rtcp", now):
                    client.send_rtp(again)
            self._flush()

    def _next_timeout(self) -> float | None:
        due = self._client.next_timeout()
        if due is None:
            return None
        return self._offset + (min(due, self._call.next_timeout()) if self._client.connected else due)

    def _on_timeout(self, _: float) -> None:
        now = self._clock()
        self._client.handle_timeout(now)
        self._flush()

    def _flush(self) -> None:
        """Everything there is to say now."""
        client = self._client
        if client.connected:
            now = self._clock()
            if not self._begun:
                self._begun = True
                self._call.handle_connected(now)
            media, reports = self._call.poll(now)
            for packet in media:
                client.send_rtp(packet)
            for packet in reports:
                client.send_rtcp(packet)
        self._send()
        if client.closed:
            self._over.set()
        self._timer.poke()

    def _send(self) -> None:
        datagrams = self._client.poll_datagrams()
        if datagrams:
            peer = self._client.peer
            self._port.send_batch([(data, peer) for data in datagrams])


class Spectator:
    """One participant: its address, its node, its calls."""

    def __init__(
        self,
        script: ScriptedParticipant,
        *,
        namespace: NetworkNamespace,
        address: str,
        node_address: str,
        certificate: Certificate,
        clock: Clock,
    ) -> None:
        """*clock*: seconds since the run began."""
        self._script = script
        self._namespace = namespace
        self._address = address
        self._node: Address = node_address, HTTP_PORT
        self._certificate = certificate
        self._clock = clock

    async def run(self) -> None:
        """From its join to its leave, or to the end of the run, when nothing is sent any more."""
        script, clock = self._script, self._clock
        if script.joins_at is None:
            return
        await self._sleep_until(script.joins_at)
        async with trio.open_nursery() as nursery:
            publishing = script.publishing(clock())
            if publishing is not None:
                nursery.start_soon(self._follow, publishing)
            for name in script.participant.play:
                nursery.start_soon(self._follow, script.playing(name, clock()))

    async def _follow(self, call: Call) -> None:
        """Do what the script says."""
        session: Session | None = None
        while (step := call.next_step(self._clock())) is not None:
            match step:
                case Ask():
                    session = await self._ask(call)
                case Wait(until):
                    await self._sleep_until(until)
                case Attend(until, stays):
                    assert session is not None, "it was answered"
                    await self._attend(call, session, until, stays=stays)
                case HangUp(location):
                    await self._hang_up(location)

    async def _sleep_until(self, when: float) -> None:
        await trio.sleep(max(0.0, when - self._clock()))

    # --- sessions ------------------------------------------------------------------------------

    async def _attend(self, call: Call, session: Session, until: float, *, stays: bool) -> None:
        """Until *until* or the session's end. Who *stays* takes what is under way until cancelled."""
        try:
            remaining = float("inf") if stays else max(0.0, until - self._clock())
            with trio.move_on_after(remaining):
                await session.run()
        finally:
            session.close()
            call.handle_over()

    async def _ask(self, call: Call) -> Session | None:
        """Offer the call to the node; the session, unless it is refused."""
        with self._namespace.inside():
            port = UdpPort.open(self._address, 0)
        client = RtpClient(self._certificate, os.urandom)
        path = f"/{PATHS[call.verb]}/{call.room}/{call.name}"
        try:
            offer = client.offer(call.direction, call.sections, port.address)
            answer = await request(
                self._namespace, self._node, "POST", path, body=offer.encode(), source=self._address
            )
            if answer.status != 201:
                raise AnswerError(answer.body.decode(errors="replace").strip())
            text = answer.body.decode()
            client.accept(text, self._clock())
        except (RequestError, AnswerError):
            port.close()
            call.handle_refusal(self._clock())
            return None
        except BaseException:
            port.close()
            raise
        call.handle_answer(text, answer.headers.get("location", ""), self._clock())
        return Session(port, client, self._clock, call)

    async def _hang_up(self, location: str) -> None:
        try:
            await request(self._namespace, self._node, "DELETE", location, source=self._address, within=1.0)
        except RequestError:
            pass  # it learns by itself
