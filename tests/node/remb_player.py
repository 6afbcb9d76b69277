"""A camera in three encodings at one node, and a player behind a line of its own that answers with REMB only.

The player's estimator is aiortc's, of another program, driven as its ``RTCRtpReceiver`` does: by the
abs-send-time extension of video. SRTP, RTCP and the node's core are those that ship; only time is virtual.
"""

from __future__ import annotations

import heapq
import itertools
import random
import re
from collections.abc import Callable

from aiortc.rate import RemoteBitrateEstimator

from relaymesh.netsim.link_model import UDP_OVERHEAD_BYTES, LinkConditions, LinkModel
from relaymesh.node.core import NodeCore
from relaymesh.node.egress_rows import PADDING_BYTES
from relaymesh.node.session import Session
from relaymesh.protocol.messages import Welcome
from relaymesh.webrtc import rtcp, rtp
from relaymesh.webrtc.rtp import RtpPacket, classify
from tests.node.browser import Browser, offer_text
from tests.node.mesh import NAME, make_core

FPS = 25
RATES = (100e3, 400e3, 1200e3)  # bit/s of payload, of the encodings q, h and f
PACKET_BYTES = 1100
KEY_FACTOR = 3  # × the size of another picture
SEND_TIME_ID = 3  # of aiortc's offer
REPORT_EVERY = 1.0  # s
CHECK_EVERY = 5.0  # s


