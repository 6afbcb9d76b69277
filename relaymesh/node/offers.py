"""From an SDP offer to a session and its answer: which tracks, which codecs, which numbers.

In: the parsed offer and, for a player, the publication it asks for. Out: a session
ready for its first connectivity check, and the answer's text. What does not
fit raises :class:`SignallingError` with an HTTP status and a reason to read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple, Protocol

from relaymesh.node.egress import Sender
from relaymesh.node.egress_rows import EgressNumbers
from relaymesh.node.encodings import Encoding
from relaymesh.node.header_extensions import carried, of_bundle, of_player, of_publisher
from relaymesh.node.hitless import Hitless
from relaymesh.node.ingress import IngressTrack
from relaymesh.node.path_feedback import PathFeedback
from relaymesh.node.publications import AnyPublication, LocalPublication, Track
from relaymesh.node.refusals import (
    SignallingError,
    loses_all_video,
    receives,
    refused_of_player,
    refused_of_publisher,
    sends,
    why_unplayable,
)
from relaymesh.node.session import Session
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.messages import EncodingInfo, ParticipantName, TrackInfo
from relaymesh.webrtc import opus, rtp
from relaymesh.webrtc.addresses import Address
from relaymesh.webrtc.answer import AnswerSection
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.codecs import Codec, audio_within, choose_codec, match_codec, prefers_redundancy
from relaymesh.webrtc.dtls import Role
from relaymesh.webrtc.errors import NegotiationError
from relaymesh.webrtc.negotiation import Negotiation
from relaymesh.webrtc.sdp import MediaSection, SessionDescription
from relaymesh.webrtc.sdp_fragment import build_fragment
from relaymesh.webrtc.transport import IceCredentials, Transport, make_credentials

PUBLISHER_FEEDBACK = ("transport-cc", "nack", "nack pli", "ccm fir")
PLAYER_FEEDBACK = ("nack", "nack pli", "ccm fir")  # and what tells of the path: PathFeedback
MAX_TRACKS = 8  # of one publisher
MAX_ENCODINGS = 8  # of one track
PARTIAL_HINT = "with ?allow=partial the rest is taken without it"


@dataclass(frozen=True, slots=True)
class Incoming:
    """An offer that was read, and the negotiation that waits for its answer."""

    offer: SessionDescription
    negotiation: Negotiation
    session_id: str


@dataclass(frozen=True, slots=True)
class Receiving:
    """One section of an offer that we will receive."""

    info: TrackInfo
    codec: Codec  # the publisher's
    rids: dict[str, int]  # the number of each simulcast encoding


class Answered(NamedTuple):
    """A session made from an offer."""

    session: Session
    answer: str


@dataclass(frozen=True, slots=True)
class MediaEndpoint:
    """What every answer of this node says of it."""

    host: str  # the address clients send to, the preferred one
    port: int
    certificate: Certificate
    ufrag_prefix: str  # names the node, so that a load balancer can steer by it
    further_addresses: tuple[Address, ...] = ()  # others under which the same port is reached, by streams too


class TransportFactory(Protocol):
    """Makes the transport of a session; :class:`Transport` itself, but where clients are simulated."""

    def __call__(
        self,
        *,
        certificate: Certificate,
        credentials: IceCredentials,
        fingerprints: Sequence[tuple[str, str]],
        now: float,
        role: Role = "server",
    ) -> Transport: ...


class Negotiator:
    """Makes sessions from offers; all randomness comes from *rng*, all secrets from *secret_bytes*."""

    def __init__(
        self,
        endpoint: MediaEndpoint,
        rng: Random,
        secret_bytes: Callable[[int], bytes],
        make_transport: TransportFactory = Transport,
    ) -> None:
        self._endpoint = endpoint
        self._rng = rng
        self._secret_bytes = secret_bytes
        self._make_transport = make_transport

    def read_offer(self, text: str, now: float) -> Incoming:
        """Begin a negotiation with the offer in *text*.

        Raises:
            SignallingError: 400 for what cannot be answered.
        """
        session_id = self._session_id()
        negotiation = Negotiation(int(session_id[:12], 16), now)
        try:
            return Incoming(negotiation.handle_offer(text, now).offer, negotiation, session_id)
        except NegotiationError as error:
            raise SignallingError(400, f"this SDP offer cannot be answered: {error}") from None

    # --- publishers ----------------------------------------------------------------------------

    def choose_tracks(
        self,
        incoming: Incoming,
        prefer: tuple[str, ...],
        taken: set[int],
        hitless: Hitless = "none",
        *,
        partial: bool = False,
    ) -> dict[str, Receiving]:
        """For each section we will receive, by mid: the track's description and the publisher's codec.

        Raises:
            SignallingError: 406 for too many tracks; 422 when nothing the offer sends is usable, or none of
                its video, unless *partial* says that the rest will do.
        """
        sent = [section for section in incoming.offer.media if sends(section)]
        if len(sent) > MAX_TRACKS:
            raise SignallingError(406, f"an offer may send {MAX_TRACKS} tracks, this one sends {len(sent)}")
        chosen: dict[str, Receiving] = {}
        for section in sent:
            redundant = prefers_redundancy(section.codecs)
            codec = choose_codec(section.kind, section.codecs, prefer, redundant=redundant)
            if codec is None:
                continue
            number = self._track_number(taken | {receiving.info.track for receiving in chosen.values()})
            rids = {rid: place for place, rid in enumerate(section.rids[:MAX_ENCODINGS])}
            twice = hitless == "all" or hitless == section.kind
            chosen[section.mid] = Receiving(_track_info(number, section, codec, twice, rids), codec, rids)
        refused = refused_of_publisher(incoming.offer, chosen, prefer)
        lost = [section.reason for section in refused if section.kind in ("audio", "video")]
        if not chosen:
            raise SignallingError(422, f"no usable codec: {'; '.join(lost) or 'this offer sends nothing'}")
        if not partial and loses_all_video(refused, (s for s in sent if s.mid in chosen)):
            raise SignallingError(422, f"no usable video codec: {'; '.join(lost)} ({PARTIAL_HINT})")
        return chosen

    def publisher(
        self,
        incoming: Incoming,
        publication: LocalPublication,
        chosen: dict[str, Receiving],
        *,
        originate: Callable[[Track, MediaFrame, float], None],
        clock_changed: Callable[[Encoding, float], None],
        now: float,
    ) -> Answered:
        """The session that receives *chosen* into *publication*, and the answer."""
        session = self._session(incoming, publication.name, originate, clock_changed, now)
        session.publication = publication
        sections = []
        for section in incoming.offer.media:
            receiving = chosen.get(section.mid)
            if receiving is None:
                sections.append(AnswerSection(offered=section, direction="inactive", codec=None))
                continue
            extensions = of_publisher(receiving.codec)
            kinds = {number: kind for kind, number in carried(section, extensions).items()}
            track = publication.tracks[receiving.info.track]
            ingress = IngressTrack(track, section.mid, receiving.codec, kinds, receiving.rids)
            session.add_receiver(ingress, list(section.ssrcs), now)
            sections.append(
                AnswerSection(
                    offered=section,
                    direction="recvonly",
                    codec=_answered(receiving.codec, receives=True),
                    further_codecs=_within(section, receiving.codec, receives=True),
                    extensions=extensions,
                    feedback=PUBLISHER_FEEDBACK,
                    rids=tuple(receiving.rids),
                )
            )
        ids = of_bundle(incoming.offer)
        session.use_extensions(
            mid_id=ids.get(rtp.MID),
            rid_id=ids.get(rtp.RID),
            repaired_rid_id=ids.get(rtp.REPAIRED_RID),
            transport_id=ids.get(rtp.TRANSPORT_CC),
        )
        return Answered(session, self._answer(sections, session))

    # --- players -------------------------------------------------------------------------------

    def player(
        self,
        incoming: Incoming,
        publication: AnyPublication,
        *,
        originate: Callable[[Track, MediaFrame, float], None],
        clock_changed: Callable[[Encoding, float], None],
        now: float,
        partial: bool = False,
    ) -> Answered:
        """The session that plays *publication*, and the answer.

        Raises:
            SignallingError: 422 when the player can decode none of its tracks; or none of the video that
                both have, unless *partial* says that the rest will do.
        """
        session = self._session(incoming, publication.name, originate, clock_changed, now)
        left = list(publication.tracks.values())
        matched: list[tuple[MediaSection, Track | None, Codec | None]] = []
        for section in incoming.offer.media:
            track, codec = _match(section, left)
            if track is not None:
                left.remove(track)
            matched.append((section, track, codec))
        feedback = PathFeedback.choose((section, codec) for section, _, codec in matched if codec is not None)
        session.send_side.use_feedback(feedback)
        sections = [
            AnswerSection(offered=section, direction="inactive", codec=None)
            if track is None or codec is None
            else self._play(session, section, track, codec, feedback)
            for section, track, codec in matched
        ]
        if not session.senders:
            raise SignallingError(422, f"no usable codec: {why_unplayable(incoming.offer, publication)}")
        taken = [answer.offered for answer in sections if answer.accepted]
        session.refused = refused_of_player(incoming.offer, {s.mid for s in taken}, publication)
        has_video = any(track.is_video for track in publication.tracks.values())
        if has_video and not partial and loses_all_video(session.refused, taken):
            why = "; ".join(section.reason for section in session.refused if section.kind == "video")
            raise SignallingError(422, f"no usable video codec: {why} ({PARTIAL_HINT})")
        return Answered(session, self._answer(sections, session))

    def _play(
        self, session: Session, section: MediaSection, track: Track, codec: Codec, feedback: PathFeedback
    ) -> AnswerSection:
        kinds, of_path = feedback.accepted(section, codec)
        extensions = of_player(codec, of_path)
        ids = {uri: number for uri, number in section.extensions.items() if uri in extensions}
        numbers = EgressNumbers(
            ssrc=self._rng.getrandbits(32),
            rtx_ssrc=self._rng.getrandbits(32) if codec.rtx is not None else None,
            first_sequence=self._rng.getrandbits(15),
            first_rtx_sequence=self._rng.getrandbits(15),
            transport_id=ids.get(rtp.TRANSPORT_CC),
            send_time_id=ids.get(rtp.ABS_SEND_TIME),
            extension_ids=carried(section, extensions),
            block_type=within.payload_type if (within := audio_within(section.codecs, codec)) else None,
        )
        cname = f"rm-{track.id.participant:016x}"  # one for all tracks of a publisher: players sync by it
        sender = Sender(section.mid, codec, numbers, cname=cname, send=session.send_side.send)
        session.add_sender(sender)
        participant = track.publication.name.participant
        stereo = opus.offers_stereo(track.info.fmtp)
        return AnswerSection(
            offered=section,
            direction="sendonly",
            codec=_answered(codec, receives=False, sends_stereo=stereo),
            further_codecs=_within(section, codec, receives=False, sends_stereo=stereo),
            extensions=extensions,
            feedback=(*kinds, *PLAYER_FEEDBACK),
            ssrc=numbers.ssrc,
            rtx_ssrc=numbers.rtx_ssrc,
            cname=cname,
            stream_label=participant,
            track_label=f"{participant}-{track.info.kind}-{track.number}",
        )

    # --- parts ---------------------------------------------------------------------------------

    def _session(
        self,
        incoming: Incoming,
        name: ParticipantName,
        originate: Callable[[Track, MediaFrame, float], None],
        clock_changed: Callable[[Encoding, float], None],
        now: float,
    ) -> Session:
        endpoint = self._endpoint
        credentials = make_credentials(self._secret_bytes(24), endpoint.ufrag_prefix)
        transport = self._make_transport(
            certificate=endpoint.certificate,
            credentials=credentials,
            fingerprints=incoming.offer.fingerprints,
            now=now,
            role=incoming.offer.dtls_role,
        )
        return Session(
            incoming.session_id,
            name,
            transport,
            incoming.negotiation,
            ssrc=self._rng.getrandbits(32),
            now=now,
            originate=originate,
            clock_changed=clock_changed,
        )

    def restart_ice(self, session: Session) -> tuple[IceCredentials, str]:
        """New credentials for *session*, and the fragment that tells them to its client."""
        endpoint, negotiation = self._endpoint, session.negotiation
        assert negotiation.offer is not None, "a session begins with an offer"
        credentials = make_credentials(self._secret_bytes(24), endpoint.ufrag_prefix)
        agreed = zip(negotiation.offer.media, negotiation.sections, strict=True)
        fragment = build_fragment(
            next(media for media, section in agreed if section.live),
            ufrag=credentials.ufrag,
            password=credentials.password,
            addresses=self._addresses,
        )
        return credentials, fragment

    @property
    def _addresses(self) -> tuple[tuple[str, int], ...]:
        return ((self._endpoint.host, self._endpoint.port), *self._endpoint.further_addresses)

    def _session_id(self) -> str:
        return self._secret_bytes(12).hex()  # whoever knows it may end the session

    def _track_number(self, taken: set[int]) -> int:
        while (number := self._rng.getrandbits(16)) in taken:
            pass
        return number

    def _answer(self, sections: list[AnswerSection], session: Session) -> str:
        endpoint, credentials = self._endpoint, session.transport.credentials
        return session.negotiation.answer(
            sections,
            ufrag=credentials.ufrag,
            password=credentials.password,
            fingerprint=endpoint.certificate.fingerprint,
            addresses=self._addresses,
        )


def _answered(codec: Codec, *, receives: bool, sends_stereo: bool = False) -> Codec:
    """*codec* as an answer names it: what opus says of one direction is not repeated."""
    if codec.name.lower() != "opus":
        return codec
    stereo = receives and opus.offers_stereo(codec.fmtp)
    return replace(
        codec, fmtp=opus.answer_fmtp(codec.fmtp, receives_stereo=stereo, sends_stereo=sends_stereo)
    )


def _within(
    section: MediaSection, codec: Codec, *, receives: bool, sends_stereo: bool = False
) -> tuple[Codec, ...]:
    """What is in *codec*'s blocks, where that is RED: it is agreed upon with it (RFC 2198 §5)."""
    within = audio_within(section.codecs, codec)
    return () if within is None else (_answered(within, receives=receives, sends_stereo=sends_stereo),)


def _track_info(
    number: int, section: MediaSection, codec: Codec, hitless: bool, rids: dict[str, int]
) -> TrackInfo:
    # RED has no parameters but the publisher's numbers; what players have to know is said of its blocks.
    parameters = audio_within(section.codecs, codec) or codec
    return TrackInfo(
        track=number,
        kind="video" if section.kind == "video" else "audio",
        codec=codec.name,
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        fmtp=parameters.fmtp[:512],
        hitless=hitless,
        encodings=tuple(EncodingInfo(n, rid[:32]) for rid, n in rids.items()) or (EncodingInfo(),),
    )


def _match(section: MediaSection, tracks: list[Track]) -> tuple[Track | None, Codec | None]:
    """The first track left that this section can receive, and the section's codec for it."""
    if not receives(section):
        return None, None
    for track in tracks:
        if track.info.kind == section.kind:
            codec = match_codec(section.kind, section.codecs, track.info.codec, track.info.fmtp)
            if codec is not None:
                return track, codec
    return None, None
