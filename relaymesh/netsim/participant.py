"""One participant of a scenario as a script: it joins, publishes, plays, asks again, leaves.

In: answers and refusals of its node, RTP and RTCP, ``now``. Out: what is to be done next
(:data:`Step`), offers' sections, RTP and RTCP to send. It knows no socket, task, clock or
signalling: :mod:`~relaymesh.netsim.clients` drives it in virtual time,
:mod:`~relaymesh.netsim.emulate.audience` with real sockets.

A participant has one :class:`Call` for what it publishes and one for each other
it plays. Whoever drives a call asks :meth:`Call.next_step`, does it, says how it went,
and asks again::

    Ask ──answered──→ Attend ──over──→ Wait ──→ Ask …
     └──refused──→ Wait        └─left──→ HangUp ──→ None
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from random import Random

from relaymesh.netsim.crowd import Crowd, PlayingClient, PublishingClient
from relaymesh.netsim.descriptions import Direction, Section, accepted_in, answered_sources
from relaymesh.netsim.media import Accepted, SyntheticPublisher
from relaymesh.netsim.player import PlayedTrack, SyntheticPlayer
from relaymesh.netsim.scenario.resolved import Participant
from relaymesh.netsim.scenario.traffic import AudioTrack, VideoTrack
from relaymesh.netsim.track_specs import TrackSpec
from relaymesh.webrtc.rtcp import build_receiver_report

RETRY = 0.5  # s until a refused client asks again
REPAIR_TICK = 0.01  # s between looks at what is missing
REPORT_INTERVAL = 1.0  # s between receiver reports


def track_spec(track: AudioTrack | VideoTrack) -> TrackSpec:
    """The scenario's *track* as the publisher takes it."""
    if isinstance(track, AudioTrack):
        return TrackSpec("audio", track.kbps, 1000.0 / track.frame_ms)
    return TrackSpec(
        "video",
        track.kbps,
        track.fps,
        track.keyframe_s,
        track.keyframe_size,
        temporal=track.temporal_layers,
        simulcast=track.layers,
        spatial=track.spatial_layers,
        ignores_pli=track.ignores_pli,
    )


@dataclass(frozen=True, slots=True)
class Ask:
    """Offer a session to the node; say :meth:`Call.handle_answer` or :meth:`Call.handle_refusal`."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing until then."""

    until: float  # seconds


@dataclass(frozen=True, slots=True)
class Attend:
    """Send and receive until the session is over, or until then; say :meth:`Call.handle_over`."""

    until: float  # seconds
    stays: bool  # what is under way then still counts: the session is not closed


@dataclass(frozen=True, slots=True)
class HangUp:
    """Tell the node that the session is over."""

    session: str


Step = Ask | Wait | Attend | HangUp


class Call:
    """One session with the node, made again and again until the participant leaves."""

    direction: Direction
    verb: str  # of signalling: "publish" or "play"

    def __init__(self, record: PublishingClient | PlayingClient, crowd: Crowd, rng: Random) -> None:
        self.record = record
        self.rng = rng  # of this call; whoever drives it may draw from it
        self.room = record.participant.room
        self.sections: list[Section] = []
        self.leaves_at = 0.0  # seconds; nothing is sent from then on
        self._crowd = crowd
        self._session: str | None = None  # at the node
        self._pause_until = -inf
        self._over = False  # the session that was attended last is over, and the node not told
        self._left = False

    @property
    def name(self) -> str:
        """The participant whose media it is."""
        raise NotImplementedError

    @property
    def _stays(self) -> bool:
        return False

    def next_step(self, now: float) -> Step | None:
        """The next thing to do; None: no more."""
        if self._over:
            self._over = False
            if now >= self.leaves_at:
                return None if self._stays else HangUp(self._session or "")
            self._pause_until = now + RETRY
        if now < self._pause_until:
            return Wait(self._pause_until)
        if self._session is not None and not self._left:
            return Attend(self.leaves_at, self._stays)
        if now < self.leaves_at:
            return Ask()
        self._end()
        return None

    def handle_answer(self, answer: str, session: str, now: float) -> None:
        """The node accepted the offer; *session* is its name for the session."""
        self.record.sessions += 1
        self._session, self._left = session, False
        self._answered(answer, now)

    def handle_refusal(self, now: float) -> None:
        """The node did not take the offer, or there is no node."""
        self.record.refused += 1
        self._pause_until = now + RETRY

    def handle_connected(self, now: float) -> None:
        """Media may flow."""
        self._crowd.changes += 1

    def handle_over(self) -> None:
        """The session ended, or its time did."""
        self._crowd.changes += 1
        self._over = self._left = True

    def handle_packet(self, data: bytes, is_rtcp: bool, now: float) -> list[bytes]:
        """A packet came; returns RTP to send at once."""
        raise NotImplementedError

    def poll(self, now: float) -> tuple[list[bytes], list[bytes]]:
        """(RTP, RTCP) to send now; only while connected."""
        raise NotImplementedError

    def next_timeout(self) -> float:
        """When :meth:`poll` has more; infinity: only once something came."""
        raise NotImplementedError

    def _answered(self, answer: str, now: float) -> None:
        """Take what the answer says of media."""

    def _end(self) -> None:
        """The participant left."""


