"""Drives scripted participants in the emulated network: no task but one for each call.

In: a :class:`~relaymesh.netsim.participant.ScriptedParticipant` and a way to its
node. Out: sessions made by :meth:`Node.publish` and :meth:`Node.play` from real
offers, and media over them. Signalling takes an access round trip; the HTTP
around it is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from relaymesh.netsim.connection import Connection, plain_offer
from relaymesh.netsim.net import Network
from relaymesh.netsim.participant import Ask, Attend, Call, HangUp, ScriptedParticipant, Wait
from relaymesh.node.app import Node
from relaymesh.node.refusals import SignallingError
from relaymesh.protocol.messages import ParticipantName

FindNode = Callable[[str], Node | None]


class Client:
    """One participant: a host with an access link, and its calls."""

    def __init__(
        self,
        script: ScriptedParticipant,
        *,
        network: Network,
        host: str,
        access_delay: float,
        find_node: FindNode,
    ) -> None:
        """*access_delay*: one way, seconds."""
        self._script = script
        self._network = network
        self._host = host
        self._access_delay = access_delay
        self._find_node = find_node

    async def run(self) -> None:
        """From its join to its leave, or to the end of the run, when nothing is sent any more."""
        script = self._script
        if script.joins_at is None:
            return
        await trio.sleep_until(script.joins_at)
        async with trio.open_nursery() as nursery:
            if script.participant.publish:
                nursery.start_soon(self._publish)
            for name in script.participant.play:
                nursery.start_soon(self._play, name)

    async def _publish(self) -> None:
        call = self._script.publishing(self._network.now)
        assert call is not None, "it publishes"
        await self._follow(call)

    async def _play(self, publisher: str) -> None:
        await self._follow(self._script.playing(publisher, self._network.now))

    async def _follow(self, call: Call) -> None:
        """Do what the script says."""
        answer = ""
        while (step := call.next_step(self._network.now)) is not None:
            match step:
                case Ask():
                    answer = await self._ask(call)
                case Wait(until):
                    await trio.sleep_until(until)
                case Attend(until, stays):
                    await self._attend(call, answer, until, stays=stays)
                case HangUp(session):
                    await self._hang_up(session)

    # --- media ---------------------------------------------------------------------------------

    async def _attend(self, call: Call, answer: str, until: float, *, stays: bool) -> None:
        """Send and receive until the session is over or *until*; who *stays* receives on after that."""
        over = trio.Event()
        riding = Riding(self._network, self._host, answer, call, over.set)
        with trio.move_on_at(until):
            await over.wait()
        if over.is_set() or not stays:
            riding.close()
        call.handle_over()

    # --- signalling ----------------------------------------------------------------------------

    async def _ask(self, call: Call) -> str:
        """Offer the call to this participant's node, an access round trip away; its answer."""
        offer = plain_offer(call.direction, call.sections)
        name = ParticipantName(call.room, call.name)
        await trio.sleep(self._access_delay)
        node = self._find_node(self._script.participant.node)
        try:
            if node is None:
                raise SignallingError(503, "connection refused")
            if call.verb == "publish":
                prefer = tuple(section.codec for section in call.sections if section.kind == "video")
                opened = await node.publish(name, offer, prefer or ("VP8",))
            else:
                opened = await node.play(name, offer)
        except SignallingError:
            call.handle_refusal(self._network.now)
            return ""
        await trio.sleep(self._access_delay)
        call.handle_answer(opened.answer, opened.session, self._network.now)
        return opened.answer

    async def _hang_up(self, session: str) -> None:
        await trio.sleep(self._access_delay)
        node = self._find_node(self._script.participant.node)
        if node is not None:
            node.end(session)


class Riding:
    """A call over one connection, in the timers and deliveries of the network."""

    def __init__(
        self, network: Network, host: str, answer: str, call: Call, on_over: Callable[[], None]
    ) -> None:
        self._network = network
        self._call = call
        self._due = inf  # when the timer rings
        self._turn = 0  # of several that were set only the latest counts
        self._connection = Connection(
            network,
            host,
            answer,
            rng=call.rng,
            on_connected=self._connected,
            on_packet=self._packet,
            on_over=lambda why: on_over(),
        )

    def close(self) -> None:
        """End the connection from this side."""
        self._connection.close()

    def _connected(self, now: float) -> None:
        self._call.handle_connected(now)
        self._poll(now)

    def _packet(self, data: bytes, is_rtcp: bool, now: float) -> None:
        if answers := self._call.handle_packet(data, is_rtcp, now):
            self._connection.send(answers)
        if self._call.next_timeout() < self._due:
            self._set_timer(now)

    def _poll(self, now: float) -> None:
        if self._connection.connected:
            media, reports = self._call.poll(now)
            self._connection.send(media)
            self._connection.send(reports)
            self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        due = self._call.next_timeout()
        if due < self._due:
            self._due = due
            self._turn += 1
            self._network.at(max(due, now), self._ring, self._turn)

    def _ring(self, turn: int) -> None:
        if turn == self._turn:
            self._due = inf
            self._poll(self._network.now)
