"""WHIP and WHEP over ASGI, with a node that only remembers what it was asked."""

import httpx
import pytest
import trio
from pydantic import SecretStr

from relaymesh.node.gate import credential_of
from relaymesh.node.refusals import RefusedSection, SignallingError
from relaymesh.node.settings import NodeSettings
from relaymesh.node.signalling import make_app
from relaymesh.node.whip import CODECS, MAX_OFFER_BYTES, Fragment, Opened
from relaymesh.protocol.messages import ParticipantName

SDP = {"content-type": "application/sdp"}


class FakeNode:
    def __init__(self) -> None:
        self.settings = NodeSettings(
            name="n",
            region="r",
            controller="ws://127.0.0.1:1",
            token=SecretStr("t"),
            relay="127.0.0.1:0",
            media="127.0.0.1:0",
            open_rooms=True,
        )
        self.http_url = "http://n"
        self.calls: list[tuple[object, ...]] = []
        self.error: SignallingError | None = None
        self.sessions = {"abc": "tag1"}
        self.refused: tuple[RefusedSection, ...] = ()
        self.fragment: Fragment | None = None

    async def publish(self, name, offer, prefer, hitless=None, credential=b"", *, partial=False):
        said = {"hitless": hitless, "credential": credential, "partial": partial}
        return self._open("publish", name, offer, prefer, *((key, v) for key, v in said.items() if v))

    async def play(self, name, offer, *, partial=False):
        return self._open("play", name, offer, *([("partial", True)] if partial else []))

    def _open(self, *call):
        self.calls.append(call)
        if self.error:
            raise self.error
        return Opened("abc", "v=0 answer", "tag1", self.refused)

    def ice_tag(self, session_id):
        return self.sessions.get(session_id)

    def take_fragment(self, session_id, text, *, may_restart):
        self.calls.append(("fragment", session_id, text, may_restart))
        if self.error:
            raise self.error
        return self.fragment

    def end(self, session_id):
        return self.sessions.pop(session_id, None) is not None

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
    assert answer.headers["etag"] == '"tag1"'
    assert node.calls == [
        ("publish", ParticipantName("demo", "alice"), "v=0 offer", ("H264", "VP8", "VP9", "AV1", "H265"))
    ]


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


TRICKLE = {"content-type": "application/trickle-ice-sdpfrag"}


@pytest.mark.parametrize("condition", [None, "*", '"tag1"', '"other", "tag1"'])
async def test_trickle_is_accepted_with_and_without_a_condition(node, http, condition):
    headers = {**TRICKLE, **({"if-match": condition} if condition else {})}
    answer = await http.patch("/session/abc", content="a=candidate:x", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert "etag" not in answer.headers
    assert node.calls == [("fragment", "abc", "a=candidate:x", condition is not None)]


@pytest.mark.parametrize("condition", ['"tag0"', 'W/"tag1"', "tag1"])
async def test_another_ice_session_than_the_one_now_is_412(node, http, condition):
    answer = await http.patch("/session/abc", content="x", headers={**TRICKLE, "if-match": condition})
    assert answer.status_code == 412
    assert node.calls == []


async def test_a_restart_is_answered_with_our_fragment_and_its_tag(node, http):
    node.fragment = Fragment("a=ice-lite\r\n", "tag2")
    answer = await http.patch("/session/abc", content="x", headers={**TRICKLE, "if-match": "*"})
    assert (answer.status_code, answer.text) == (200, "a=ice-lite\r\n")
    assert answer.headers["etag"] == '"tag2"'
    assert answer.headers["content-type"] == "application/trickle-ice-sdpfrag"


async def test_a_restart_without_a_condition_is_428(node, http):
    node.error = SignallingError(428, "this would restart ICE")
    answer = await http.patch("/session/abc", content="x", headers=TRICKLE)
    assert answer.status_code == 428
    assert "If-Match" in answer.text


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        ("/session/abc", "x", SDP, 415),
        ("/session/abc", "x", {}, 415),
        ("/session/zzz", "x", TRICKLE, 404),
        ("/session/abc", b"\xff", TRICKLE, 400),
        ("/session/abc", bytes(MAX_OFFER_BYTES + 1), TRICKLE, 413),
    ],
)
async def test_a_bad_patch_gets_a_status(node, http, path, content, headers, status):
    assert (await http.patch(path, content=content, headers=headers)).status_code == status
    assert node.calls == []


