#!/usr/bin/python3
"""Publish test pictures and a tone by WHIP with GStreamer's webrtcbin, run by the distribution's own Python.

    gst_whip.py URL [VP8|H264] [SECONDS]

Prints ``connected`` when media flows; exit code 0 when it did, 1 when it failed, 77 when packages are missing
(python3-gst-1.0, gir1.2-gst-plugins-bad-1.0, gstreamer1.0-plugins-{base,good,bad,ugly}, gstreamer1.0-nice).
It ends its WHIP session with a DELETE.
"""

import sys
import urllib.error
import urllib.parse
import urllib.request

MISSING = 77
ELEMENTS = {"VP8": ("vp8enc", "rtpvp8pay"), "H264": ("x264enc", "rtph264pay")}
FEEDBACK = "rtcp-fb-nack-pli=true,rtcp-fb-nack=true"
VIDEO = {
    "VP8": "vp8enc deadline=1 cpu-used=8 keyframe-max-dist=3000 target-bitrate=800000"
    " error-resilient=partitions ! rtpvp8pay pt=96 picture-id-mode=15-bit mtu=1200"
    f" ! application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000,{FEEDBACK}",
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=800 key-int-max=3000"
    " ! video/x-h264,profile=baseline"
    " ! rtph264pay pt=96 config-interval=-1 aggregate-mode=zero-latency mtu=1200"
    f" ! application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000,{FEEDBACK}",
}
PIPELINE = (
    "webrtcbin name=peer bundle-policy=max-bundle latency=0"
    " videotestsrc is-live=true pattern=ball"
    " ! video/x-raw,width=640,height=360,framerate=25/1,format=I420 ! {video} ! peer."
    " audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=111"
    " ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,"
    "encoding-params=(string)2 ! peer."
)


def load_gstreamer():
    """GStreamer's modules, or the end of this program when they are not installed."""
    try:
        import gi

        for name in ("Gst", "GstWebRTC", "GstSdp"):
            gi.require_version(name, "1.0")
        from gi.repository import GLib, Gst, GstSdp, GstWebRTC
    except (ImportError, ValueError) as error:
        print(f"GStreamer's WebRTC packages are not here: {error}", file=sys.stderr)
        sys.exit(MISSING)
    Gst.init(None)
    return GLib, Gst, GstSdp, GstWebRTC


class Publisher:
    """One pipeline, one offer, one session."""

    def __init__(self, url: str, codec: str, seconds: float) -> None:
        self.glib, self.gst, self.sdp, self.webrtc = load_gstreamer()
        wanted = (*ELEMENTS[codec], "webrtcbin", "nicesink", "opusenc", "rtpopuspay")
        missing = [name for name in wanted if self.gst.ElementFactory.find(name) is None]
        if missing:
            print(f"GStreamer has no {', '.join(missing)}", file=sys.stderr)
            sys.exit(MISSING)
        self.url, self.codec, self.seconds = url, codec, seconds
        self.session_url = None
        self.connected = False
        self.posted = False
        self.failure = None
        self.reply = None  # the promise's answer; freed too early, the offer in it is empty
        self.loop = self.glib.MainLoop()

    def run(self) -> int:
        pipeline = self.gst.parse_launch(PIPELINE.format(video=VIDEO[self.codec]))
        self.peer = pipeline.get_by_name("peer")
        self.peer.connect("on-negotiation-needed", self.make_offer)
        self.peer.connect("notify::ice-gathering-state", self.on_gathering)
        self.peer.connect("notify::connection-state", self.on_connection)
        bus = pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect(
            "message::error", lambda _bus, message: self.fail(" ".join(map(str, message.parse_error())))
        )
        for index in range(2):
            transceiver = self.peer.emit("get-transceiver", index)
            transceiver.set_property("do-nack", True)
            transceiver.set_property("direction", self.webrtc.WebRTCRTPTransceiverDirection.SENDONLY)
        pipeline.set_state(self.gst.State.PLAYING)
        self.glib.timeout_add(int(self.seconds * 1000), self.loop.quit)
        self.loop.run()
        self.leave()
        pipeline.set_state(self.gst.State.NULL)
        if self.failure or not self.connected:
            print(self.failure or "no connection came about", file=sys.stderr)
            return 1
        return 0

    def fail(self, why: str) -> None:
        self.failure = why
        self.loop.quit()

    def make_offer(self, peer) -> None:
        peer.emit("create-offer", None, self.gst.Promise.new_with_change_func(self.on_offer, None))

    def on_offer(self, promise, *_) -> None:
        self.reply = promise.get_reply()
        offer = self.reply.get_value("offer")
        self.peer.emit("set-local-description", offer, self.gst.Promise.new())

    def on_gathering(self, peer, _) -> None:
        if peer.get_property("ice-gathering-state") != self.webrtc.WebRTCICEGatheringState.COMPLETE:
            return
        # The signal comes on a thread of the pipeline; HTTP must not hold that up.
        self.glib.idle_add(self.post_offer)

    def post_offer(self) -> bool:
        if self.posted:
            return False
        self.posted = True
        offer = self.peer.get_property("local-description").sdp.as_text()
        request = urllib.request.Request(
            f"{self.url}?codec={self.codec}",
            data=offer.encode(),
            headers={"Content-Type": "application/sdp"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answer = response.read().decode()
                location = response.headers["Location"]
        except urllib.error.HTTPError as error:
            self.fail(f"{error.code}: {error.read().decode().strip()}")
            return False
        except OSError as error:
            self.fail(f"no answer from {self.url}: {error}")
            return False
        self.session_url = urllib.parse.urljoin(self.url, location) if location else None
        _, message = self.sdp.SDPMessage.new_from_text(answer)
        description = self.webrtc.WebRTCSessionDescription.new(self.webrtc.WebRTCSDPType.ANSWER, message)
        self.peer.emit("set-remote-description", description, self.gst.Promise.new())
        return False

    def on_connection(self, peer, _) -> None:
        state = peer.get_property("connection-state").value_nick
        if state == "connected" and not self.connected:
            self.connected = True
            print("connected", flush=True)
        elif state == "failed":
            self.glib.idle_add(self.fail, "the connection failed")

    def leave(self) -> None:
        if self.session_url is None:
            return
        request = urllib.request.Request(self.session_url, method="DELETE")
        try:
            urllib.request.urlopen(request, timeout=2).close()
        except OSError:  # the node notices by itself
            pass


def main() -> int:
    if len(sys.argv) < 2 or (len(sys.argv) > 2 and sys.argv[2] not in VIDEO):
        print(__doc__, file=sys.stderr)
        return 2
    codec = sys.argv[2] if len(sys.argv) > 2 else "VP8"
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 20.0
    return Publisher(sys.argv[1], codec, seconds).run()


if __name__ == "__main__":
    sys.exit(main())
