"""Which track each sender of a session plays: anew whenever the tracks of what it plays change.

In: the senders that were negotiated, the tracks there are. Out: the track of each sender; or the reason
why the session cannot go on. A session plays what its answer agreed on and is never negotiated
again (WHEP has no way to): a publisher that returns with another codec leaves nothing for its players
but to ask again, and they only do so when they are told that the session is over.
"""

from __future__ import annotations

from collections.abc import Iterable

from relaymesh.node.egress import Sender
from relaymesh.node.publications import Track
from relaymesh.webrtc.codecs import carries, match_codec


def pair(senders: Iterable[Sender], tracks: Iterable[Track]) -> tuple[dict[Sender, Track], str | None]:
    """Give each of *senders* the track it has, if that is still there, or the first left that it can carry.

    Also tells why a track has to be negotiated anew: a sender of its kind is idle and cannot carry it.
    """
    left = list(tracks)
    pairs: dict[Sender, Track] = {}
    idle: list[Sender] = []
    for sender in senders:
        if sender.track is not None and sender.track in left:
            pairs[sender] = sender.track
            left.remove(sender.track)
        else:
            idle.append(sender)
    waiting: list[Sender] = []
    for sender in idle:
        track = next((track for track in left if _carries(sender, track)), None)
        if track is None:
            waiting.append(sender)
        else:
            pairs[sender] = track
            left.remove(track)
    for sender in waiting:
        for track in left:
            if track.is_video is sender.is_video:
                return pairs, (
                    f"the publisher sends {track.info.kind} as {track.info.codec} now, and this session was "
                    f"answered with {sender.codec.name}; a new one can have it"
                )
    return pairs, None


def _carries(sender: Sender, track: Track) -> bool:
    """Tell if the payload type that was agreed on is decoded as what *track* is."""
    info = track.info
    if not track.is_video:
        return carries(sender.codec.name, info.codec)
    return match_codec(info.kind, (sender.codec,), info.codec, info.fmtp) is not None
