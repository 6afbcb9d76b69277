"""Adaptive video in real pages: publish in layers, play by an access line, see what came."""

from __future__ import annotations

from typing import Any

from tests.e2e import marked
from tests.e2e.access import AccessLink
from tests.e2e.processes import Mesh

# Arguments: the WHIP URL, encodings (simulcast), codec, scalability mode or null, the marked camera or null.
PUBLISH = """
async ([url, layers, codec, mode, marked]) => {
  const media = marked ? await window.markedCamera(marked) : await navigator.mediaDevices.getUserMedia(
    {audio: true, video: {width: 1280, height: 720, frameRate: 30}});
  const pc = window.pc = new RTCPeerConnection();
  pc.addTransceiver(media.getAudioTracks()[0], {direction: 'sendonly', streams: [media]});
  const sendEncodings = mode ? [{scalabilityMode: mode, maxBitrate: 2000000}] : layers;
  const sender = pc.addTransceiver(media.getVideoTracks()[0],
    {direction: 'sendonly', streams: [media], sendEncodings});
  if (codec) {
    const wanted = RTCRtpSender.getCapabilities('video').codecs.filter(
      (c) => c.mimeType === `video/${codec}` || c.mimeType === 'video/rtx');
    sender.setCodecPreferences(wanted);
  }
  await pc.setLocalDescription();
  const response = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/sdp'},
    body: pc.localDescription.sdp});
  const answer = await response.text();
  if (response.status !== 201) throw new Error(answer);
  window.answer = answer;
  await pc.setRemoteDescription({type: 'answer', sdp: answer});
  await new Promise((ok, no) => {
    const look = () => {
      if (pc.connectionState === 'connected') ok();
      if (pc.connectionState === 'failed') no(new Error('failed'));
    };
    pc.onconnectionstatechange = look; look(); setTimeout(() => no(new Error('timeout')), 10000);
  });
  if (marked) {  // a busy machine costs pictures, not their size
    const parameters = sender.sender.getParameters();
    parameters.degradationPreference = 'maintain-resolution';
    await sender.sender.setParameters(parameters);
  }
  return answer;
}
"""

PLAY = """
async ([url, port, described]) => {
  const pc = window.pc = new RTCPeerConnection();
  const video = document.createElement('video');
  video.muted = true; video.autoplay = true; document.body.append(video);
  const stream = new MediaStream();
  pc.ontrack = (event) => { stream.addTrack(event.track); video.srcObject = stream; };
  const receiver = pc.addTransceiver('video', {direction: 'recvonly'});
  if (described && receiver.getHeaderExtensionsToNegotiate) {
    const extensions = receiver.getHeaderExtensionsToNegotiate();
    for (const one of extensions) if (one.uri.includes('#dependency-descriptor')) one.direction = 'sendrecv';
    receiver.setHeaderExtensionsToNegotiate(extensions);
  }
  pc.addTransceiver('audio', {direction: 'recvonly'});
  await pc.setLocalDescription();
  window.heights = []; window.began = performance.now();
  const see = () => {
    const height = video.videoHeight, last = window.heights.at(-1);
    if (height && (!last || last[1] !== height)) {
      window.heights.push([performance.now() - window.began, height]);
    }
    video.requestVideoFrameCallback(see);
  };
  video.requestVideoFrameCallback(see);
  if (window.watchMarked) window.watchMarked(video);
  const response = await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/sdp'},
    body: pc.localDescription.sdp});
  let answer = await response.text();
  if (response.status !== 201) throw new Error(answer);
  window.session = response.headers.get('Location');
  if (port) {
    answer = answer.replace(/(a=candidate:\\S+ 1 udp \\d+ \\S+) \\d+ typ host/g, `$1 ${port} typ host`);
  }
  window.answer = answer;
  await pc.setRemoteDescription({type: 'answer', sdp: answer});
}
"""

INBOUND = """
async () => {
  let found = null;
  (await window.pc.getStats()).forEach((entry) => {
    if (entry.type === 'inbound-rtp' && entry.kind === 'video') found = entry;
  });
  return {stats: found, heights: window.heights, now: performance.now() - window.began};
}
"""

# What a player's page saw of marked pictures: how many, which were wrong, when each was shown, its height.
SEEN = "() => ({...window.seen, began: window.began, now: performance.now()})"

# Whether the browser itself says that it encodes a codec in a scalability mode.
ENCODES = """
async ([codec, mode]) => (await navigator.mediaCapabilities.encodingInfo({type: 'webrtc', video: {
  contentType: `video/${codec}`, width: 1280, height: 720, bitrate: 2000000, framerate: 30,
  ...(mode ? {scalabilityMode: mode} : {})}})).supported
"""

