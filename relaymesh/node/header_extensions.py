"""RTP header extensions as offers number them: which are accepted, and which values cross the mesh.

In: an offer's sections and the codec chosen. Out: URIs for the answer, the offerer's identifiers.
"""

from __future__ import annotations

from collections.abc import Sequence

from relaymesh.protocol.frames import (
    EXTENSION_AUDIO_LEVEL,
    EXTENSION_DEPENDENCY_DESCRIPTOR,
    EXTENSION_VIDEO_ORIENTATION,
)
from relaymesh.webrtc import rtp
from relaymesh.webrtc.codecs import Codec
from relaymesh.webrtc.sdp import MediaSection, SessionDescription

_OF_PUBLISHER = (
    rtp.MID,
    rtp.RID,
    rtp.REPAIRED_RID,
    rtp.TRANSPORT_CC,
    rtp.AUDIO_LEVEL,
    rtp.VIDEO_ORIENTATION,
)
_OF_PLAYER = (rtp.AUDIO_LEVEL, rtp.VIDEO_ORIENTATION)
# Those whose values cross the mesh, and as which kind.
_CARRIED = {
    rtp.AUDIO_LEVEL: EXTENSION_AUDIO_LEVEL,
    rtp.VIDEO_ORIENTATION: EXTENSION_VIDEO_ORIENTATION,
    rtp.DEPENDENCY_DESCRIPTOR: EXTENSION_DEPENDENCY_DESCRIPTOR,
}
# Codecs whose layers only the dependency descriptor tells; others say theirs themselves.
_DESCRIBED = ("av1",)


def of_publisher(codec: Codec) -> tuple[str, ...]:
    """The URIs that a publisher's section is answered with, if offered."""
    return (*_OF_PUBLISHER, *_of_codec(codec))


def of_player(codec: Codec, of_path: Sequence[str]) -> tuple[str, ...]:
    """The URIs that a player's section is answered with, if offered; *of_path*: for its feedback."""
    return (*of_path, *_OF_PLAYER, *_of_codec(codec))


def _of_codec(codec: Codec) -> tuple[str, ...]:
    return (rtp.DEPENDENCY_DESCRIPTOR,) if codec.name.lower() in _DESCRIBED else ()


def carried(section: MediaSection, accepted: Sequence[str]) -> dict[int, int]:
    """Kind in a frame → the offerer's identifier, of those accepted."""
    ids = section.extensions
    return {kind: ids[uri] for uri, kind in _CARRIED.items() if uri in ids and uri in accepted}


def of_bundle(offer: SessionDescription) -> dict[str, int]:
    """URI → id over all sections: within one bundle an id means one thing (RFC 8843 §9)."""
    ids: dict[str, int] = {}
    for section in offer.media:
        ids.update(section.extensions)
    return ids
