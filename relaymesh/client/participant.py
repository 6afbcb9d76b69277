"""A headless participant: a publisher and a player, each one ``RTCPeerConnection`` of aiortc.

In: the URL of a WHIP or WHEP endpoint, and a room token where it wants one. Out: media sent, or decoded and
counted. Both are async context managers: entering negotiates, leaving ends the session at the server and
closes the connection. No ICE servers are asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import httpx
import numpy as np
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpCodecCapability,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame

from relaymesh.client.measure import Seen, Watch
from relaymesh.client.picture import Picture, read
from relaymesh.client.whip import Answer, SignallingError, bearer, endpoint, leave, send_offer

CONNECT_WITHIN = 10.0  # seconds


class _Participant:
    """Shared base of publisher and player: the connection, the offer, the end."""

    kind = ""

    def __init__(self, url: str, codec: str | None, token: str | None) -> None:
        self.url = endpoint(url, self.kind)
        self._token = bearer(token)
        self.codec = codec
        self.failed = asyncio.Event()  # the connection was lost, or the server ended it
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._pc.on("connectionstatechange", self._note_state)
        self._http = httpx.AsyncClient()
        self._answer: Answer | None = None
        self._connected = asyncio.Event()

    @property
    def state(self) -> str:
        """``new``, ``connecting``, ``connected``, ``failed`` or ``closed``."""
        return str(self._pc.connectionState)

    async def __aenter__(self) -> Self:
        try:
            await self._negotiate()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session at the server, and the connection. May be called again."""
        if self._answer and self._answer.session_url:
            await leave(self._http, self._answer.session_url, self._answer.token)
        self._answer = None
        await self._pc.close()
        await self._http.aclose()

    def _prepare(self) -> None:
        """Add what is sent or received to the connection."""
        raise NotImplementedError

    async def _negotiate(self) -> None:
        self._prepare()
        await self._pc.setLocalDescription(await self._pc.createOffer())
        offer = self._pc.localDescription.sdp
        self._answer = await send_offer(self._http, self.url, offer, self.codec, self._token)
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(self._answer.sdp, "answer"))
        except Exception as error:  # aiortc names no base for what it finds wrong in an SDP
            raise SignallingError(f"the answer makes no sense: {error}") from error
        try:
            await asyncio.wait_for(self._connected.wait(), CONNECT_WITHIN)
        except TimeoutError:
            raise SignallingError(
                f"no media connection within {CONNECT_WITHIN:.0f} s: does UDP reach the node's media port?"
            ) from None

    def _note_state(self) -> None:
        if self.state == "connected":
            self._connected.set()
        elif self.state in ("failed", "closed"):
            self.failed.set()


class Publisher(_Participant):
    """Sends *video* and *audio* to a WHIP endpoint.

    Raises, on entering:
        SignallingError: the server refused, or no connection came about.
    """

    kind = "whip"

    def __init__(
        self,
        url: str,
        *,
        video: MediaStreamTrack | None = None,
        audio: MediaStreamTrack | None = None,
        codec: str = "VP8",
        token: str | None = None,
    ) -> None:
        super().__init__(url, codec, token)
        self._tracks = [track for track in (video, audio) if track is not None]

    def _prepare(self) -> None:
        for track in self._tracks:
            transceiver = self._pc.addTransceiver(track, direction="sendonly")
            if track.kind == "video" and self.codec:
                transceiver.setCodecPreferences(_preferring(RTCRtpSender, self.codec))


class Player(_Participant):
    """Decodes what a WHEP endpoint sends, and counts it. ``seen()`` says what arrived.

    A *watch* that is given goes on counting over several players, one after the other.

    Raises, on entering:
        SignallingError: the server refused (404: no such stream), or no connection came about.
    """

    kind = "whep"

    def __init__(
        self,
        url: str,
        *,
        codec: str | None = None,
        on_picture: Callable[[VideoFrame], None] | None = None,
        watch: Watch | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(url, codec, token)
        self.ended = asyncio.Event()  # a track came and ended
        self._on_picture = on_picture
        self._watch = watch or Watch(time.monotonic())
        self._takers: list[asyncio.Task[None]] = []
        self._pc.on("track", self._take)

    def seen(self) -> Seen:
        """Counts of what arrived so far."""
        return self._watch.seen()

    async def close(self) -> None:
        await super().close()
        for taker in self._takers:
            taker.cancel()
        await asyncio.gather(*self._takers, return_exceptions=True)
        self._takers.clear()

    def _prepare(self) -> None:
        self._watch.handle_request(time.monotonic())
        video = self._pc.addTransceiver("video", direction="recvonly")
        if self.codec:
            video.setCodecPreferences(_preferring(RTCRtpReceiver, self.codec))
        self._pc.addTransceiver("audio", direction="recvonly")

    def _take(self, track: MediaStreamTrack) -> None:
        self._takers.append(asyncio.create_task(self._consume(track)))

    async def _consume(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                self.ended.set()
                return
            if track.kind == "audio":
                self._watch.handle_audio()
                continue
            assert isinstance(frame, VideoFrame), "a video track hands out pictures"
            self._watch.handle_picture(read(luma(frame)), time.monotonic(), time.time() * 1000)
            if self._on_picture:
                self._on_picture(frame)


def luma(frame: VideoFrame) -> Picture:
    """The luma plane of a decoded frame, shape (height, width), copied only where it must be."""
    if not frame.format.name.startswith("yuv"):
        frame = frame.reformat(format="yuv420p")
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


def _preferring(side: type[RTCRtpSender] | type[RTCRtpReceiver], codec: str) -> list[RTCRtpCodecCapability]:
    """The video codecs of *side*, those named *codec* first (RTX stays where it is useful: last).

    Raises:
        ValueError: there is none of that name.
    """
    capabilities = side.getCapabilities("video")
    known = capabilities.codecs if capabilities else []
    wanted = [entry for entry in known if entry.name.upper() == codec.upper()]
    if not wanted:
        raise ValueError(f"no video codec {codec}; there are VP8 and H264")
    return wanted + [entry for entry in known if entry not in wanted]
