"""The events and measurements of a link, for whoever holds it.

Plain values; the link itself is :mod:`relaymesh.protocol.link`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relaymesh.protocol.ids import TrackId


@dataclass(frozen=True, slots=True)
class LinkUp:
    """An echo came back: the link works in both directions."""

    peer: int  # node index
    rtt_ms: float  # of that echo


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link works no longer: *silent*: nothing is heard; *unheard*: the peer no longer hears us;
    *misconduct*: the peer did what no honest one does, and is not listened to for a while.
    """

    peer: int  # node index
    reason: Literal["silent", "unheard", "misconduct"]


@dataclass(frozen=True, slots=True)
class LinkStepped:
    """A measurement of the link made a step, so that it is worth telling at once."""

    peer: int  # node index


@dataclass(frozen=True, slots=True)
class KeyframeWanted:
    """A keyframe of an encoding would mend what the link had to break, or bring back what it left out."""

    peer: int  # node index
    track_id: TrackId
    encoding: int


LinkEvent = LinkUp | LinkDown | LinkStepped | KeyframeWanted


@dataclass(frozen=True, slots=True)
class LinkSample:
    """The measurements that a link report gives of this side of the link."""

    up: bool
    rtt_ms: float  # median of the recent probes; 0 while nothing was measured
    jitter_ms: float  # 90th percentile minus median
    loss_out: float  # fraction of datagrams lost on the way to the peer
    loss_in: float  # fraction of the peer's probes lost on the way to us
    sent_packets: int  # datagrams sealed
    received_packets: int  # datagrams accepted
    available_kbps: float  # what the way to the peer carries; 0 while it was never seen full
    used_kbps: float  # all that is sent
    shed_kbps: float  # of enhancement layers left out, since there is no room
    queue_ms: float  # how long a packet waits for others, here and on the way
    burst: float  # mean length of a run of datagrams lost on the way to the peer; 1 while none was
    residual_loss: float  # fraction of the media sent that stayed lost after repair
