"""WHIP and WHEP over ASGI, with a node that only remembers what it was asked."""

import httpx
import pytest
import trio

from relaymesh.node.offers import SignallingError
from relaymesh.node.signalling import MAX_OFFER_BYTES, make_app
from relaymesh.protocol.messages import ParticipantName

SDP = {"content-type": "application/sdp"}


class FakeNode:
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.error: SignallingError | None = None
        self.sessions = {"abc"}

    async def publish(self, name, offer, prefer, hitless=None):
        self.calls.append(("publish", name, offer, prefer, *([hitless] if hitless else [])))
        if self.error:
            raise self.error
        return "abc", "v=0 answer"

    async def play(self, name, offer):
        self.calls.append(("play", name, offer))
        if self.error:
            raise self.error
        return "abc", "v=0 answer"

    def has_session(self, session_id):
        return session_id in self.sessions

    def end(self, session_id):
        self.sessions.discard(session_id)
        return True

    def status(self):
        return {"node": "n"}


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
async def http(node):
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(make_app(node)), base_url="http://n"
    ) as client:
        yield client


async def test_whip_creates_a_session(node, http):
    answer = await http.post("/whip/demo/alice?codec=h264", content="v=0 offer", headers=SDP)
    assert answer.status_code == 201
    assert answer.text == "v=0 answer"
    assert answer.headers["content-type"] == "application/sdp"
    assert answer.headers["location"] == "/session/abc"
    assert answer.headers["etag"].startswith('"')
    assert node.calls == [("publish", ParticipantName("demo", "alice"), "v=0 offer", ("H264", "VP8"))]


async def test_whep_creates_a_session_and_delete_ends_it(node, http):
    answer = await http.post("/whep/demo/alice", content="v=0 offer", headers=SDP)
    assert answer.status_code == 201
    gone = await http.delete(answer.headers["location"])
    assert gone.status_code == 200
    assert (await http.delete("/session/abc")).status_code == 404


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "words"),
    [
        ("/whip/demo/alice", b"v=0", {"content-type": "text/plain"}, 415, "application/sdp"),
        ("/whip/demo/alice", b"v=0", {}, 415, "application/sdp"),
        ("/whip/demo/-x", b"v=0", SDP, 400, "participant"),
        ("/whep/de mo/x", b"v=0", SDP, 400, "room"),
        ("/whip/demo/alice", b"\xff\xfe", SDP, 400, "UTF-8"),
        ("/whip/demo/alice", bytes(MAX_OFFER_BYTES + 1), SDP, 413, "bytes"),
        ("/whip/demo/alice?codec=AV9", b"v=0", SDP, 400, "VP8"),
    ],
)
async def test_bad_requests_get_a_status_and_a_sentence(node, http, path, content, headers, status, words):
    answer = await http.post(path, content=content, headers=headers)
    assert answer.status_code == status
    assert words in answer.text
    assert node.calls == []


async def test_a_refusal_of_the_node_is_told(node, http):
    node.error = SignallingError(404, "nobody publishes as alice in demo")
    answer = await http.post("/whep/demo/alice", content="v=0", headers=SDP)
    assert (answer.status_code, answer.text) == (404, "nobody publishes as alice in demo\n")
    node.error = SignallingError(503, "try again")
    answer = await http.post("/whip/demo/alice", content="v=0", headers=SDP)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def test_trickle_is_accepted_and_an_ice_restart_is_not(node, http):
    trickle = {"content-type": "application/trickle-ice-sdpfrag"}
    assert (await http.patch("/session/abc", content="a=candidate:x", headers=trickle)).status_code == 204
    restart = {**trickle, "if-match": "*"}
    assert (await http.patch("/session/abc", content="a=ice-ufrag:x", headers=restart)).status_code == 422
    assert (await http.patch("/session/abc", content="x", headers=SDP)).status_code == 415
    assert (await http.patch("/session/zzz", content="x", headers=trickle)).status_code == 404


async def test_pages_of_other_origins_may_speak_it(http):
    preflight = await http.options(
        "/whip/demo/alice",
        headers={
            "origin": "http://elsewhere",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    answer = await http.post("/whip/demo/a", content="v=0", headers={**SDP, "origin": "http://elsewhere"})
    assert "Location" in answer.headers["access-control-expose-headers"]


async def test_status_and_pages(http):
    assert (await http.get("/status")).json() == {"node": "n"}
    assert (await http.get("/healthz")).text == "ok\n"
    for page in ("publish.html", "play.html", "whip.js"):
        assert (await http.get(f"/{page}")).status_code == 200
    assert (await http.get("/../status.py")).status_code == 404


async def test_a_body_that_does_not_come_is_waited_for_only_so_long(node, http, autojump_clock):
    async def slowly():
        for _ in range(100):
            yield b"v"
            await trio.sleep(1.0)

    answer = await http.post("/whip/demo/alice", content=slowly(), headers=SDP)
    assert answer.status_code == 408
    assert node.calls == []


async def test_a_publisher_may_ask_for_hitless_tracks(node, http):
    answer = await http.post("/whip/demo/alice?hitless=all", content="v=0 offer", headers=SDP)
    assert answer.status_code == 201
    assert node.calls == [("publish", ParticipantName("demo", "alice"), "v=0 offer", ("VP8", "H264"), "all")]
    assert (await http.post("/whip/demo/alice?hitless=yes", content="v=0", headers=SDP)).status_code == 400
