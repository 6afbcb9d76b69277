"""Record RTP of a real browser: one small file of packets for each codec and scalability mode.

Run as ``python tests/vectors/rtp/make.py [case …]`` where Chromium is installed.
The page offers to send a canvas; we answer as a node would, with this codec and
the dependency descriptor, and write down what arrives after decryption: sequence,
timestamp, marker, the descriptor, and the beginning of the payload (the rest is
the codec's own data and is only counted). Half way we ask for a keyframe, so that a
vector has two. The packets' bytes are the browser's; nothing here reads them.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from relaymesh.webrtc.answer import AnswerSection, build_answer
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.codecs import Codec, parameters
from relaymesh.webrtc.rtcp import build_pli, build_remb
from relaymesh.webrtc.rtp import classify, parse_rtp
from relaymesh.webrtc.sdp import SessionDescription, parse_offer
from relaymesh.webrtc.stun import parse_binding_request
from relaymesh.webrtc.transport import Transport, make_credentials

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-features=WebRtcHideLocalIpsWithMdns"]
DESCRIPTOR = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
KEPT = 48  # bytes of a payload: more than any descriptor, and enough of a parameter set
PACKETS = 200
ASK_AFTER = 90  # packets
GIVE_UP = 25.0  # s
# name → (codec, fmtp contains, scalability mode, whether the descriptor extension is accepted)
CASES: dict[str, tuple[str, str, str, bool]] = {
    "vp8-l1t1": ("VP8", "", "L1T1", False),
    "vp8-l1t3": ("VP8", "", "L1T3", False),
    "vp9-l1t1": ("VP9", "profile-id=0", "L1T1", False),
    "vp9-l1t3": ("VP9", "profile-id=0", "L1T3", False),
    "vp9-l3t3": ("VP9", "profile-id=0", "L3T3", False),
    "vp9-l3t3-key": ("VP9", "profile-id=0", "L3T3_KEY", False),
    "vp9-s3t3": ("VP9", "profile-id=0", "S3T3", False),
    "av1-l1t1-plain": ("AV1", "", "L1T1", False),
    "av1-l1t1": ("AV1", "", "L1T1", True),
    "av1-l1t2": ("AV1", "", "L1T2", True),
    "av1-l1t3": ("AV1", "", "L1T3", True),
    "av1-l3t3": ("AV1", "", "L3T3", True),
    "av1-l3t3-key": ("AV1", "", "L3T3_KEY", True),
    "av1-s2t3": ("AV1", "", "S2T3", True),
    "h264-l1t1": ("H264", "packetization-mode=1", "L1T1", False),
    "h264-mode-0": ("H264", "packetization-mode=0", "L1T1", False),
    "h264-l1t3": ("H264", "packetization-mode=1", "L1T3", True),
}
PAGE = """
async ([codec, mode, width, height]) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const paint = canvas.getContext("2d");
  let n = 0;
  setInterval(() => {
    paint.fillStyle = `hsl(${n * 3},80%,50%)`; paint.fillRect(0, 0, width, height);
    paint.fillStyle = "#000"; paint.fillRect((n * 7) % width, (n * 3) % height, 80, 80); n++;
  }, 50);
  const track = canvas.captureStream(20).getVideoTracks()[0];
  window.pc = new RTCPeerConnection();
  const all = RTCRtpSender.getCapabilities("video").codecs;
  const wanted = all.filter(c => c.mimeType.toLowerCase() === "video/" + codec.toLowerCase());
  const encoding = {maxBitrate: width * 1000};
  const sender = pc.addTransceiver(track, {direction: "sendonly", sendEncodings: [encoding]});
  sender.setCodecPreferences(wanted);
  window.setMode = async () => {
    const parameters = sender.sender.getParameters();
    parameters.encodings[0].scalabilityMode = mode;
    await sender.sender.setParameters(parameters);
  };
  // The descriptor is offered only on demand.
  const extensions = sender.getHeaderExtensionsToNegotiate?.() ?? [];
  for (const e of extensions) if (e.uri.includes("dependency-descriptor")) e.direction = "sendrecv";
  if (extensions.length) sender.setHeaderExtensionsToNegotiate(extensions);
  await pc.setLocalDescription();
  return pc.localDescription.sdp;
}
"""


class Recorder(threading.Thread):
    """Receives one session on a socket of its own."""

    def __init__(self, transport: Transport, descriptor_id: int | None, payload_type: int) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.transport, self.descriptor_id, self.payload_type = transport, descriptor_id, payload_type
        self.packets: list[dict[str, Any]] = []
        self.done = threading.Event()

    def run(self) -> None:
        """Receive until enough has come."""
        selector = selectors.DefaultSelector()
        selector.register(self.socket, selectors.EVENT_READ)
        ssrc, asked, told = 0, False, 0.0
        while not self.done.is_set():
            selector.select(0.02)
            now = time.monotonic()
            for data, address in self._received():
                ssrc = self._take(data, address, now) or ssrc
            if ssrc and not asked and len(self.packets) > ASK_AFTER:
                self.transport.send_rtcp(build_pli(1, ssrc))
                asked = True
            if ssrc and now - told > 0.2:  # that there is room for all layers
                self.transport.send_rtcp(build_remb(1, 2_000_000, [ssrc]))
                told = now
            self.transport.handle_timeout(now)
            for data, address in self.transport.poll_datagrams():
                self.socket.sendto(data, address)
            if len(self.packets) >= PACKETS:
                self.done.set()

    def _received(self) -> list[tuple[bytes, tuple[str, int]]]:
        found = []
        try:
            while True:
                found.append(self.socket.recvfrom(2048))
        except BlockingIOError:
            return found

    def _take(self, data: bytes, address: tuple[str, int], now: float) -> int:
        match classify(data):
            case "stun":
                self.transport.handle_stun(parse_binding_request(data), address, now)
            case "dtls":
                self.transport.handle_dtls(data, address, now)
            case "rtp":
                packet = parse_rtp(self.transport.unprotect_rtp(data))
                if packet.payload_type != self.payload_type or not packet.payload:
                    return 0
                descriptor = packet.extensions.get(self.descriptor_id or 0)
                entry: dict[str, Any] = {"seq": packet.sequence, "ts": packet.timestamp}
                entry |= {"marker": packet.marker, "bytes": len(packet.payload)}
                entry["payload"] = packet.payload[:KEPT].hex()
                if descriptor is not None:
                    entry["descriptor"] = descriptor.hex()
                self.packets.append(entry)
                return packet.ssrc
        return 0


def choose(offer: SessionDescription, name: str, having: str) -> Codec:
    """The first offered codec of that name and fmtp."""
    wanted = {tuple(p.split("=")) for p in [having] if p}
    for codec in offer.media[0].codecs:
        if codec.name == name and wanted <= set(parameters(codec.fmtp).items()):
            return codec
    raise SystemExit(f"no {name} {having} is offered")


def record(browser: Any, name: str) -> bool:
    """Write one vector; false when the browser does not send that."""
    codec_name, having, mode, described = CASES[name]
    # Chromium makes a third spatial layer from 720 lines on.
    size = (1280, 720) if mode[1] == "3" else (640, 360)
    page = browser.new_page()
    page.goto("about:blank")
    text = page.evaluate(PAGE, [codec_name, mode, *size])
    offer = parse_offer(text)
    codec = choose(offer, codec_name, having)
    now = time.monotonic()
    certificate = Certificate.generate(time.time())
    credentials = make_credentials(os.urandom(24))
    transport = Transport(
        certificate=certificate, credentials=credentials, fingerprints=offer.fingerprints, now=now
    )
    section = offer.media[0]
    recorder = Recorder(transport, section.extensions.get(DESCRIPTOR), codec.payload_type)
    answer = build_answer(
        offer,
        [
            AnswerSection(
                offered=section,
                direction="recvonly",
                codec=codec,
                extensions=(DESCRIPTOR,) if described else (),
                feedback=("nack pli", "goog-remb"),
            )
        ],
        ufrag=credentials.ufrag,
        password=credentials.password,
        fingerprint=certificate.fingerprint,
        host="127.0.0.1",
        port=recorder.socket.getsockname()[1],
        session_id=1,
    )
    if "a=extmap-allow-mixed" not in answer:
        answer = answer.replace("a=msid-semantic", "a=extmap-allow-mixed\r\na=msid-semantic", 1)
    recorder.start()
    page.evaluate("async (sdp) => { await pc.setRemoteDescription({type: 'answer', sdp}); }", answer)
    try:
        page.evaluate("setMode()")
    except Exception as error:
        print(f"{name}: {mode} is refused: {re.sub(chr(10) + '.*', '', str(error), flags=re.S)}")
        recorder.done.set()
        page.close()
        return False
    recorder.done.wait(GIVE_UP)
    recorder.done.set()
    recorder.join()
    page.close()
    if not recorder.packets:
        print(f"{name}: nothing came")
        return False
    body = ",\n".join(json.dumps(p) for p in recorder.packets)
    head = json.dumps(
        {"codec": codec.name, "fmtp": codec.fmtp, "mode": mode, "browser": f"Chromium {browser.version}"}
    )
    (HERE / f"{name}.json").write_text(f'{{"made": {head},\n"packets": [\n{body}\n]}}\n')
    print(f"{name}: {len(recorder.packets)} packets")
    return True


def main() -> None:
    """Record the cases named, or all."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=ARGUMENTS)
        for name in sys.argv[1:] or CASES:
            record(browser, name)
        browser.close()


if __name__ == "__main__":
    main()
