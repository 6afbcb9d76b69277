"""The control channel between a node and the controller: what is said, and how it is written.

In: one binary WebSocket message. Out: one typed, validated, frozen message, or
:class:`~relaymesh.protocol.errors.ProtocolError`. msgpack carries them, as a
map whose key ``t`` names the type; unknown keys are ignored, so that either end
may be the newer one, and anything else that does not fit is refused whole.

Every number says its unit in its name; times are seconds only where nothing is
said. Node sets are bit strings: see :mod:`relaymesh.protocol.bitstring`.
This module knows no socket, no clock and neither of the two ends.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgpack
import msgspec
from msgspec import Meta, Struct

from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.ids import NAME_PATTERN

CONTROL_VERSION = 2
MAX_MESSAGE_BYTES = 1 << 20
MAX_WORKERS = 64  # of one site
MAX_DETOUR_HOPS = 14  # with the hop that failed and one more, a frame's hop limit

# "$" would let a newline pass at the end; "\Z" does not.
Name = Annotated[str, Meta(pattern=NAME_PATTERN.removesuffix("$") + r"\Z")]
Index = Annotated[int, Meta(ge=0, le=2039)]  # bit position of a node; 255 bytes of bit string at most
Epoch = Annotated[int, Meta(ge=0, le=255)]
Generation = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
LeaderEpoch = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]  # counts the leaders of a mesh; 0: it says none
NodeSet = Annotated[bytes, Meta(max_length=255)]
Key = Annotated[bytes, Meta(min_length=16, max_length=16)]
Milliseconds = Annotated[float, Meta(ge=0.0, le=60_000.0)]
Kbps = Annotated[float, Meta(ge=0.0, le=1e9)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Counter = Annotated[int, Meta(ge=0, le=1 << 62)]
RequestId = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Text = Annotated[str, Meta(max_length=512)]


class Address(Struct, frozen=True, array_like=True):
    """Where a UDP port is reached: a literal IP address or a name, and a port."""

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    port: Port


class SiteInfo(Struct, frozen=True):
    """The site of a node that is one worker of several on a host; its name is `name`.`number`."""

    name: Name
    number: Annotated[int, Meta(ge=1, le=MAX_WORKERS)]
    workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS)]  # of the site, all told
    relay: Address  # where the others of the site reach its relay port


class EncodingInfo(Struct, frozen=True):
    """One encoding of a track as negotiated: a simulcast layer, with the layers inside it."""

    number: Annotated[int, Meta(ge=0, le=255)] = 0  # as in MEDIA frames; unique within the track
    rid: Annotated[str, Meta(max_length=32)] = ""  # RFC 8851; empty without simulcast


class TrackInfo(Struct, frozen=True):
    """The negotiable facts of a published track; rates and live layers travel in LAYERS frames."""

    track: Annotated[int, Meta(ge=0, le=0xFFFF)]
    kind: Literal["audio", "video"]
    codec: Annotated[str, Meta(min_length=1, max_length=32)]  # the SDP encoding name: VP8, H264, opus
    clock_rate: Annotated[int, Meta(ge=1, le=1_000_000)]  # Hz
    channels: Annotated[int, Meta(ge=1, le=255)] = 1
    fmtp: Text = ""
    hitless: bool = False  # travels twice, over paths as far apart as the mesh allows
    source: Literal["", "camera", "microphone", "screen", "screen-audio"] = ""  # empty: not said
    muted: bool = False  # nothing of it is asked for or sent
    encodings: Annotated[tuple[EncodingInfo, ...], Meta(min_length=1, max_length=8)] = (EncodingInfo(),)


class PublicationInfo(Struct, frozen=True):
    """The tracks one participant publishes into one room, by name."""

    room: Name
    participant: Name
    tracks: Annotated[tuple[TrackInfo, ...], Meta(max_length=64)]
    credential: Annotated[bytes, Meta(max_length=32)] = b""  # digest; who has it takes over


class ParticipantName(Struct, frozen=True):
    """A participant of a room; also names its publication, of which it has at most one."""

    room: Name
    participant: Name


class LinkConfig(Struct, frozen=True):
    """One neighbour: where it is, and the keys of this epoch, one for each direction."""

    peer: Index
    name: Name
    address: Address
    epoch: Epoch
    send_key: Key
    receive_key: Key

    def __repr__(self) -> str:  # keys never reach a log
        return (
            f"LinkConfig(peer={self.peer}, name={self.name!r}, address={self.address!r}, epoch={self.epoch})"
        )


class LinkReport(Struct, frozen=True):
    """What a node measured on one of its links, seen from its own side."""

    peer: Index
    up: bool
    rtt_ms: Milliseconds  # median of the recent probes; 0 while nothing was measured
    jitter_ms: Milliseconds  # 90th percentile minus median
    loss_out: Fraction  # of datagrams, lost on the way to the peer
    loss_in: Fraction  # of the peer's probes, lost on the way to us
    sent_packets: Counter
    received_packets: Counter
    available_kbps: Kbps = 0.0  # what the way to the peer carries; 0 = it was never seen full
    used_kbps: Kbps = 0.0  # of it, repair included
    shed_kbps: Kbps = 0.0  # of enhancement layers left out, since there is no room
    queue_ms: Milliseconds = 0.0  # how long a packet waits for others, here and on the way
    burst: Annotated[float, Meta(ge=1.0, le=1e6)] = 1.0  # mean length of a run of lost datagrams, to the peer
    residual_loss: Fraction = 0.0  # of the media to the peer, after repair


class Route(Struct, frozen=True, array_like=True):
    """All destinations whose next hop is one neighbour."""

    next_hop: Index
    destinations: NodeSet


class Detour(Struct, frozen=True, array_like=True):
    """While the neighbour ``around`` is out of reach, frames for ``destinations`` go by ``path``."""

    around: Index
    path: Annotated[tuple[Index, ...], Meta(max_length=MAX_DETOUR_HOPS)]
    destinations: NodeSet


class Way(Struct, frozen=True, array_like=True):
    """Copies for ``destinations`` go by ``path``, nodes after the ingress; from its last by the tables."""

    path: Annotated[tuple[Index, ...], Meta(max_length=MAX_DETOUR_HOPS)]
    destinations: NodeSet


# --- node → controller -------------------------------------------------------------------------


class Join(Struct, frozen=True, tag_field="t", tag="join"):
    """The first message of a node. Soft state is announced again with it."""

    version: int
    name: Name
    region: Name
    token: Annotated[str, Meta(max_length=4096)]
    boot_id: Annotated[str, Meta(min_length=8, max_length=64)]  # new with every start of the process
    relay: Address
    http_url: Annotated[str, Meta(max_length=512)]  # where its signalling is reached
    index: Index | None = None  # the index it had before the control channel broke
    generation: Generation = 0  # the generation it stamps packets with; 0 = none
    published: Annotated[tuple[PublicationInfo, ...], Meta(max_length=10_000)] = ()
    subscribed: Annotated[tuple[ParticipantName, ...], Meta(max_length=10_000)] = ()
    leader_epoch: LeaderEpoch = 0  # the highest it heard of
    max_sessions: Counter = 0  # WebRTC sessions it holds at most; 0 = not said
    site: SiteInfo | None = None  # where it is a worker of one

    def __repr__(self) -> str:  # the token never reaches a log
        return f"Join(name={self.name!r}, region={self.region!r}, boot_id={self.boot_id!r})"


class Report(Struct, frozen=True, tag_field="t", tag="report"):
    """Link measurements; sent on a period, and at once when a link goes up or down."""

    links: Annotated[tuple[LinkReport, ...], Meta(max_length=2040)]
    sessions: Counter = 0  # WebRTC sessions held now
    detoured: NodeSet = b""  # neighbours whose links are up again while frames still go around them


class Publish(Struct, frozen=True, tag_field="t", tag="publish"):
    """A publication enters the mesh here, or its tracks changed. Answered by :class:`PublishReply`."""

    request: RequestId
    publication: PublicationInfo


class Unpublish(Struct, frozen=True, tag_field="t", tag="unpublish"):
    """The participant's publication ended here. Not answered."""

    participant: ParticipantName


