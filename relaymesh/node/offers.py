"""From an SDP offer to a session and its answer: which tracks, which codecs, which numbers.

In: the parsed offer and, for a player, the stream it asks for. Out: a session
ready for its first connectivity check, and the answer's text. What does not
fit raises :class:`SignallingError` with an HTTP status and a reason to read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from relaymesh.node.egress import EgressNumbers, EgressTrack
from relaymesh.node.hitless import Hitless
from relaymesh.node.ingress import IngressTrack
from relaymesh.node.session import PlayerSession, PublisherSession
from relaymesh.node.streams import Stream, Track
from relaymesh.protocol.frames import EXTENSION_AUDIO_LEVEL, EXTENSION_VIDEO_ORIENTATION, MediaFrame
from relaymesh.protocol.messages import TrackInfo
from relaymesh.webrtc import rtp
from relaymesh.webrtc.answer import AnswerSection, build_answer
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.codecs import Codec, choose_codec, match_codec
from relaymesh.webrtc.errors import SdpError
from relaymesh.webrtc.sdp import MediaSection, SessionDescription, parse_offer
from relaymesh.webrtc.transport import IceCredentials, Transport, make_credentials

PUBLISHER_FEEDBACK = ("transport-cc", "nack", "nack pli", "ccm fir")
PLAYER_FEEDBACK = ("transport-cc", "nack", "nack pli", "ccm fir")
PUBLISHER_EXTENSIONS = (rtp.MID, rtp.TRANSPORT_CC, rtp.AUDIO_LEVEL, rtp.VIDEO_ORIENTATION)
PLAYER_EXTENSIONS = (rtp.TRANSPORT_CC, rtp.AUDIO_LEVEL, rtp.VIDEO_ORIENTATION)
# RTP header extensions whose values cross the mesh, and as which kind.
CARRIED = {rtp.AUDIO_LEVEL: EXTENSION_AUDIO_LEVEL, rtp.VIDEO_ORIENTATION: EXTENSION_VIDEO_ORIENTATION}
MAX_TRACKS = 8  # of one publisher


class SignallingError(Exception):
    """A request that cannot be met; ``status`` is the HTTP status, the text says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MediaEndpoint:
    """What every answer of this node says of it."""

    host: str  # the address clients send to
    port: int
    certificate: Certificate
    ufrag_prefix: str  # names the node, so that a load balancer can steer by it


