"""Cases that real clients bring, one test for each, over HTTP with a real node and clients in virtual time.

The numbers are those of the table "Cases" in docs/conformance.md.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from relaymesh.kernels.fan_out import FanOut
from relaymesh.node.app import Entropy, Node, NodePorts
from relaymesh.node.offers import MediaEndpoint
from relaymesh.node.settings import NodeSettings
from relaymesh.node.signalling import make_app
from relaymesh.protocol.messages import Address
from relaymesh.webrtc.dtls import DtlsEndpoint
from tests.node.browser import OWN, Browser, exchange, offer_text
from tests.node.mesh import CERTIFICATE

SDP = {"content-type": "application/sdp"}
TRICKLE = {"content-type": "application/trickle-ice-sdpfrag"}
MOVED = "a=ice-ufrag:fresh\r\na=ice-pwd:anewpasswordofmanychars\r\n"
KEY = b"\x10\x00\x00key"


class Silent:
    """A port nothing comes from; tests take datagrams from the core itself."""

    address = ("192.0.2.1", 7600)

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []

    def send_batch(self, datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
        self.sent += datagrams

    def send_fan_out(self, fan_out: FanOut) -> None:
        self.send_batch(fan_out.pop())


@dataclass
class Edge:
    """One node without a controller, its HTTP application and the time."""

    now: float = 100.0
    http_url: str = "http://n"
    names: int = 0
    room_keys: Path | None = None
    browsers: list[Browser] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = random.Random(5)
        self.media = Silent()
        self.node = Node(
            NodeSettings(
                name="n1",
                region="r",
                controller="ws://127.0.0.1:7400",
                token=SecretStr("t"),
                relay="127.0.0.1:7500",
                media="127.0.0.1:7600",
                room_keys=self.room_keys,
                open_rooms=self.room_keys is None,
            ),
            NodePorts(self.media, Silent()),  # type: ignore[arg-type]  # they are never received from
            MediaEndpoint("192.0.2.1", 7600, CERTIFICATE, "n1"),
            relay_address=Address("192.0.2.1", 7500),
            http_url=self.http_url,
            entropy=Entropy(rng, rng.randbytes),
            clock=lambda: self.now,
        )
        self.core = self.node.core
        transport = httpx.ASGITransport(make_app(self.node))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://n")

    async def post(self, verb: str, text: str, name: str = "alice", query: str = "", **headers: str):
        return await self.http.post(f"/{verb}/demo/{name}{query}", content=text, headers={**SDP, **headers})

    def connect(self, answer: str, address: tuple[str, int], *, passive: bool = False) -> Browser:
        browser = Browser(address)
        if passive:
            browser.dtls = DtlsEndpoint(OWN, "server", [("sha-256", CERTIFICATE.fingerprint)], 0.0)
        browser.accept(answer)
        self.browsers.append(browser)
        browser.connect(self.core, self.now)
        return browser

    def pass_time(self, seconds: float, *checking: Browser) -> None:
        """Let time pass; those *checking* send a check each half second."""
        for step in range(round(seconds / 0.01)):
            self.now += 0.01
            if step % 50 == 0:
                for browser in checking:
                    self.core.handle_media_datagram(browser.check(), browser.address, self.now)
            self.core.handle_timeout(self.now)
            exchange(self.core, self.now, *self.browsers)

    def session_of(self, location: str):
        return self.core.edge.get(location.rsplit("/", 1)[1])

    def reasons(self) -> list[str]:
        return [ended["reason"] for ended in self.node.status()["ended"]]  # type: ignore[attr-defined]


@pytest.fixture
async def edge():
    edge = Edge()
    async with edge.http:
        yield edge


def without(text: str, *codecs: str) -> str:
    """*text*, in which nobody knows these codecs any more."""
    return re.sub(rf"(?i)\b({'|'.join(codecs)})/", r"XX\1/", text)


def section(answer: str, kind: str) -> str:
    return next(part for part in answer.split("m=") if part.startswith(kind))


# --- signalling ----------------------------------------------------------------------------------


async def test_case_01_a_passive_offer_is_answered_actively_and_connects(edge):
    answer = await edge.post("whip", offer_text("ffmpeg-whip"))
    assert answer.status_code == 201
    assert answer.text.count("a=setup:active") == 2
    edge.connect(answer.text, ("198.51.100.1", 5000), passive=True)
    assert edge.session_of(answer.headers["location"]).connected_at is not None


@pytest.mark.parametrize("fmtp", ["", "a=fmtp:96 profile-level-id=42e01f\r\n"])
async def test_case_02_h264_without_fmtp_or_without_mode_is_taken(edge, fmtp):
    text = re.sub(r"a=fmtp:96[^\n]*\n", fmtp, offer_text("obs-whip"))
    answer = await edge.post("whip", text)
    assert answer.status_code == 201
    assert "relaymesh-refused" not in answer.headers
    assert "a=recvonly" in section(answer.text, "video")
    assert not section(answer.text, "video").startswith("video 0 ")


async def test_case_02_where_no_video_can_be_taken_the_offer_is_refused(edge):
    text = offer_text("obs-whip").replace("42e01f", "f4001f")
    answer = await edge.post("whip", text)
    assert answer.status_code == 422
    assert "4:4:4" in answer.text
    assert len(edge.core.edge) == len(edge.core.publications) == 0
    answer = await edge.post("whip", text, query="?allow=partial")
    assert answer.status_code == 201
    assert answer.headers["relaymesh-refused"].startswith('video;mid="1";reason="')


async def test_case_03_high_profile_reaches_a_browser_under_its_own_payload_type(edge):
    assert (await edge.post("whip", offer_text("ffmpeg-whip"))).status_code == 201
    answer = await edge.post("whep", offer_text("chromium-whep"))
    assert answer.status_code == 201
    assert "relaymesh-refused" not in answer.headers
    assert re.search(r"a=rtpmap:\d+ H264/90000", section(answer.text, "video"))


async def test_case_03_a_player_that_cannot_decode_the_video_is_refused(edge):
    await edge.post("whip", offer_text("ffmpeg-whip"))
    text = without(offer_text("chromium-whep"), "H264")
    answer = await edge.post("whep", text)
    assert answer.status_code == 422
    assert "the publisher sends H264" in answer.text
    assert len(edge.core.edge) == 1
    answer = await edge.post("whep", text, query="?allow=partial")
    assert answer.status_code == 201
    assert answer.headers["relaymesh-refused"].startswith("video;")


async def test_case_04_what_is_refused_of_a_useful_offer_is_told_thrice(edge, capsys):
    answer = await edge.post("whip", without(offer_text("chromium-whip"), "opus"))
    assert answer.status_code == 201
    assert answer.headers["relaymesh-refused"].startswith('audio;mid="0";reason="none of opus is offered')
    [session] = edge.node.status()["sessions"]
    assert session["refused"][0].startswith("audio (mid 0): none of opus")
    said = capsys.readouterr()
    assert "part of the offer is refused" in said.out + said.err


async def test_case_04_a_player_is_told_that_there_is_no_video(edge):
    audio_only = re.sub(r"m=video.*", "", offer_text("chromium-whip"), flags=re.S)
    assert (await edge.post("whip", audio_only.replace("BUNDLE 0 1", "BUNDLE 0"))).status_code == 201
    answer = await edge.post("whep", offer_text("chromium-whep"))
    assert answer.status_code == 201
    assert "the publisher sends no video" in answer.headers["relaymesh-refused"]


async def test_more_tracks_than_are_taken_are_406(edge):
    head, *sections = re.split(r"(?m)(?=^m=)", offer_text("obs-whip"))
    parts = [re.sub(r"a=mid:\S+", f"a=mid:{n}", sections[1]) for n in range(9)]
    parts = [re.sub(r"(?m)^a=(ssrc|msid).*\n", "", part) for part in parts]
    bundle = "BUNDLE " + " ".join(str(n) for n in range(9))
    answer = await edge.post("whip", head.replace("BUNDLE 0 1", bundle) + "".join(parts))
    assert (answer.status_code, "8 tracks" in answer.text) == (406, True)


@pytest.mark.parametrize("condition", ["*", None, "tag"])
async def test_case_05_trickle_with_the_offers_own_ufrag_is_204(edge, condition):
    text = offer_text("chromium-whip")
    opened = await edge.post("whip", text)
    own = "".join(line + "\r\n" for line in text.splitlines() if line.startswith("a=ice-"))
    value = opened.headers["etag"] if condition == "tag" else condition
    headers = {**TRICKLE, **({"if-match": value} if value else {})}
    fragment = (
        own + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.9 4 typ host\r\n"
    )
    answer = await edge.http.patch(opened.headers["location"], content=fragment, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")


async def test_case_05_a_new_ufrag_restarts_ice_and_media_goes_on(edge):
    opened = await edge.post("whip", offer_text("chromium-whip"))
    location, tag = opened.headers["location"], opened.headers["etag"]
    browser = edge.connect(opened.text, ("198.51.100.1", 5000))
    unconditional = await edge.http.patch(location, content=MOVED, headers=TRICKLE)
    assert unconditional.status_code == 428
    answer = await edge.http.patch(location, content=MOVED, headers={**TRICKLE, "if-match": "*"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TRICKLE["content-type"]
    assert answer.headers["etag"] not in (tag, "")
    assert "a=candidate:" in answer.text
    assert "a=mid:0" in answer.text
    stale = await edge.http.patch(location, content=MOVED, headers={**TRICKLE, "if-match": tag})
    assert stale.status_code == 412
    again = {**TRICKLE, "if-match": answer.headers["etag"]}
    assert (await edge.http.patch(location, content=MOVED, headers=again)).status_code == 204, "known by now"
    browser.accept(answer.text)
    browser.address = ("198.51.100.77", 5001)
    edge.core.handle_media_datagram(browser.check(), browser.address, edge.now)
    session = edge.session_of(location)
    assert session.transport.address == browser.address
    payload_type = int(re.search(r"m=video \d+ \S+ (\d+)", opened.text)[1])
    browser.send_rtp(edge.core, edge.now, 7, KEY, payload_type=payload_type, ssrc=1)
    assert session.undecodable == 0


async def test_case_05_many_restarts_leave_two_names_of_a_session(edge):
    opened = await edge.post("whip", offer_text("chromium-whip"))
    first = edge.connect(opened.text, ("198.51.100.1", 5000))
    known = []
    for number in range(8):
        text = MOVED.replace("fresh", f"fresh{number}").replace("many", f"many{number}")
        answer = await edge.http.patch(
            opened.headers["location"], content=text, headers={**TRICKLE, "if-match": "*"}
        )
        assert answer.status_code == 200
        known.append(answer.text)
    before = edge.core.edge.refused["unknown_ufrag"]
    for text in (known[0], known[5]):
        stale = Browser()
        stale.accept(text)
        edge.core.handle_media_datagram(stale.check(), ("198.51.100.5", 1), edge.now)
    assert edge.core.edge.refused["unknown_ufrag"] == before + 2
    edge.core.handle_media_datagram(first.check(), first.address, edge.now)
    newest = Browser()
    newest.accept(known[-1])
    edge.core.handle_media_datagram(newest.check(), first.address, edge.now)
    assert edge.session_of(opened.headers["location"]).transport.credentials.ufrag == newest.ufrag


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("a=ice-ufrag:only-one", 400),
        ("a=ice-ufrag:fresh\r\na=ice-pwd:short\r\n", 400),
        ("not a line", 400),
    ],
)
async def test_case_05_a_malformed_fragment_changes_nothing(edge, text, status):
    opened = await edge.post("whip", offer_text("chromium-whip"))
    headers = {**TRICKLE, "if-match": "*"}
    answer = await edge.http.patch(opened.headers["location"], content=text, headers=headers)
    assert answer.status_code == status
    assert answer.text.strip()
    session = edge.session_of(opened.headers["location"])
    assert f'"{session.transport.credentials.ufrag}"' == opened.headers["etag"]


async def test_case_05_a_flood_of_fragments_is_429(edge):
    opened = await edge.post("whip", offer_text("chromium-whip"))
    statuses = [
        (await edge.http.patch(opened.headers["location"], content="a=x\r\n", headers=TRICKLE)).status_code
        for _ in range(30)
    ]
    assert set(statuses) == {204, 429}
    assert statuses[-1] == 429


async def test_case_07_an_ice_lite_offer_is_refused_with_the_reason(edge):
    text = offer_text("chromium-whip").replace("a=extmap-allow-mixed", "a=ice-lite", 1)
    answer = await edge.post("whip", text)
    assert answer.status_code == 400
    assert "ice-lite" in answer.text


async def test_case_08_the_media_types_letter_case_does_not_matter(edge):
    answer = await edge.post("whip", offer_text("obs-whip"), **{"content-type": "Application/SDP"})
    assert answer.status_code == 201
    patched = await edge.http.patch(
        answer.headers["location"],
        content="a=candidate:1 1 udp 1 192.0.2.9 4 typ host\r\n",
        headers={"content-type": "Application/Trickle-ICE-SDPfrag; charset=utf-8"},
    )
    assert patched.status_code == 204


async def test_case_09_the_location_follows_the_url_of_the_node():
    edge = Edge(http_url="https://proxy.example/mesh/n1")
    async with edge.http:
        answer = await edge.post("whip", offer_text("chromium-whip"))
    assert re.fullmatch(r"/mesh/n1/session/[0-9a-f]{24}", answer.headers["location"])


async def test_case_10_the_same_bearer_takes_over_at_once_and_others_do_not(edge, capsys):
    text, token = offer_text("chromium-whip"), "Bearer streamkey-7"
    first = await edge.post("whip", text, authorization=token)
    edge.connect(first.text, ("198.51.100.1", 5000))
    assert (await edge.post("whip", text)).status_code == 409
    assert (await edge.post("whip", text, authorization="Bearer another")).status_code == 409
    second = await edge.post("whip", text, authorization=token)
    assert second.status_code == 201
    assert edge.session_of(first.headers["location"]) is None
    assert edge.reasons() == ["replaced by a newer publisher"]
    said = capsys.readouterr()
    assert "streamkey-7" not in said.out + said.err + str(edge.node.status())


async def test_case_10_without_a_bearer_nobody_takes_over(edge):
    text = offer_text("chromium-whip")
    await edge.post("whip", text)
    assert (await edge.post("whip", text)).status_code == 409


async def test_case_11_obs_sends_stereo_and_is_played_so(edge):
    published = await edge.post("whip", offer_text("obs-whip"))
    assert "stereo=1" in section(published.text, "audio")
    text = re.sub(r"(a=fmtp:111 [^\r\n]*)", r"\1;stereo=1", offer_text("chromium-whep"))
    played = await edge.post("whep", text)
    assert "sprop-stereo=1" in section(played.text, "audio")


# --- ICE and network -----------------------------------------------------------------------------


async def test_case_32_of_two_sessions_on_one_socket_the_second_is_refused_with_a_reason(edge):
    address = ("198.51.100.1", 5000)
    first = await edge.post("whip", offer_text("chromium-whip"))
    one = edge.connect(first.text, address)
    second = await edge.post("whip", offer_text("chromium-whip"), name="bob")
    other = Browser(address)
    other.accept(second.text)
    edge.pass_time(2.0, other, one)
    assert edge.session_of(first.headers["location"]) is not None
    assert edge.session_of(second.headers["location"]) is None
    assert edge.reasons() == ["another session uses the same client socket; each needs its own"]
    refused = edge.node.status()["counters"]["media_refused"]  # type: ignore[index]
    assert refused["address_in_use"] >= 1
    payload_type = int(re.search(r"m=video \d+ \S+ (\d+)", first.text)[1])
    one.send_rtp(edge.core, edge.now, 7, KEY, payload_type=payload_type, ssrc=1)
    assert edge.session_of(first.headers["location"]).undecodable == 0
    assert edge.core.edge.refused["unknown_address"] == 0


async def test_case_32_a_client_that_starts_again_on_its_port_takes_over(edge):
    address = ("198.51.100.1", 5000)
    first = await edge.post("whip", offer_text("chromium-whip"))
    edge.connect(first.text, address)
    edge.browsers.clear()  # it is gone
    second = await edge.post("whip", offer_text("chromium-whip"), name="bob")
    newer = Browser(address)
    newer.accept(second.text)
    edge.pass_time(6.0, newer)
    assert edge.session_of(first.headers["location"]) is None
    assert edge.reasons() == ["its client is silent, and another session comes from the same address"]
    newer.connect(edge.core, edge.now)
    assert edge.session_of(second.headers["location"]).connected_at is not None


async def test_case_32_a_forged_check_ends_nobody(edge):
    address = ("198.51.100.1", 5000)
    first = await edge.post("whip", offer_text("chromium-whip"))
    one = edge.connect(first.text, address)
    second = await edge.post("whip", offer_text("chromium-whip"), name="bob")
    forger = Browser(address)
    forger.accept(second.text)
    forger.password = "x" * 32
    edge.pass_time(3.0, forger, one)
    assert edge.session_of(first.headers["location"]) is not None
    assert edge.session_of(second.headers["location"]) is not None
    assert edge.reasons() == []
