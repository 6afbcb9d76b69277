"""A flow led by the estimator of another program: aiortc's, which sits at the receiver and answers with REMB.

In: what :class:`~relaymesh.bench.access_path.Flow` takes. Out: the same figures. The sender does as REMB
says, at once, as aiortc's does; the pacer, the frames and the path are those of our own flow, so that
only the estimators differ. aiortc is imported when a flow is made, and only then.

Its estimator is that of libwebrtc before 2017 (a Kalman filter over abs-send-time at the receiver). It
counts the payload of video only; what it says is turned into bit/s on the wire, audio included.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from relaymesh.bench.access_path import AUDIO_BPS, PACKET_BYTES, Flow, FlowSettings, Offer, Packet, Path
from relaymesh.netsim.link_model import LinkModel
from relaymesh.webrtc.bwe import PACKET_OVERHEAD_BYTES
from relaymesh.webrtc.bwe.estimator import MAX_BPS, MIN_BPS, START_BPS, BandwidthEstimator
from relaymesh.webrtc.bwe.pacer import Kind
from relaymesh.webrtc.bwe.probing import ProbeCluster
from relaymesh.webrtc.rtcp import Remb, build_remb, parse_rtcp

# IP and UDP, RTP with one word of extensions and its header, SRTP's tag.
HEADER_BYTES = PACKET_OVERHEAD_BYTES + 12 + 8 + 10
ON_THE_WIRE = PACKET_BYTES / (PACKET_BYTES - HEADER_BYTES)  # × the payload
SRTCP_BYTES = PACKET_OVERHEAD_BYTES + 14  # besides the packet
SEND_TIME_UNITS = 1 << 18  # in a second: abs-send-time is 24 bits of 6.18 fixed point
SSRC = 2


def aiortc_version() -> str | None:
    """The version of aiortc that is installed; None without."""
    return version("aiortc") if find_spec("aiortc") is not None else None


class _Follower(BandwidthEstimator):
    """REMB is the rate: without our probes, which the receiver would count as media, and our doubts of it."""

    _said_bps = START_BPS

    @property
    def estimate_bps(self) -> float:
        return min(MAX_BPS, max(MIN_BPS, self._said_bps))

    def handle_remb(self, bps: float, now: float) -> None:
        self._said_bps = bps

    def poll_probe(self, now: float) -> ProbeCluster | None:
        return None

    def next_timeout(self, *, may_probe: bool = True) -> float | None:
        return None  # every frame is a turn


class RembFlow(Flow):
    """A sender that follows REMB; a receiver with aiortc's estimator, driven as by its ``RTCRtpReceiver``."""

    def __init__(self, path: Path, back: LinkModel, offer: Offer, settings: FlowSettings, seed: int) -> None:
        from aiortc.rate import RemoteBitrateEstimator

        self._remote = RemoteBitrateEstimator()
        self.rembs = 0  # sent by the receiver
        estimator = _Follower(now=settings.start, transport_feedback=False)
        super().__init__(path, back, offer, settings, seed, estimator)

    def _arrive(self, packet: Packet) -> None:
        self._count(packet)
        if packet.kind is Kind.AUDIO:
            return  # aiortc estimates video alone
        said = self._remote.add(
            arrival_time_ms=int(self._peer_time(self.path.now) * 1e3),
            abs_send_time=int(packet.sent_at * SEND_TIME_UNITS) & 0xFFFFFF,
            payload_size=max(0, packet.size_bytes - HEADER_BYTES),
            ssrc=SSRC,
        )
        if said is not None:
            self.rembs += 1
            self._answer(build_remb(1, said[0], said[1]))

    def _answer(self, data: bytes) -> None:
        (remb,) = parse_rtcp(data)
        assert isinstance(remb, Remb)
        for when in self._back.due(self.path.now, len(data) + SRTCP_BYTES):
            self.path.at(when + self.settings.extra_delay, lambda: self._hear_remb(remb))

    def _hear_remb(self, remb: Remb) -> None:
        audio = AUDIO_BPS if self.settings.audio else 0.0
        self.estimator.handle_remb(remb.bitrate * ON_THE_WIRE + audio, self.path.now)
        self._drive()

    def _feed_back(self) -> None:
        """No arrivals are reported."""