class Camera(Browser):
    """A browser that publishes simulcast and answers requests for keyframes with the next picture."""

    def __init__(self) -> None:
        super().__init__(("198.51.100.1", 5000))
        self.text = offer_text("chromium-whip-simulcast")
        video = self.text.split("m=video")[1]
        ids = {uri: int(number) for number, uri in re.findall(r"a=extmap:(\d+) (\S+)", video)}
        mid = re.search(r"a=mid:(\S+)", video)[1]  # type: ignore[index]
        self.extensions = [
            rtp.build_extensions([(ids[rtp.MID], mid.encode()), (ids[rtp.RID], rid.encode())])
            for rid in re.findall(r"a=rid:(\S+) send", video)
        ]
        self.sequences = [1000, 2000, 3000]
        self.picture = 0

    def film(self, core: NodeCore, now: float) -> list[int]:
        """One picture of each encoding; the SSRCs of which keyframes were asked for before."""
        payload_type = int(re.search(r"m=video \d+ \S+ (\d+)", self.answer)[1])  # type: ignore[index]
        asked = [p.media_ssrc for p in self.rtcp if isinstance(p, rtcp.PictureLossIndication)]
        self.rtcp.clear()
        for number, rate in enumerate(RATES):
            key = 700 + number in asked or self.picture == 0
            left = int(rate / 8 / FPS) * (KEY_FACTOR if key else 1)
            first = True
            while left > 0:
                size = min(left, PACKET_BYTES)
                left -= size
                head = (b"\x10" if first else b"\0") + (b"\0" if key and first else b"\1")
                packet = rtp.build_rtp(
                    payload_type,
                    left == 0,
                    self.sequences[number],
                    self.picture * (90_000 // FPS),
                    700 + number,
                    head + bytes(size - len(head)),
                    self.extensions[number],
                )
                core.handle_media_datagram(self.protect(packet), self.address, now)
                self.sequences[number] += 1
                first = False
        self.picture += 1
        return asked

    def speak(self, core: NodeCore, now: float, number: int, size: int) -> None:
        """Audio packet *number*, with *size* bytes of payload."""
        payload_type = int(re.search(r"m=audio \d+ \S+ (\d+)", self.answer)[1])  # type: ignore[index]
        packet = rtp.build_rtp(payload_type, False, number, number * 960, 800, bytes(size), b"")
        core.handle_media_datagram(self.protect(packet), self.address, now)


class RembPlayer(Browser):
    """As aiortc: an estimator for video, a receiver report each second."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(("198.51.100.2", 6000))
        self.stage = stage
        self.estimator = RemoteBitrateEstimator()
        self.rembs: list[tuple[float, int]] = []
        self.sends_rembs = self.sends_reports = True
        self.received: list[tuple[float, int]] = []  # when, bytes on the wire
        self.video: list[tuple[float, RtpPacket]] = []  # when; padding too
        self._highest: int | None = None
        self._expected = self._got = 0

    def take(self, data: bytes) -> None:
        before = len(self.rtp), len(self.padding)
        super().take(data)
        if classify(data) == "rtp":
            self.received.append((self.stage.now, len(data) + UDP_OVERHEAD_BYTES))
            for packet in self.rtp[before[0] :] + self.padding[before[1] :]:
                self._hear(packet)

    def _hear(self, packet: RtpPacket) -> None:
        if packet.ssrc in (self.stage.video_ssrc, self.stage.sender.numbers.rtx_ssrc):
            self.video.append((self.stage.now, packet))
        if packet.ssrc == self.stage.video_ssrc:
            new = 1 if self._highest is None else (packet.sequence - self._highest) & 0xFFFF
            if new < 0x8000:
                self._highest = packet.sequence
                self._expected += new
            self._got += 1
        send_time = packet.extensions.get(SEND_TIME_ID)
        if send_time is None:
            return
        said = self.estimator.add(
            arrival_time_ms=int(self.stage.now * 1e3),
            abs_send_time=int.from_bytes(send_time, "big"),
            payload_size=PADDING_BYTES if packet.padding_only else len(packet.payload),
            ssrc=packet.ssrc,
        )
        if said is not None and self.sends_rembs:
            self.rembs.append((self.stage.now, said[0]))
            self.stage.answer(rtcp.build_remb(1, *said))

    def report(self) -> None:
        """What was lost since the last report."""
        if self.sends_reports and self._expected:
            lost = max(0, self._expected - self._got)
            fraction = min(255, lost * 256 // self._expected)
            block = rtcp.ReportBlock(self.stage.video_ssrc, fraction, 0, self._highest or 0, 0, 0, 0)
            self.stage.answer(rtcp.build_receiver_report(1, [block]))
        self._expected = self._got = 0


class Stage:
    """The node, the camera, the player and its line."""

    def __init__(
        self, rate_bps: float, *, offer: Callable[[str], str] = str, seed: int = 1, loss: float = 0.0
    ) -> None:
        self.core = make_core(seed)
        self.now = 100.0
        self.core.handle_message(Welcome(1, 100.0, 600.0, 1000.0), self.now)
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self.line = LinkModel(
            LinkConditions(delay_ms=25.0, rate_bps=rate_bps, queue_ms=300.0, loss=loss), random.Random(seed)
        )
        self.back = LinkModel(LinkConditions(delay_ms=25.0), random.Random(seed + 1))
        self.steps: list[tuple[float, int]] = []  # since when, which encoding; −1: none
        self.video_ssrc = 0
        self.pleas: list[int] = []  # SSRCs of which a keyframe was asked for
        self.camera = Camera()
        _, answer = self.core.publish(NAME, self.camera.text, ("VP8",), self.now)
        self.camera.accept(answer)
        self.camera.connect(self.core, self.now)
        self.at(self.now, self._film)
        self.player: RembPlayer | None = None
        self.advance(2.0)
        self.player = RembPlayer(self)
        publication = self.core.directory.find(NAME)
        assert publication is not None
        self.session: Session
        self.session, answer = self.core.play(publication, offer(offer_text("aiortc-whep")), self.now)
        self.player_answer = answer
        [self.sender] = (s for s in self.session.senders.values() if s.is_video)
        self.video_ssrc = self.sender.numbers.ssrc
        self.player.accept(answer)
        self.player.connect(self.core, self.now)
        self.began = self.now
        self.at(self.now + REPORT_EVERY, self._report)
        self.at(self.now + CHECK_EVERY, self._check)

    @property
    def estimate_bps(self) -> float:
        return self.session.send_side.budget_bps

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (when, next(self._order), action))

    def answer(self, packet: bytes) -> None:
        """RTCP of the player, which takes its time."""
        assert self.player is not None
        data, address = self.player.protect(packet, rtcp=True), self.player.address
        for when in self.back.due(self.now, len(data) + UDP_OVERHEAD_BYTES):
            self.at(when, lambda: self.core.handle_media_datagram(data, address, self.now))

    def _film(self) -> None:
        self.pleas += self.camera.film(self.core, self.now)
        self.at(self.now + 1 / FPS, self._film)

    def _report(self) -> None:
        assert self.player is not None
        self.player.report()
        self.at(self.now + REPORT_EVERY, self._report)

    def _check(self) -> None:
        """Consent (RFC 7675)."""
        for browser in (self.camera, self.player):
            assert browser is not None
            self.core.handle_media_datagram(browser.check(), browser.address, self.now)
        self.at(self.now + CHECK_EVERY, self._check)

    def advance(self, seconds: float) -> None:
        """Let the time pass."""
        end = self.now + seconds
        for _ in range(1_000_000):
            self._carry()
            timeout = self.core.next_timeout()
            at = min(self._due[0][0], end if timeout is None else max(timeout, self.now + 1e-4))
            if at > end:
                self.now = end
                return
            self.now = at
            while self._due[0][0] <= self.now:
                heapq.heappop(self._due)[2]()
            if timeout is not None and timeout <= self.now:
                self.core.handle_timeout(self.now)
        raise AssertionError("it never came to rest")

    def _carry(self) -> None:
        player = self.player
        for data, address in self.core.poll_media_datagrams():
            if address == self.camera.address:
                self.camera.take(data)
            elif player is not None and address == player.address:
                for when in self.line.due(self.now, len(data) + UDP_OVERHEAD_BYTES):
                    self.at(when, lambda d=data, p=player: p.take(d))  # type: ignore[misc]
        if player is not None:
            current = self.sender.current
            level = -1 if current is None else current.number
            if not self.steps or self.steps[-1][1] != level:
                self.steps.append((self.now - self.began, level))

    # --- figures

    def level_at(self, seconds: float) -> int:
        """Which encoding was sent then, since the player came."""
        return [level for at, level in self.steps if at <= seconds][-1]

    def share_of(self, level: int, start: float, end: float) -> float:
        """The share of the time between in which that encoding was sent."""
        changes = [(max(at, start), level) for at, level in self.steps if at < end]
        ends = [at for at, _ in changes[1:]] + [end]
        return sum(b - a for (a, kind), b in zip(changes, ends, strict=True) if kind == level and b > a) / (
            end - start
        )

    def received_bps(self, start: float, end: float) -> float:
        """What came through the line between."""
        assert self.player is not None
        times = (at - self.began for at, _ in self.player.received)
        return (
            sum(size for at, (_, size) in zip(times, self.player.received, strict=True) if start <= at < end)
            * 8
            / (end - start)
        )