class PublishCall(Call):
    """Publishes the participant's tracks."""

    direction: Direction = "sendonly"
    verb = "publish"

    def __init__(self, participant: Participant, crowd: Crowd, rng: Random, now: float) -> None:
        specs = [track_spec(track) for track in participant.publish]
        # Publishers that join together do not send their frames in the same instant.
        start = now + rng.random() * max(spec.interval for spec in specs)
        self.publisher = SyntheticPublisher(specs, rng=rng, start=start)
        record = PublishingClient(participant, self.publisher)
        super().__init__(record, crowd, rng)
        crowd.publishing[participant.room, participant.name] = record
        simulcast = any(spec.rids for spec in specs)
        self.sections = [
            Section(
                track.spec.kind,
                track.main.ssrc,
                track.main.rtx_ssrc,
                codec=track.spec.video_codec,
                rids=track.spec.rids,
                names_itself=simulcast,
                feedback=simulcast,
            )
            for track in self.publisher.tracks
        ]

    @property
    def name(self) -> str:
        return self.record.participant.name

    def _answered(self, answer: str, now: float) -> None:
        accepted = accepted_in(answer)
        # An answer that lacks sections accepts nothing of them.
        accepted += [Accepted()] * (len(self.sections) - len(accepted))
        self.publisher.accept(accepted[: len(self.sections)])

    def handle_connected(self, now: float) -> None:
        self.publisher.connected(now)
        super().handle_connected(now)

    def handle_packet(self, data: bytes, is_rtcp: bool, now: float) -> list[bytes]:
        return self.publisher.handle_rtcp(data, now) if is_rtcp else []

    def poll(self, now: float) -> tuple[list[bytes], list[bytes]]:
        return self.publisher.poll(now) if now < self.leaves_at else ([], [])

    def next_timeout(self) -> float:
        due = self.publisher.next_timeout()
        return due if due < self.leaves_at else inf


class PlayCall(Call):
    """Plays another participant."""

    direction: Direction = "recvonly"
    verb = "play"

    def __init__(
        self,
        participant: Participant,
        publisher: str,
        specs: tuple[TrackSpec, ...],
        crowd: Crowd,
        rng: Random,
        now: float,
        *,
        reports: bool,
    ) -> None:
        self.tracks = [PlayedTrack(spec, joined_at=now) for spec in specs]
        self.player = SyntheticPlayer(self.tracks, ssrc=rng.getrandbits(32))
        record = PlayingClient(participant, publisher, self.tracks, now)
        super().__init__(record, crowd, rng)
        crowd.playing[participant.room, participant.name, publisher] = record
        # Where nothing limits the access link nobody needs an estimate of it.
        feedback = participant.is_limited
        self.sections = [Section(spec.kind, codec=spec.video_codec, feedback=feedback) for spec in specs]
        self.ends_at = inf  # of the run; who stays until then takes what is under way
        self._publisher = publisher
        self._ssrc = rng.getrandbits(32) if reports else 0
        self._report_at = 0.0 if reports else inf
        self._look_at = inf

    @property
    def name(self) -> str:
        return self._publisher

    @property
    def _stays(self) -> bool:
        return self.leaves_at >= self.ends_at

    def _answered(self, answer: str, now: float) -> None:
        self._look_at = inf
        sources = [pair or (-1, None) for pair in answered_sources(answer)]
        ids = (one.transport_cc for one in accepted_in(answer))
        transport_id = next((number for number in ids if number is not None), None)
        self.player.connected(sources, now, transport_id=transport_id)

    def handle_packet(self, data: bytes, is_rtcp: bool, now: float) -> list[bytes]:
        if not is_rtcp and self.player.handle_rtp(data, now) and self._look_at == inf:
            self._look_at = now + REPAIR_TICK
        return []

    def poll(self, now: float) -> tuple[list[bytes], list[bytes]]:
        feedback: list[bytes] = []
        if now >= self._look_at:
            if self.player.is_waiting:
                feedback += self.player.poll_rtcp(now)
                self._look_at = now + REPAIR_TICK
            else:
                self._look_at = inf
        feedback += self.player.poll_feedback(now)
        if now >= self._report_at:
            # Empty, but the node learns by it that we have the keys.
            self._report_at = now + REPORT_INTERVAL
            feedback.append(build_receiver_report(self._ssrc, []))
        return [], feedback

    def next_timeout(self) -> float:
        due = self.player.feedback_at  # asked after each packet: min() costs as much as all of this
        if self._look_at < due:
            due = self._look_at
        return due if due < self._report_at else self._report_at

    def _end(self) -> None:
        for track in self.tracks:
            track.left_at = self.leaves_at


class ScriptedParticipant:
    """Everything one participant does in a run."""

    def __init__(
        self,
        participant: Participant,
        specs_of: Callable[[str], tuple[TrackSpec, ...]],
        crowd: Crowd,
        *,
        seed: str,
        ends_at: float,
        reports: bool = False,
    ) -> None:
        """*specs_of*: the tracks of another participant of the room; *ends_at*: the run does then, seconds;
        *reports*: players send receiver reports."""
        self.participant = participant
        self.joins_at = participant.join_s if participant.join_s < ends_at else None  # None: never
        self.leaves_at = ends_at if participant.leave_s is None else min(participant.leave_s, ends_at)
        self._specs_of = specs_of
        self._crowd = crowd
        self._ends_at = ends_at
        self._seed = f"{seed}:{participant.room}/{participant.name}"
        self._reports = reports

    def publishing(self, now: float) -> PublishCall | None:
        """The call that publishes; None: it publishes nothing."""
        if not self.participant.publish:
            return None
        call = PublishCall(self.participant, self._crowd, Random(self._seed), now)
        call.leaves_at = self.leaves_at
        return call

    def playing(self, publisher: str, now: float) -> PlayCall:
        """The call that plays *publisher*."""
        rng = Random(f"{self._seed}/{publisher}")
        specs = self._specs_of(publisher)
        call = PlayCall(self.participant, publisher, specs, self._crowd, rng, now, reports=self._reports)
        call.leaves_at, call.ends_at = self.leaves_at, self._ends_at
        return call