class Subscribe(Struct, frozen=True, tag_field="t", tag="subscribe"):
    """Somebody here wants the participant's publication. Answered by :class:`SubscribeReply`."""

    request: RequestId
    participant: ParticipantName


class Unsubscribe(Struct, frozen=True, tag_field="t", tag="unsubscribe"):
    """Nobody here wants the participant's publication any more. Not answered."""

    participant: ParticipantName


class TablesHeld(Struct, frozen=True, tag_field="t", tag="tables-held"):
    """This node can now forward packets stamped with *generation*."""

    generation: Generation


class SnapshotWanted(Struct, frozen=True, tag_field="t", tag="snapshot-wanted"):
    """A delta did not fit on what this node holds."""


# --- controller → node -------------------------------------------------------------------------


class Welcome(Struct, frozen=True, tag_field="t", tag="welcome"):
    """The node is in. Links and tables follow as messages of their own."""

    index: Index
    probe_interval_ms: Annotated[float, Meta(ge=5.0, le=10_000.0)]
    dead_after_ms: Annotated[float, Meta(ge=10.0, le=60_000.0)]
    report_interval_ms: Annotated[float, Meta(ge=10.0, le=60_000.0)]
    leader_epoch: LeaderEpoch = 0


class Refused(Struct, frozen=True, tag_field="t", tag="refused"):
    """The node is not let in; the channel closes after this."""

    code: Literal["token", "name-taken", "region", "version", "full", "malformed", "standby"]
    reason: Text
    leader: Text = ""  # of a standby: the URL of who leads, where it knows


class Links(Struct, frozen=True, tag_field="t", tag="links"):
    """Neighbours to add or to re-key (``set``) and to forget (``remove``)."""

    set: Annotated[tuple[LinkConfig, ...], Meta(max_length=2040)] = ()
    remove: Annotated[tuple[Index, ...], Meta(max_length=2040)] = ()
    leader_epoch: LeaderEpoch = 0