# Before a page is loaded that publishes: when its encoder gave each picture, by SSRC (`window.encoded`, ms).
ENCODED = """
(() => {
  if (!window.RTCRtpScriptTransform) return;
  const code = `onrtctransform = ({transformer}) => transformer.readable.pipeThrough(new TransformStream({
    transform(frame, controller) {
      postMessage([frame.getMetadata().synchronizationSource, performance.timeOrigin + performance.now()]);
      controller.enqueue(frame);
    }})).pipeTo(transformer.writable);`;
  window.encoded = {};
  const add = RTCPeerConnection.prototype.addTransceiver;
  RTCPeerConnection.prototype.addTransceiver = function (media, init) {
    const added = add.call(this, media, init);
    if (media.kind === 'video') {
      const worker = new Worker(URL.createObjectURL(new Blob([code])));
      worker.onmessage = ({data: [ssrc, at]}) => (window.encoded[ssrc] ??= []).push(at);
      added.sender.transform = new RTCRtpScriptTransform(worker, {});
    }
    return added;
  };
})();
"""

# Rates that a phone on 2G, one on 3G and a cable line tell apart.
SIMULCAST = [
    {"rid": "q", "scaleResolutionDownBy": 4, "maxBitrate": 60_000},
    {"rid": "h", "scaleResolutionDownBy": 2, "maxBitrate": 400_000},
    {"rid": "f", "maxBitrate": 1_500_000},
]


def encodes(mesh: Mesh, page: Any, codec: str, mode: str | None) -> bool:
    """Whether the page's browser encodes *codec* in *mode*: where it does, a failure to publish is ours."""
    page.goto(mesh.http("a", "/healthz"))
    return bool(page.evaluate(ENCODES, [codec, mode]))


def publish(
    mesh: Mesh,
    page: Any,
    name: str,
    codec: str = "VP8",
    mode: str | None = None,
    camera: dict[str, Any] | None = None,
) -> str:
    """Publish from node a, a marked *camera* or the browser's own; returns the answer."""
    page.goto(mesh.http("a", "/healthz"))
    if camera is not None:
        page.evaluate(marked.CAMERA)
    return page.evaluate(
        PUBLISH, [mesh.http("a", f"/whip/e2e/{name}?codec={codec}"), SIMULCAST, codec, mode, camera]
    )


def live_layers(mesh: Mesh, name: str, node: str = "a") -> list[dict[str, Any]]:
    """The encodings of the video of *name* that the ingress says are live."""
    for publication in mesh.status(node)["publications"]:
        if publication["participant"] == name:
            for track in publication["tracks"]:
                if track["kind"] == "video":
                    return [e for e in track["encodings"] if e["live"] and e["layers"]]
    return []


class Player:
    """A page that plays from node c by an access line, once told to :meth:`play`.

    With *watch* it checks each picture; *described*: it asks for the dependency descriptor, as our pages do.
    """

    def __init__(
        self,
        mesh: Mesh,
        browser: Any,
        name: str,
        down_bps: float | None,
        *,
        watch: bool = False,
        described: bool = True,
    ) -> None:
        target = (mesh.media_host, mesh.media_ports["c"])
        self.line = AccessLink(target, down_bps=down_bps) if down_bps is not None else None
        self.page = browser.new_context().new_page()
        self.page.goto(mesh.http("c", "/healthz"))
        if watch:
            self.page.evaluate(marked.WATCH)
        self._arguments = [mesh.http("c", f"/whep/e2e/{name}"), self.line.port if self.line else 0, described]

    def play(self) -> Player:
        """Begin: a page was open, and its process warm, before somebody plays."""
        self.page.evaluate(PLAY, self._arguments)
        return self

    def look(self) -> dict[str, Any]:
        return self.page.evaluate(INBOUND)

    def seen(self) -> dict[str, Any]:
        """What was seen of marked pictures; times are milliseconds of the page's clock."""
        return self.page.evaluate(SEEN)

    def now(self) -> float:
        """Milliseconds of the page's clock."""
        return self.page.evaluate("performance.now()")

    def height(self) -> int:
        heights = self.look()["heights"]
        return heights[-1][1] if heights else 0

    def close(self) -> None:
        self.page.evaluate("fetch(window.session, {method: 'DELETE'}).then(() => null)")
        self.page.close()
        if self.line is not None:
            self.line.close()