class TransportFactory(Protocol):
    """Makes the transport of a session; :class:`Transport` itself, but where clients are simulated."""

    def __call__(
        self,
        *,
        certificate: Certificate,
        credentials: IceCredentials,
        fingerprints: Sequence[tuple[str, str]],
        now: float,
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

    # --- publishers ----------------------------------------------------------------------------

    def read_offer(self, text: str) -> SessionDescription:
        """Raises :class:`SignallingError` 400 for what is no offer."""
        try:
            return parse_offer(text)
        except SdpError as error:
            raise SignallingError(400, f"this SDP offer cannot be read: {error}") from None

    def choose_tracks(
        self,
        offer: SessionDescription,
        prefer: tuple[str, ...],
        taken: set[int],
        hitless: Hitless = "none",
    ) -> dict[str, tuple[TrackInfo, Codec]]:
        """For each section we will receive: by mid, the track's description and the publisher's codec.

        Raises:
            SignallingError: 422 when nothing the offer sends is usable.
        """
        chosen: dict[str, tuple[TrackInfo, Codec]] = {}
        for section in offer.media:
            if not _sends(section) or len(chosen) == MAX_TRACKS:
                continue
            codec = choose_codec(section.kind, section.codecs, prefer)
            if codec is None:
                continue
            number = self._track_number(taken | {info.track for info, _ in chosen.values()})
            twice = hitless == "all" or hitless == section.kind
            chosen[section.mid] = (_track_info(number, section.kind, codec, twice), codec)
        if not chosen:
            offered = sorted({c.name for s in offer.media if _sends(s) for c in s.codecs})
            raise SignallingError(
                422,
                "no usable codec: a publisher sends opus audio and VP8 or H264 (packetization-mode=1) video; "
                f"this offer sends {', '.join(offered) or 'nothing'}",
            )
        return chosen

    def publisher(
        self,
        offer: SessionDescription,
        stream: Stream,
        chosen: dict[str, tuple[TrackInfo, Codec]],
        *,
        originate: Callable[[Stream, MediaFrame, float], None],
        clock_changed: Callable[[IngressTrack, float], None],
        now: float,
    ) -> tuple[PublisherSession, str]:
        """The session that receives *chosen* into *stream*, and the answer."""
        session = PublisherSession(
            self._session_id(),
            stream,
            self._transport(offer, now),
            ssrc=self._rng.getrandbits(32),
            now=now,
            originate=originate,
            clock_changed=clock_changed,
        )
        sections = []
        for section in offer.media:
            if section.mid not in chosen:
                sections.append(AnswerSection(offered=section, direction="inactive", codec=None))
                continue
            info, codec = chosen[section.mid]
            kinds = {
                section.extensions[uri]: kind for uri, kind in CARRIED.items() if uri in section.extensions
            }
            session.add_track(
                IngressTrack(stream.tracks[info.track], codec, kinds), section.mid, section.ssrcs
            )
            sections.append(
                AnswerSection(
                    offered=section,
                    direction="recvonly",
                    codec=codec,
                    extensions=PUBLISHER_EXTENSIONS,
                    feedback=PUBLISHER_FEEDBACK,
                )
            )
        ids = _bundle_extensions(offer)
        session.use_extensions(mid_id=ids.get(rtp.MID), transport_id=ids.get(rtp.TRANSPORT_CC))
        return session, self._answer(offer, sections, session.transport.credentials, session.id)

    # --- players -------------------------------------------------------------------------------

    def player(self, offer: SessionDescription, stream: Stream, now: float) -> tuple[PlayerSession, str]:
        """The session that plays *stream*, and the answer.

        Raises:
            SignallingError: 422 when the player can decode none of its tracks.
        """
        session = PlayerSession(
            self._session_id(), stream, self._transport(offer, now), ssrc=self._rng.getrandbits(32), now=now
        )
        left = list(stream.tracks.values())
        sections = []
        for section in offer.media:
            track, codec = _match(section, left)
            if track is None or codec is None:
                sections.append(AnswerSection(offered=section, direction="inactive", codec=None))
                continue
            left.remove(track)
            sections.append(self._play(session, section, track, codec))
        if not session.tracks:
            needed = ", ".join(sorted({t.info.codec for t in stream.tracks.values()})) or "nothing yet"
            raise SignallingError(
                422, f"no usable codec: the stream carries {needed}, and this offer can receive none of it"
            )
        return session, self._answer(offer, sections, session.transport.credentials, session.id)

    def _play(
        self, session: PlayerSession, section: MediaSection, track: Track, codec: Codec
    ) -> AnswerSection:
        ids = section.extensions
        numbers = EgressNumbers(
            ssrc=self._rng.getrandbits(32),
            rtx_ssrc=self._rng.getrandbits(32) if codec.rtx is not None else None,
            first_sequence=self._rng.getrandbits(15),
            first_rtx_sequence=self._rng.getrandbits(15),
            transport_id=ids.get(rtp.TRANSPORT_CC) if "transport-cc" in codec.feedback else None,
            extension_ids={kind: ids[uri] for uri, kind in CARRIED.items() if uri in ids},
        )
        cname = f"rm-{track.id.participant:016x}"  # one for all tracks of a publisher: players sync by it
        egress = EgressTrack(
            section.mid,
            codec,
            numbers,
            cname=cname,
            send=session.transport.send_rtp,
            next_transport_sequence=session.next_transport_sequence,
        )
        session.add_track(egress)
        return AnswerSection(
            offered=section,
            direction="sendonly",
            codec=codec,
            extensions=PLAYER_EXTENSIONS,
            feedback=PLAYER_FEEDBACK,
            ssrc=numbers.ssrc,
            rtx_ssrc=numbers.rtx_ssrc,
            cname=cname,
            stream_label=track.stream.name.participant,
            track_label=f"{track.stream.name.participant}-{track.info.kind}-{track.info.track}",
        )

    # --- parts ---------------------------------------------------------------------------------

    def _transport(self, offer: SessionDescription, now: float) -> Transport:
        endpoint = self._endpoint
        credentials = make_credentials(self._secret_bytes(24), endpoint.ufrag_prefix)
        return self._make_transport(
            certificate=endpoint.certificate,
            credentials=credentials,
            fingerprints=offer.fingerprints,
            now=now,
        )

    def _session_id(self) -> str:
        return self._secret_bytes(12).hex()  # whoever knows it may end the session

    def _track_number(self, taken: set[int]) -> int:
        while (number := self._rng.getrandbits(16)) in taken:
            pass
        return number

    def _answer(
        self,
        offer: SessionDescription,
        sections: list[AnswerSection],
        credentials: IceCredentials,
        session_id: str,
    ) -> str:
        endpoint = self._endpoint
        return build_answer(
            offer,
            sections,
            ufrag=credentials.ufrag,
            password=credentials.password,
            fingerprint=endpoint.certificate.fingerprint,
            host=endpoint.host,
            port=endpoint.port,
            session_id=int(session_id[:12], 16),
        )


def _sends(section: MediaSection) -> bool:
    return (
        section.kind in ("audio", "video")
        and not section.rejected
        and section.direction in ("sendonly", "sendrecv")
    )


def _track_info(number: int, kind: str, codec: Codec, hitless: bool) -> TrackInfo:
    return TrackInfo(
        track=number,
        kind="video" if kind == "video" else "audio",
        codec=codec.name,
        clock_rate=codec.clock_rate,
        channels=codec.channels,
        fmtp=codec.fmtp[:512],
        hitless=hitless,
    )


def _match(section: MediaSection, tracks: list[Track]) -> tuple[Track | None, Codec | None]:
    """The first track left that this section can receive, and the section's codec for it."""
    if section.rejected or section.direction not in ("recvonly", "sendrecv"):
        return None, None
    for track in tracks:
        if track.info.kind == section.kind:
            codec = match_codec(section.kind, section.codecs, track.info.codec, track.info.fmtp)
            if codec is not None:
                return track, codec
    return None, None


def _bundle_extensions(offer: SessionDescription) -> dict[str, int]:
    """URI → id over all sections: within one bundle an id means one thing (RFC 8843 §9)."""
    ids: dict[str, int] = {}
    for section in offer.media:
        ids.update(section.extensions)
    return ids
