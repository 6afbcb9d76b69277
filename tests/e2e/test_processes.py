"""Real processes: how they start, stop, refuse, and survive what strangers send them."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trustme

from tests.e2e.processes import square_mesh, wait_for

pytestmark = pytest.mark.processes


def post(url: str, body: bytes, kind: str = "application/sdp") -> tuple[int, str]:
    request = urllib.request.Request(url, body, {"Content-Type": kind}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_second_node_of_the_name_is_refused_and_the_first_stays(mesh):
    before = mesh.state()
    index = next(n["index"] for n in before["nodes"] if n["name"] == "t2")
    second = mesh.start_node(
        "t2", process="second", relay="127.0.0.1:0", media="127.0.0.1:0", http="127.0.0.1:0"
    )
    assert second.popen.wait(20) == 1
    assert "name-taken" in second.tail()
    after = mesh.state()
    assert next(n["index"] for n in after["nodes"] if n["name"] == "t2") == index
    assert mesh.status("t2")["controller"] == "connected"


def test_a_wrong_join_token_is_refused_with_the_reason(mesh):
    stranger = mesh.start_node(
        "t2",
        process="stranger",
        token="nonsense",
        relay="127.0.0.1:0",
        media="127.0.0.1:0",
        http="127.0.0.1:0",
    )
    assert stranger.popen.wait(20) == 1
    assert "token" in stranger.tail()
    assert "nonsense" not in stranger.tail(), "no token in a log"


def test_settings_that_do_not_fit_are_all_told(tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, "-m", "relaymesh", "node", "--name", "-x", "--region", "a", "--token", "t"),
            *("--controller", "ws://198.51.100.1:1", "--http", "nowhere"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 2
    for words in ("--name", "--http", "HOST:PORT"):
        assert words in result.stderr


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "words"),
    [
        ("/whip/e2e/x", b"v=0", "text/plain", 415, "application/sdp"),
        ("/whip/e2e/x", b"not an offer", "application/sdp", 400, "cannot be answered"),
        ("/whep/e2e/nobody", b"v=0", "application/sdp", 404, "nobody publishes"),
    ],
)
def test_bad_requests_get_a_status_and_a_reason(mesh, path, body, kind, status, words):
    assert post(mesh.http("a", path), body, kind)[0] == status
    assert words in post(mesh.http("a", path), body, kind)[1]


def test_an_offer_without_usable_codecs_gets_a_reason(mesh):
    offer = (Path(__file__).parent.parent / "vectors" / "sdp" / "chromium-whip.sdp").read_bytes()
    for codec in (b"VP8", b"VP9", b"AV1", b"H264", b"H265", b"opus"):
        offer = offer.replace(codec + b"/", b"XX" + codec + b"/")
    status, reason = post(mesh.http("a", "/whip/e2e/x"), offer)
    assert status == 422
    assert "no usable codec" in reason
    assert mesh.status("a")["sessions"] == []


def test_strangers_datagrams_are_counted_and_never_answered(mesh):
    rng = random.Random(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.5)
        for port in (mesh.media_ports["t1"], mesh.relay_ports["t1"]):
            for length in (0, 1, 11, 28, 100, 1452, 1453, 1500, 1501, 9000, 60_000):
                for first in (0x00, 0x11, 0x16, 0x71, 0x80, 0xFF):
                    sock.sendto((bytes([first]) + rng.randbytes(length))[:length], ("127.0.0.1", port))
        with pytest.raises(TimeoutError):
            sock.recv(100)

    def refused() -> bool:
        counters = mesh.status("t1")["counters"]
        media, relay = counters["media_refused"], counters["relay_refused"]
        return sum(media.values()) == 66 and sum(relay.values()) == 66

    wait_for(refused, 5, "counting every hostile datagram")
    relay = mesh.status("t1")["counters"]["relay_refused"]
    assert {"truncated", "oversized", "version"} <= set(relay)
    assert {"truncated", "oversized", "malformed", "unknown_address"} <= set(
        mesh.status("t1")["counters"]["media_refused"]
    )
    assert all(link["up"] for link in mesh.status("t1")["links"])


def test_nothing_in_a_node_can_decode_media(mesh):
    maps = Path(f"/proc/{mesh.processes['a'].popen.pid}/maps").read_text()
    assert "_ssl" in maps, "the maps are readable"
    for library in ("libavcodec", "/av/", "libvpx", "libopus", "openh264"):
        assert library not in maps


def test_tls_on_the_control_channel_and_a_clean_stop(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    tls = {"cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem", "ca": tmp_path / "ca.pem"}
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(tls["cert"], append=True)
    certificate.private_key_pem.write_to_path(tls["key"])
    authority.cert_pem.write_to_path(tls["ca"])
    mesh = square_mesh(tmp_path, tls=tls)
    try:
        mesh.start_controller()
        node = mesh.start_node("a")
        wait_for(lambda: mesh.status("a")["controller"] == "connected", what="joining over TLS")
        assert node.stop(signal.SIGTERM) == 0
        assert '"stopped"' in node.tail()
        assert mesh.processes["controller"].stop(signal.SIGTERM) == 0
    finally:
        mesh.stop()


def test_a_port_in_use_is_one_clear_line(mesh):
    clash = mesh.start_node("t2", process="clash", http=f"127.0.0.1:{mesh.http_ports['a']}")
    assert clash.popen.wait(20) == 1
    assert "Traceback" not in clash.tail()
    assert os.strerror(98) in clash.tail() or "in use" in clash.tail()
