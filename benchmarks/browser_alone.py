"""Chromium's scalable video without us: marked pictures from a page to itself, a keyframe asked for each 4 s.

    python benchmarks/browser_alone.py [--codec VP9] [--mode L2T3_KEY] [--size 480x270] [--seconds 45]

What stands still here is no fault of a mesh between. It prints when pictures stood for more than 0.3 s.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import sync_playwright

from tests.e2e import marked
from tests.e2e.conftest import find_chromium, launch

STOOD_MS = 300.0

LOOP = """
async ([codec, mode, width, height]) => {
  const media = await window.markedCamera({width, height, fps: 15, noise: 0.1, spoil: 0});
  const from = new RTCPeerConnection(), to = new RTCPeerConnection();
  from.onicecandidate = ({candidate}) => candidate && to.addIceCandidate(candidate);
  to.onicecandidate = ({candidate}) => candidate && from.addIceCandidate(candidate);
  const added = from.addTransceiver(media.getVideoTracks()[0], {direction: 'sendonly',
    sendEncodings: [{scalabilityMode: mode, maxBitrate: 2000000}]});
  added.setCodecPreferences(RTCRtpSender.getCapabilities('video').codecs.filter(
    (c) => c.mimeType === `video/${codec}` || c.mimeType === 'video/rtx'));
  const video = document.createElement('video');
  video.muted = true; video.autoplay = true; document.body.append(video);
  const code = `onrtctransform = ({transformer}) => {
    transformer.readable.pipeTo(transformer.writable);
    setInterval(() => transformer.sendKeyFrameRequest().catch(() => null), 4000);
  };`;
  to.ontrack = ({track, receiver}) => {
    video.srcObject = new MediaStream([track]);
    const worker = new Worker(URL.createObjectURL(new Blob([code])));
    receiver.transform = new RTCRtpScriptTransform(worker, {});
  };
  window.watchMarked(video);
  await from.setLocalDescription();
  await to.setRemoteDescription(from.localDescription);
  await to.setLocalDescription();
  await from.setRemoteDescription(to.localDescription);
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--codec", default="VP9")
    parser.add_argument("--mode", default="L2T3_KEY")
    parser.add_argument("--size", default="480x270")
    parser.add_argument("--seconds", type=float, default=45.0)
    options = parser.parse_args()
    path = find_chromium()
    if path is None:
        sys.exit("no Chromium here; scripts/browser.sh installs one")
    width, height = map(int, options.size.split("x"))
    with sync_playwright() as playwright:
        browser = launch(playwright, path)
        page = browser.new_context().new_page()
        # A page of its own, without a server: cameras are for secure origins, as localhost is.
        page.route("**/*", lambda route: route.fulfill(body="<body></body>", content_type="text/html"))
        page.goto("http://localhost/")
        page.evaluate(marked.CAMERA)
        page.evaluate(marked.WATCH)
        page.evaluate(LOOP, [options.codec, options.mode, width, height])
        time.sleep(options.seconds)
        seen = page.evaluate("window.seen")
        print(f"Chromium {browser.version}: {options.codec} {options.mode} {options.size}")
        browser.close()
    times = [at for at, *_ in seen["shown"]]
    stood = [(before - times[0], after - before) for before, after in pairwise(times)]
    print(f"{seen['pictures']} pictures, {len(seen['corrupted'])} corrupted; stood still:")
    for since, gap in stood:
        if gap > STOOD_MS:
            print(f"  at {since / 1e3:5.1f} s for {gap / 1e3:.1f} s")


if __name__ == "__main__":
    main()
