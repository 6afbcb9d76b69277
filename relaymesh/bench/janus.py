"""Janus beside ``bench edge``: its streaming plugin fans the same feed out to the same number of viewers.

In: a Janus on this machine (``apt-get install janus``), as it is packaged: one thread for each viewer.
Out: a process that ends with the block; viewers, which connect as players do. The feed comes as plain RTP,
so that Janus opens nothing. Janus offers and the viewer answers; it is told to be an ICE-lite agent, as
a node is.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relaymesh.bench.packet_client import SocketClient
from relaymesh.bench.packet_mesh import BenchFailed, Server
from relaymesh.bench.sinks import Sink
from relaymesh.demo.plan import HOST
from relaymesh.demo.ports import free_ports
from relaymesh.netsim.descriptions import Section
from relaymesh.netsim.rtp_client import AnswerError
from relaymesh.netsim.synthetic_rtp import PAYLOAD_TYPES
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.errors import StunError
from relaymesh.webrtc.stun import binding_response, parse_binding_request, verify

PROGRAM = "janus"
STARTING_WITHIN_S = 10.0
ANSWER_WITHIN_S = 10.0
MOUNTPOINT = 1
_CORE = """\
general: {{ debug_level = 3; session_timeout = 0; }}
nat: {{ ice_lite = true; }}
plugins: {{ disable = "{plugins}"; }}
transports: {{ disable = "{transports}"; }}
"""
_HTTP = """\
general: {{
    json = "compact"; base_path = "/janus"; https = false;
    http = true; ip = "{host}"; port = {port};
}}
admin: {{ admin_http = false; }}
"""
_STREAMING = """\
feed: {{
    type = "rtp"; id = {mountpoint}; audio = false; video = true;
    videoiface = "{host}"; videoport = {port}; videopt = {payload_type}; videocodec = "vp8";
}}
"""
_OTHER_PLUGINS = (
    "audiobridge", "duktape", "echotest", "lua", "nosip", "recordplay", "sip", "textroom", "videocall",
    "videoroom", "voicemail",
)  # fmt: skip
_OTHER_TRANSPORTS = ("mqtt", "nanomsg", "pfunix", "rabbitmq", "websockets")


def has_janus() -> bool:
    """Whether there is a Janus to compare with."""
    return shutil.which(PROGRAM) is not None


class Janus:
    """The running server."""

    def __init__(self, server: Server, api: int, feed: int) -> None:
        self.server = server
        self.api = f"http://{HOST}:{api}/janus"
        self.feed = HOST, feed  # takes plain RTP


@contextmanager
def running_janus() -> Iterator[Janus]:
    """Janus with one mountpoint; it ends with the block. Raises :class:`BenchFailed`."""
    ports = free_ports(2)
    api, feed = next(ports), next(ports)
    with tempfile.TemporaryDirectory(prefix="relaymesh-janus-") as name:
        folder = Path(name)
        core = _CORE.format(
            plugins=",".join(f"libjanus_{one}.so" for one in _OTHER_PLUGINS),
            transports=",".join(f"libjanus_{one}.so" for one in _OTHER_TRANSPORTS),
        )
        (folder / "janus.jcfg").write_text(core)
        (folder / "janus.transport.http.jcfg").write_text(_HTTP.format(host=HOST, port=api))
        streaming = _STREAMING.format(
            mountpoint=MOUNTPOINT, host=HOST, port=feed, payload_type=PAYLOAD_TYPES["VP8"]
        )
        (folder / "janus.plugin.streaming.jcfg").write_text(streaming)
        log = folder / "janus.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [PROGRAM, f"--configs-folder={folder}", "--disable-colors"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        janus = Janus(Server(PROGRAM, popen, log), api, feed)
        try:
            _wait_for(janus)
            yield janus
        finally:
            janus.server.stop()


def _wait_for(janus: Janus) -> None:
    deadline = time.monotonic() + STARTING_WITHIN_S
    while True:
        janus.server.check()
        try:
            _ask(f"{janus.api}/info")
            return
        except BenchFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class JanusViewer(Sink):
    """One viewer of the mountpoint."""

    def __init__(self, certificate: Certificate, *, watched: bool) -> None:
        self.client = SocketClient(certificate, own_address())
        self._password = ""
        super().__init__(self.client.socket, watched=watched, timed=False)

    def join(self, api: str) -> None:
        """Watch. Raises :class:`BenchFailed`."""
        session = f"{api}/{_ask(api, janus='create')['data']['id']}"
        handle = f"{session}/{_ask(session, janus='attach', plugin='janus.plugin.streaming')['data']['id']}"
        _ask(handle, janus="message", body={"request": "watch", "id": MOUNTPOINT})
        offer = _event(session)["jsep"]["sdp"]
        own = self.client.rtp.offer("recvonly", [Section("video")], self.client.socket.getsockname()[:2])
        password = re.search(r"(?m)^a=ice-pwd:(\S+)", own)
        assert password is not None, "it is our own offer"
        self._password = password[1]
        _ask(
            handle, janus="message", body={"request": "start"},
            jsep={"type": "answer", "sdp": answer_to(offer, own)},
        )  # fmt: skip
        try:
            self.client.rtp.accept(offer, time.monotonic())
        except AnswerError as error:
            raise BenchFailed(f"janus: {error}") from None

    def open(self, packet: bytes, now: float) -> bytes | None:
        return self.client.opened(packet, now)

    def take(self, data: bytes, now: float) -> None:
        try:
            check = parse_binding_request(data)
        except StunError:
            self.client.rtp.handle_datagram(data, now)
            self.client.rtp.received.clear()
        else:  # libnice checks back even as an agent that is lite
            if verify(check, self._password):
                response = binding_response(check, self._password, self.client.rtp.peer)
                self.socket.sendto(response, self.client.rtp.peer)
        self.client.flush()

    def close(self) -> None:
        """Say goodbye."""
        self.client.close()


def own_address() -> str:
    """An address of this machine that is not loopback, which Janus has no candidates of; nothing leaves it.

    Raises:
        BenchFailed: it has none.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # RFC 5737: nobody's; connecting sends nothing
        except OSError:
            raise BenchFailed("janus needs a network besides loopback") from None
        address: str = sock.getsockname()[0]
        return address


