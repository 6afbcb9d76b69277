"""Room tokens over HTTP: who gets in, who does not and why, and what is told and counted of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.access.grants import LEEWAY
from relaymesh.access.keys import KeyRing
from relaymesh.access.tokens import MAX_TOKEN_BYTES
from relaymesh.node.gate import Gate
from relaymesh.node.refusals import SignallingError
from relaymesh.node.room_keys import RoomKeys
from relaymesh.node.signalling import make_app
from relaymesh.protocol.messages import ParticipantName
from tests.access.rings import ED, HS, NOW, RING, jwks, key, token
from tests.node.browser import offer_text
from tests.node.test_cases import Edge
from tests.node.test_room_keys import replace
from tests.node.test_signalling import SDP, FakeNode

WHIP, WHEP = "/whip/demo/alice", "/whep/demo/alice"


@dataclass
class Door:
    """A node that only remembers, behind a gate with keys, at a time of ours."""

    file: Path
    now: float = NOW

    def __post_init__(self) -> None:
        self.node = FakeNode()
        self.gate = Gate(RoomKeys(self.file), open_rooms=False, unix_time=lambda: self.now)
        transport = httpx.ASGITransport(make_app(self.node, gate=self.gate))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://n")

    async def post(self, path: str, text: str | None, offer: str = "v=0", **headers: str) -> httpx.Response:
        bearer = {} if text is None else {"authorization": f"Bearer {text}"}
        return await self.http.post(path, content=offer, headers={**SDP, **bearer, **headers})

    async def refused(self, path: str, text: str | None, code: str, offer: str = "v=0") -> httpx.Response:
        """The refusal, of which one is counted and nothing reaches the node."""
        before, calls = self.gate.refused[code], len(self.node.calls)  # type: ignore[index]
        answer = await self.post(path, text, offer)
        assert answer.status_code >= 400 and len(answer.text) > 10
        assert (self.gate.refused[code], len(self.node.calls)) == (before + 1, calls)  # type: ignore[index]
        if text:
            assert text not in answer.text + str(answer.headers)
        return answer


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    file = tmp_path / "room-keys.json"
    file.write_bytes(jwks(HS, ED.public_half()))
    door = Door(file)
    async with door.http:
        yield door


@pytest.mark.parametrize("signed_by", [HS, ED], ids=lambda k: k.algorithm)
async def test_who_has_the_grants_gets_in(door: Door, signed_by: Any) -> None:
    for path in (WHIP, WHEP):
        assert (await door.post(path, token(signed_by))).status_code == 201
    assert [call[0] for call in door.node.calls] == ["publish", "play"]
    assert door.gate.refused == {}


@pytest.mark.parametrize("path", [WHIP, WHEP])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer  ", "Basic YWxpY2U6cHc="])
async def test_no_token_is_401_with_a_challenge(door: Door, path: str, authorization: str | None) -> None:
    headers = SDP if authorization is None else {**SDP, "authorization": authorization}
    answer = await door.http.post(path, content="v=0", headers=headers)
    assert answer.status_code == 401
    # RFC 6750 §3.1: no error where no token was brought.
    assert answer.headers["www-authenticate"] == 'Bearer realm="relaymesh"'
    assert "room token" in answer.text
    assert door.node.calls == [] and door.gate.refused == {"missing": 1}


@pytest.mark.parametrize("path", [WHIP, WHEP])
@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("streamkey-7", "malformed", "cannot be read"),
        ("x" * (MAX_TOKEN_BYTES + 1), "malformed", "at most 4096 bytes"),
        (token(key("stranger")), "unknown_key", "not known here"),
        (token()[:-6] + "AAAAAA", "signature", "signature"),
        (token(expires_at=NOW - LEEWAY), "expired", "has expired"),
        (token(not_before=NOW + LEEWAY + 1), "not_yet", "not valid yet"),
    ],
)
async def test_a_wrong_token_is_401_with_the_reason(
    door: Door, path: str, text: str, code: str, words: str
) -> None:
    answer = await door.refused(path, text, code)
    assert answer.status_code == 401
    assert words in answer.text
    said = answer.headers["www-authenticate"]
    assert said.startswith('Bearer realm="relaymesh", error="invalid_token", error_description="')
    assert words in said


@pytest.mark.parametrize(
    ("path", "other", "code", "words"),
    [
        ("/whip/other/alice", {}, "room", "for the room demo, not for other"),
        ("/whep/other/alice", {}, "room", "for the room demo, not for other"),
        ("/whip/demo/bob", {}, "participant", "for alice, not for bob"),
        (WHIP, {"publish": frozenset()}, "grant", "publishing"),
        (WHIP, {"join": False}, "grant", "joining"),
        (WHEP, {"subscribe": False}, "grant", "subscribing"),
        (WHEP, {"join": False}, "grant", "joining"),
    ],
)
async def test_what_is_not_granted_is_403_with_the_reason(
    door: Door, path: str, other: dict[str, Any], code: str, words: str
) -> None:
    answer = await door.refused(path, token(**other), code)
    assert answer.status_code == 403
    assert words in answer.text
    assert answer.headers["www-authenticate"].startswith(
        'Bearer realm="relaymesh", error="insufficient_scope"'
    )


async def test_whoever_may_subscribe_plays_all_of_the_room(door: Door) -> None:
    """A path of WHEP names who is played, not who plays."""
    assert (await door.post("/whep/demo/bob", token(publish=frozenset()))).status_code == 201


async def test_a_token_for_any_name_publishes_under_each(door: Door) -> None:
    for name in ("alice", "bob"):
        assert (await door.post(f"/whip/demo/{name}", token(name=None))).status_code == 201


@pytest.mark.parametrize("offered", ["chromium-whip", "obs-whip"])
@pytest.mark.parametrize(
    ("sources", "missing"),
    [
        ({"camera", "microphone"}, None),
        ({"screen", "screen-audio"}, None),
        ({"camera", "screen"}, "audio"),
        ({"microphone"}, "video"),
    ],
)
async def test_an_offer_sends_only_kinds_that_are_granted(
    door: Door, offered: str, sources: set[Any], missing: str | None
) -> None:
    text, offer = token(publish=frozenset(sources)), offer_text(offered)
    if missing is None:
        assert (await door.post(WHIP, text, offer)).status_code == 201
        return
    answer = await door.refused(WHIP, text, "grant", offer)
    assert answer.status_code == 403 and answer.text.endswith(f"publishing {missing}\n")
    silent = offer.replace("a=sendonly", "a=inactive").replace("a=sendrecv", "a=inactive")
    assert (await door.post(WHIP, text, silent)).status_code == 201  # what it sends is the node's question


async def test_what_is_no_offer_is_400_whatever_is_granted(door: Door) -> None:
    answer = await door.post(WHIP, token(publish=frozenset({"camera"})), "v=0")
    assert answer.status_code == 400 and door.node.calls == []


async def test_the_body_of_who_may_not_is_not_waited_for(door: Door) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("nobody asked for it")
        yield b""

    answer = await door.http.post(WHIP, content=never(), headers=SDP)
    assert answer.status_code == 401


async def test_sessions_want_their_url_and_no_token(door: Door) -> None:
    assert (await door.http.get("/session/abc")).status_code == 204
    assert (await door.http.delete("/session/abc")).status_code == 200


async def test_what_asks_for_nothing_needs_no_token(door: Door) -> None:
    for path in (WHIP, WHEP):
        assert (await door.http.get(path)).status_code == 204
        assert (await door.http.options(path)).status_code == 200
    for path in ("/healthz", "/publish.html", "/status"):
        assert (await door.http.get(path)).status_code == 200


async def test_pages_of_other_origins_may_send_a_token_and_read_the_refusal(door: Door) -> None:
    preflight = await door.http.options(
        WHIP,
        headers={
            "origin": "http://elsewhere",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    answer = await door.post(WHIP, "nonsense", origin="http://elsewhere")
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]


async def test_keys_rotate_while_the_node_runs(door: Door) -> None:
    new = key("new", "EdDSA")
    await door.refused(WHIP, token(new), "unknown_key")
    replace(door.file, jwks(new.public_half(), HS))
    for one in (new, HS):
        assert (await door.post(WHIP, token(one))).status_code == 201
    replace(door.file, b"half a fi")
    assert (await door.post(WHIP, token(new))).status_code == 201
    replace(door.file, jwks(new.public_half()))
    assert (await door.post(WHIP, token(new))).status_code == 201
    await door.refused(WHIP, token(HS), "unknown_key")


async def test_a_node_that_never_had_keys_lets_nobody_in(tmp_path: Path) -> None:
    door = Door(tmp_path / "later.json")
    async with door.http:
        answer = await door.refused(WHIP, token(), "no_keys")
        assert answer.status_code == 503 and "retry-after" in answer.headers
        door.file.write_bytes(jwks(HS))
        assert (await door.post(WHIP, token())).status_code == 201


async def test_a_token_lasts_as_long_as_it_says(door: Door) -> None:
    text = token(expires_at=NOW + 60)
    door.now += 60 + LEEWAY - 1
    assert (await door.post(WHIP, text)).status_code == 201
    door.now += 1
    await door.refused(WHIP, text, "expired")


# --- without keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7700", 201),
        ("localhost", 201),
        ("[::1]:7700", 201),
        ("proxy.example", 403),
        ("127.0.0.1.example", 403),
        ("192.0.2.1:7700", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
async def test_without_keys_only_loopback_is_served(host: str, status: int) -> None:
    node = FakeNode()
    for gate, expected in ((Gate(None, open_rooms=False), status), (Gate(None, open_rooms=True), 201)):
        transport = httpx.ASGITransport(make_app(node, gate=gate))
        async with httpx.AsyncClient(transport=transport, base_url="http://n") as http:
            for path in (WHIP, WHEP):
                answer = await http.post(path, content="v=0", headers={**SDP, "host": host})
                assert answer.status_code == expected
                if expected == 403:
                    assert "--room-keys" in answer.text and "www-authenticate" not in answer.headers
        assert gate.refused == ({"not_loopback": 2} if expected == 403 else {})


# --- whatever comes --------------------------------------------------------------------------------


class SameKeys(RoomKeys):
    def __init__(self) -> None: ...

    def ring(self) -> KeyRing:
        return RING


def outcome(gate: Gate, authorization: str, host: str) -> int:
    try:
        gate.admit_publisher(authorization, host, ParticipantName("demo", "alice"))
    except SignallingError as error:
        return error.status
    return 201


HEADER = (
    st.text(max_size=100)
    | st.text("Bearer. \t=", max_size=30)
    | st.text(max_size=100).map("Bearer {}".format)
)


@given(HEADER, st.text(max_size=20) | st.text("127.0[]:@/", max_size=12))
def test_whatever_the_headers_nobody_gets_in_but_by_a_token_or_from_here(
    authorization: str, host: str
) -> None:
    assert outcome(Gate(SameKeys(), open_rooms=False), authorization, host) == 401
    assert outcome(Gate(None, open_rooms=True), authorization, host) == 201
    assert outcome(Gate(None, open_rooms=False), authorization, host) in (201, 403)


# --- with a real node ------------------------------------------------------------------------------


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    file = tmp_path / "room-keys.json"
    file.write_bytes(jwks(HS))
    edge = Edge(room_keys=file)
    async with edge.http:
        yield edge


FAR = 4e9  # Unix time long after any clock's: this node asks the system's


async def publish(edge: Edge, name: str = "alice", **other: Any) -> httpx.Response:
    bearer = f"Bearer {token(expires_at=FAR, **other)}"
    return await edge.post("whip", offer_text("chromium-whip"), name, authorization=bearer)


async def test_a_fresh_token_for_the_same_participant_is_the_same_publisher(edge: Edge) -> None:
    first = await publish(edge)
    edge.connect(first.text, ("198.51.100.1", 5000))
    second = await publish(edge, data=False)
    assert second.status_code == 201
    assert edge.session_of(first.headers["location"]) is None
    assert edge.reasons() == ["replaced by a newer publisher"]


async def test_a_token_for_any_name_takes_over_nobodys(edge: Edge) -> None:
    first = await publish(edge, name="alice")
    edge.connect(first.text, ("198.51.100.1", 5000))
    assert (await publish(edge, "alice", room="demo", admin=False)).status_code == 201
    anybody = f"Bearer {token(expires_at=FAR, name=None)}"
    text = offer_text("chromium-whip")
    assert (await edge.post("whip", text, authorization=anybody)).status_code == 409
    assert (await edge.post("whip", text, "bob", authorization=anybody)).status_code == 201
    assert (await edge.post("whip", text, "bob", authorization=anybody)).status_code == 409


async def test_who_is_refused_disturbs_nobody_and_is_counted(
    edge: Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    first = await publish(edge)
    browser = edge.connect(first.text, ("198.51.100.1", 5000))
    forged = token(key("stranger"), expires_at=FAR)
    for _ in range(200):
        refused = await edge.post("whip", offer_text("chromium-whip"), authorization=f"Bearer {forged}")
        assert refused.status_code == 401
        assert (await edge.post("whep", offer_text("chromium-whep"))).status_code == 401
    edge.pass_time(1.0, browser)
    assert edge.session_of(first.headers["location"]).connected_at is not None
    status = (await edge.http.get("/status")).json()
    assert status["counters"]["access_refused"] == {"unknown_key": 200, "missing": 200}
    assert len(status["sessions"]) == 1
    said = capsys.readouterr()
    assert forged not in said.out + said.err + str(status)
