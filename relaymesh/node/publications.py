"""The publications a node holds: the tracks of participants who publish here, or reach us over the relay.

A publication has tracks, a track has encodings (:mod:`relaymesh.node.encodings`). A
:class:`LocalPublication` enters the mesh at this node and knows who demands it;
a :class:`RemotePublication` enters elsewhere and says what it wants. Nothing here
decodes media or knows a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from relaymesh.node.demand import DemandBook, EncodingKey, Wishes
from relaymesh.node.encodings import Encoding
from relaymesh.node.keyframe_wish import Requests
from relaymesh.node.layer_rates import LayerRates
from relaymesh.node.selector import TOP
from relaymesh.protocol.frames import EncodingLayers
from relaymesh.protocol.ids import ParticipantId, TrackId, participant_id
from relaymesh.protocol.messages import ParticipantName, PublicationInfo, TrackInfo

if TYPE_CHECKING:
    from relaymesh.node.session import Session


# Kept since keyframes, of all encodings: a node of a thousand publishers would else keep gigabytes.
KEPT_NODE_BYTES = 256_000_000


class Track:
    """A track of a publication with its encodings."""

    __slots__ = (
        "encodings",
        "id",
        "info",
        "is_remote",
        "is_video",
        "keyframe_requests",
        "layers",
        "layers_serial",
        "muted",
        "publication",
        "rates",
    )

    def __init__(self, publication: Publication, info: TrackInfo) -> None:
        self.publication = publication
        self.info = info
        self.is_video = info.kind == "video"
        self.is_remote = publication.is_remote  # its packets come from another node
        self.id = TrackId(publication.id.room, publication.id.participant, info.track)
        self.muted = info.muted
        self.keyframe_requests = Requests()
        if isinstance(publication, RemotePublication):
            self.keyframe_requests.touch = publication.keyframe_wanted
        self.encodings: dict[int, Encoding] = {e.number: Encoding(self, e.number) for e in info.encodings}
        # What the ingress says of each encoding (measured here, or told by LAYERS); empty before that.
        self.layers: dict[int, EncodingLayers] = {}
        self.layers_serial: int | None = None
        self.rates: dict[int, LayerRates] = {}  # measured; at the ingress only

    @property
    def number(self) -> int:
        return self.info.track

    def live(self, number: int) -> bool:
        """Whether packets of the encoding come at the ingress; as long as that was not told, yes."""
        layers = self.layers.get(number)
        return layers is None or layers.live

    def measure(self, now: float) -> bool:
        """Take over what was measured here; ``True`` when an encoding started or stopped."""
        before = {number: layers.live for number, layers in self.layers.items()}
        self.layers = {number: rates.layers(number, now) for number, rates in self.rates.items()}
        return before != {number: layers.live for number, layers in self.layers.items()}

    def ranked(self) -> list[Encoding]:
        """Its encodings, that of the lowest rate first; those without a known rate by number."""
        return sorted(self.encodings.values(), key=lambda e: (self._rate(e.number), e.number))

    def _rate(self, number: int) -> int:
        layers = self.layers.get(number)
        return layers.rates_bps[-1] if layers is not None and layers.rates_bps else 0


class Publication:
    """What one participant publishes into one room, as far as this node has it."""

    is_remote: ClassVar[bool]

    def __init__(self, name: ParticipantName) -> None:
        self.name = name
        self.id = participant_id(name.room, name.participant)
        self.tracks: dict[int, Track] = {}
        self.ended_at: float | None = None  # s; the publisher left, players wait for it to come back
        self.credential = b""  # digest of its publisher's; empty: it has none
        self.sessions: dict[Session, None] = {}  # those here that play it, in the order in which they came
        self.connecting: set[Session] = set()  # of them, those whose handshake is not done

    def info(self) -> PublicationInfo:
        tracks = tuple(track.info for track in self.tracks.values())
        return PublicationInfo(self.name.room, self.name.participant, tracks, self.credential)

    def connected(self, session: Session) -> None:
        """*session*, which plays it, has shaken hands or is gone: nothing is fetched ahead for it."""
        if session in self.connecting:
            self.connecting.discard(session)
            self.demand_changed()

    def demand_changed(self) -> None:
        """A taker of one of its encodings came, left, or wants other layers."""

    def set_tracks(self, infos: tuple[TrackInfo, ...]) -> bool:
        """Hold exactly these tracks; those that stay keep their packets. ``True`` if any is another."""
        before = self.tracks
        self.tracks = {}
        for info in infos:
            kept = before.get(info.track)
            if kept is not None and _same_media(kept.info, info):
                kept.info, kept.muted = info, info.muted
                self.tracks[info.track] = kept
            else:
                self.tracks[info.track] = Track(self, info)
        return self.tracks != before

    def encodings(self) -> Iterator[Encoding]:
        for track in self.tracks.values():
            yield from track.encodings.values()

    @property
    def last_arrival(self) -> float:
        """When the newest packet came, s; −inf before the first."""
        return max((encoding.last_arrival for encoding in self.encodings()), default=-inf)


class LocalPublication(Publication):
    """It enters the mesh here."""

    is_remote = False

    def __init__(self, name: ParticipantName) -> None:
        super().__init__(name)
        self.demand = DemandBook()
        self.layers_serial = 0
        self.layers_due = -inf  # s; when LAYERS are said again
        self.layers_chosen_by: list[dict[int, EncodingLayers]] = []  # of each track, by the last choice


class RemotePublication(Publication):
    """It enters at the node *ingress*."""

    is_remote = True

    def __init__(self, name: ParticipantName, ingress: int, now: float) -> None:
        super().__init__(name)
        self.ingress = ingress
        # Another one after a restart, so that the ingress does not take its demand for a late one.
        self.wishes = Wishes(int(now * 1000))
        self.touch: Callable[[RemotePublication], None] | None = None  # told when demand may have changed
        self.wish: Callable[[RemotePublication], None] | None = None  # … when a keyframe is wanted
        self.idle_since: float | None = now  # s; nobody here plays it

    def connected(self, session: Session) -> None:
        """See :class:`Publication`."""
        super().connected(session)
        if not self.connecting:
            for encoding in self.encodings():
                if not encoding.takers:
                    encoding.since_keyframe.clear()  # fetched ahead, and nothing of it comes from now on

    def demand_changed(self) -> None:
        """See :class:`Publication`."""
        if self.touch is not None:
            self.touch(self)

    def keyframe_wanted(self) -> None:
        """A keyframe of one of its encodings is wanted."""
        if self.wish is not None:
            self.wish(self)

    def wanted(self) -> dict[EncodingKey, tuple[int, int]]:
        """The encodings with takers here, each with the highest layers any of them wants."""
        if self.ended_at is not None:
            return {}
        wanted = {
            (track.number, encoding.number): layers
            for track in self.tracks.values()
            if not track.muted
            for encoding in track.encodings.values()
            if (layers := encoding.wanted_layers) is not None
        }
        if self.connecting:
            # Who connects begins with the cheapest encoding: it is fetched while hands are shaken.
            for track in self.tracks.values():
                first = next((e for e in track.ranked() if track.live(e.number)), None)
                if first is not None and not track.muted:
                    wanted.setdefault((track.number, first.number), (TOP, TOP))
        return wanted


AnyPublication: TypeAlias = LocalPublication | RemotePublication


class PublicationTable:
    """All publications of a node, by name and by the numbers packets carry."""

    def __init__(self, limit: int = 10_000) -> None:
        self._publications: dict[ParticipantId, AnyPublication] = {}
        self.limit = limit
        self.touched: dict[RemotePublication, None] = {}
        self.wishing: dict[RemotePublication, None] = {}  # a keyframe is wanted of them, or was lately

    def __iter__(self) -> Iterator[AnyPublication]:
        return iter(list(self._publications.values()))

    def __len__(self) -> int:
        return len(self._publications)

    @property
    def full(self) -> bool:
        return len(self._publications) >= self.limit

    def get(self, name: ParticipantName) -> AnyPublication | None:
        return self._publications.get(participant_id(name.room, name.participant))

    def by_id(self, key: ParticipantId) -> AnyPublication | None:
        return self._publications.get(key)

    def track(self, key: TrackId) -> Track | None:
        publication = self._publications.get(key[:2])  # type: ignore[call-overload]  # equals key.owner
        return publication.tracks.get(key.track) if publication is not None else None

    def want_keyframe(self, key: TrackId, encoding_number: int, now: float) -> bool:
        """Ask the publisher for a keyframe; ``False`` where it is not here, or there is none to be had."""
        track = self.track(key)
        encoding = track.encodings.get(encoding_number) if track is not None and not track.is_remote else None
        if encoding is None or not encoding.track.is_video:  # a wish for audio would never be seen fulfilled
            return False
        encoding.keyframe_wish.ask(now)
        return True

    def local(self) -> Iterator[LocalPublication]:
        return (p for p in self if isinstance(p, LocalPublication))

    def remote(self) -> Iterator[RemotePublication]:
        return (p for p in self if isinstance(p, RemotePublication))

    def take_touched(self) -> list[RemotePublication]:
        """Those of others whose demand may have changed since the last call."""
        touched, self.touched = list(self.touched), {}
        return [p for p in touched if self._publications.get(p.id) is p]

    def add(self, publication: AnyPublication) -> None:
        assert publication.id in self._publications or not self.full, "the caller refuses what does not fit"
        self._publications[publication.id] = publication
        if isinstance(publication, RemotePublication):
            publication.touch = self._touch
            publication.wish = self._wish
            self._touch(publication)

    def bound_kept(self, limit_bytes: int = KEPT_NODE_BYTES) -> int:
        """Forget what is kept since keyframes, the most first, until the rest fits; its bytes."""
        kept = [e.since_keyframe for p in self for e in p.encodings() if e.since_keyframe.size_bytes]
        total = sum(one.size_bytes for one in kept)
        if total > limit_bytes:
            for one in sorted(kept, key=lambda one: -one.size_bytes):
                total -= one.size_bytes
                one.clear()
                if total <= limit_bytes:
                    break
        return total

    def _wish(self, publication: RemotePublication) -> None:
        self.wishing[publication] = None

    def keyframe_wishes(self) -> list[Encoding]:
        """The encodings of others of which a keyframe is wanted."""
        if not self.wishing:
            return []
        found: list[Encoding] = []
        for publication in list(self.wishing):
            wanted = [e for e in publication.encodings() if e.keyframe_wish.wanted]
            if wanted and self._publications.get(publication.id) is publication:
                found += wanted
            else:
                del self.wishing[publication]
        return found

    def _touch(self, publication: RemotePublication) -> None:
        self.touched[publication] = None

    def remove(self, publication: AnyPublication) -> None:
        if self._publications.get(publication.id) is publication:
            del self._publications[publication.id]


def _same_media(one: TrackInfo, other: TrackInfo) -> bool:
    """Whether packets of both may follow each other: all but the mute state agrees."""
    return (one.kind, one.codec, one.clock_rate, one.channels, one.encodings) == (
        other.kind,
        other.codec,
        other.clock_rate,
        other.channels,
        other.encodings,
    )