def answer_to(offer: str, own: str) -> str:
    """Turn *own*, an offer of one video section, into the answer to *offer*: its mid, VP8 alone, active."""
    mid = re.search(r"(?m)^a=mid:(\S+)", offer)
    name = mid[1] if mid else "0"
    number = PAYLOAD_TYPES["VP8"]
    kept = []
    for line in own.splitlines():
        other = re.match(r"a=(?:rtpmap|rtcp-fb|fmtp):(\d+)", line)
        if other is not None and int(other[1]) != number:
            continue
        line = re.sub(r"^(m=.*SAVPF) .*", rf"\1 {number}", line)
        line = re.sub(r"^a=mid:.*", f"a=mid:{name}", line)
        line = re.sub(r"^a=group:BUNDLE .*", f"a=group:BUNDLE {name}", line)
        kept.append(line.replace("a=setup:actpass", "a=setup:active"))
    return "\r\n".join(kept) + "\r\n"


def _event(session: str) -> dict[str, Any]:
    """The next event with a description. Raises :class:`BenchFailed`."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while time.monotonic() < deadline:
        event = _ask(f"{session}?maxev=1")
        if "jsep" in event:
            return event
    raise BenchFailed("janus makes no offer")


def _ask(url: str, **request: Any) -> dict[str, Any]:
    """A POST of *request*, or a GET without one. Raises :class:`BenchFailed`."""
    data = json.dumps({"transaction": "bench", **request}).encode() if request else None
    try:
        with urllib.request.urlopen(url, data, timeout=ANSWER_WITHIN_S) as response:
            answer: dict[str, Any] = json.load(response)
    except (OSError, ValueError) as error:
        raise BenchFailed(f"janus does not answer: {error}") from None
    if answer.get("janus") == "error":
        raise BenchFailed(f"janus: {answer['error'].get('reason')}")
    return answer