async def test_too_many_fragments_are_429_with_a_time_to_wait(node, http):
    node.error = SignallingError(429, "more than 20 offers at once")
    answer = await http.patch("/session/abc", content="x", headers=TRICKLE)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize(
    ("path", "header", "value", "methods"),
    [
        ("/whip/demo/alice", "accept-post", "application/sdp", "POST"),
        ("/whep/demo/alice", "accept-post", "application/sdp", "POST"),
        ("/session/abc", "accept-patch", "application/trickle-ice-sdpfrag", "PATCH"),
    ],
)
async def test_options_say_what_may_be_sent(http, path, header, value, methods):
    plain = await http.options(path)
    assert plain.status_code == 200
    assert plain.headers[header] == value
    assert methods in plain.headers["allow"]
    preflight = await http.options(
        path, headers={"origin": "http://elsewhere", "access-control-request-method": methods}
    )
    assert preflight.status_code == 200
    assert preflight.headers[header] == value


async def test_get_has_no_content_and_what_is_not_spoken_is_405(node, http):
    for path in ("/whip/demo/alice", "/whep/demo/alice", "/session/abc"):
        answer = await http.get(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await http.head(path)).status_code == 204
        refused = await http.put(path, content="x")
        assert refused.status_code == 405
        assert "OPTIONS" in refused.headers["allow"]
    assert (await http.get("/session/zzz")).status_code == 404
    assert node.calls == []


async def test_delete_does_not_look_at_entity_tags(node, http):
    assert (await http.delete("/session/abc", headers={"if-match": '"old"'})).status_code == 200
    assert node.sessions == {}


@pytest.mark.parametrize("url", ["https://proxy.example/mesh/fra-1", "https://proxy.example/mesh/fra-1/"])
async def test_the_path_of_a_proxy_goes_before_the_session(node, http, url):
    node.http_url = url
    answer = await http.post("/whip/demo/alice", content="v=0", headers=SDP)
    assert answer.headers["location"] == "/mesh/fra-1/session/abc"


async def test_refused_sections_are_told(node, http):
    node.refused = (RefusedSection("1", "video", 'none of VP8 is offered, but "X"\\ü'),)
    answer = await http.post(
        "/whip/demo/a?allow=partial", content="v=0", headers={**SDP, "origin": "http://e"}
    )
    assert answer.status_code == 201
    told = answer.headers["relaymesh-refused"]
    assert told == r'''video;mid="1";reason="none of VP8 is offered, but \"X\"\\?"'''
    assert "RelayMesh-Refused" in answer.headers["access-control-expose-headers"]
    assert node.calls[0][-1] == ("partial", True)
    assert (await http.post("/whep/demo/a?allow=all", content="v=0", headers=SDP)).status_code == 400


async def test_the_bearer_token_becomes_a_digest(node, http):
    for value in ("Bearer secret", "bearer  secret "):
        await http.post("/whip/demo/a", content="v=0", headers={**SDP, "authorization": value})
    digests = {dict(call[4:])["credential"] for call in node.calls}
    assert len(digests) == 1
    [digest] = digests
    assert len(digest) == 16
    assert b"secret" not in digest
    assert credential_of("Bearer other") != digest
    for none in ("", "Basic c2VjcmV0", "Bearer", "Bearer  "):
        assert credential_of(none) == b""


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
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"Location", "Link", "ETag", "Accept-Post"} <= set(exposed)


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
    assert node.calls == [
        ("publish", ParticipantName("demo", "alice"), "v=0 offer", CODECS, ("hitless", "all"))
    ]
    assert (await http.post("/whip/demo/alice?hitless=yes", content="v=0", headers=SDP)).status_code == 400