class Snapshot(Struct, frozen=True, tag_field="t", tag="snapshot"):
    """The whole forwarding table of one generation, and its detours."""

    generation: Generation
    routes: Annotated[tuple[Route, ...], Meta(max_length=2040)]
    detours: Annotated[tuple[Detour, ...], Meta(max_length=2040)] = ()
    leader_epoch: LeaderEpoch = 0


class Delta(Struct, frozen=True, tag_field="t", tag="delta"):
    """What differs from generation *base*: ``moved`` names the new next hop of
    destinations that got one, ``lost`` the destinations that have none any more;
    ``detours`` are all of this generation, or nil where they are those of *base*.
    With ``redone`` they are those for the destinations in it only; the others keep those of *base*."""

    generation: Generation
    base: Generation
    moved: Annotated[tuple[Route, ...], Meta(max_length=2040)] = ()
    lost: NodeSet = b""
    detours: Annotated[tuple[Detour, ...], Meta(max_length=2040)] | None = None
    leader_epoch: LeaderEpoch = 0
    redone: NodeSet = b""


class Activate(Struct, frozen=True, tag_field="t", tag="activate"):
    """Every node holds *generation*: stamp new packets with it."""

    generation: Generation
    leader_epoch: LeaderEpoch = 0


class HitlessWays(Struct, frozen=True, tag_field="t", tag="hitless-ways"):
    """To an ingress node: how the second copies of hitless tracks travel while it stamps with *generation*;
    and how the first ones do, to the destinations where they must not follow the tables."""

    generation: Generation
    second: Annotated[tuple[Way, ...], Meta(max_length=2040)] = ()
    first: Annotated[tuple[Way, ...], Meta(max_length=2040)] = ()


class Forward(Struct, frozen=True, tag_field="t", tag="forward"):
    """To the ingress node: the edges that hold this publication now, as a whole set.

    Only their demand counts; which encodings each wants it says itself (DEMAND frames).
    """

    participant: ParticipantName
    edges: NodeSet


class PublishReply(Struct, frozen=True, tag_field="t", tag="publish-reply"):
    """``reason`` is empty when the publication is accepted."""

    request: RequestId
    reason: Text = ""


class SubscribeReply(Struct, frozen=True, tag_field="t", tag="subscribe-reply"):
    """``publication`` is ``None`` when nobody publishes it; ``ingress`` is where it enters."""

    request: RequestId
    publication: PublicationInfo | None = None
    ingress: Index | None = None


class PublicationEnded(Struct, frozen=True, tag_field="t", tag="publication-ended"):
    """To the edges that play it: the publisher is gone, end the players."""

    participant: ParticipantName


class PublicationMoved(Struct, frozen=True, tag_field="t", tag="publication-moved"):
    """To the edges that play it: it (re)entered the mesh, perhaps at another node, or its tracks changed."""

    publication: PublicationInfo
    ingress: Index


class Close(Struct, frozen=True, tag_field="t", tag="close"):
    """To the ingress node: end this publisher (it was superseded or forbidden)."""

    participant: ParticipantName
    reason: Text


NodeMessage = Join | Report | Publish | Unpublish | Subscribe | Unsubscribe | TablesHeld | SnapshotWanted
ControllerMessage = (
    Welcome
    | Refused
    | Links
    | Snapshot
    | Delta
    | Activate
    | HitlessWays
    | Forward
    | PublishReply
    | SubscribeReply
    | PublicationEnded
    | PublicationMoved
    | Close
)


def replace_muted(info: TrackInfo, muted: bool) -> TrackInfo:
    """*info* with another mute state."""
    return msgspec.structs.replace(info, muted=muted)


def encode_message(message: NodeMessage | ControllerMessage) -> bytes:
    """*message* as one msgpack map."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,)))
    return packed


def decode_node_message(data: bytes) -> NodeMessage:
    """What a node said.

    Raises:
        ProtocolError: the bytes are no message a node may send.
    """
    message: NodeMessage = _convert(data, NodeMessage)
    return message


def decode_controller_message(data: bytes) -> ControllerMessage:
    """What the controller said.

    Raises:
        ProtocolError: the bytes are no message a controller may send.
    """
    message: ControllerMessage = _convert(data, ControllerMessage)
    return message


def _convert(data: bytes, kind: Any) -> Any:
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError("oversized", f"{len(data)} bytes")
    try:
        # strict_map_key refuses maps keyed by anything but text and bytes; the
        # lengths are bounded by the message itself.
        plain = msgpack.unpackb(data, strict_map_key=True)
    except Exception as error:  # msgpack's errors have no common base short of Exception
        raise ProtocolError("malformed", f"not msgpack: {type(error).__name__}") from None
    try:
        return msgspec.convert(plain, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, RecursionError) as error:
        raise ProtocolError("invalid", str(error)) from None
