from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.access.grants import ALL_SOURCES, LEEWAY, Grants, read_grants
from relaymesh.access.keys import KeyRing, KeysError, make_ring
from relaymesh.access.refusal import CODES, AccessRefused
from relaymesh.access.tokens import MAX_TOKEN_BYTES, ROOM_AUDIENCE, make_room_token, verify_room_token
from tests.access.rings import ED, HS, NOW, RING, everything, key, token

CLAIMS = {"aud": ROOM_AUDIENCE, "sub": "alice", "room": "demo", "exp": int(NOW) + 60}


def signed(claims: dict[str, Any], headers: dict[str, Any] | None = None) -> str:
    return jwt.encode(claims, HS.signer, algorithm="HS256", headers=headers)  # type: ignore[arg-type]


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def verify(text: str, unix_time: float = NOW, ring: KeyRing = RING) -> Grants:
    return verify_room_token(ring, text, unix_time=unix_time)


def refused(text: str, unix_time: float = NOW, ring: KeyRing = RING) -> str:
    with pytest.raises(AccessRefused) as caught:
        verify(text, unix_time, ring)
    assert caught.value.code in CODES
    assert (
        caught.value.reason.isascii() and '"' not in caught.value.reason and "\\" not in caught.value.reason
    )
    return caught.value.code


@pytest.mark.parametrize("signed_by", [HS, ED], ids=lambda k: k.algorithm)
@pytest.mark.parametrize(
    "grants",
    [
        everything(),
        everything(name=None, admin=False),
        everything(publish=frozenset({"screen", "screen-audio"}), not_before=NOW - 5),
        Grants("demo", "alice", NOW + 1),
    ],
    ids=["all", "any name", "a screen", "nothing"],
)
def test_what_a_token_says_is_read(signed_by: Any, grants: Grants) -> None:
    assert verify(make_room_token(signed_by, grants)) == grants


def test_nodes_need_the_public_half_only() -> None:
    assert verify(token(ED), ring=make_ring([ED.public_half()])).room == "demo"
    with pytest.raises(KeysError, match="only the public half"):
        make_room_token(ED.public_half(), everything())


# --- time ------------------------------------------------------------------------------------------


def test_it_holds_between_its_times_and_a_leeway_beyond() -> None:
    text = token(expires_at=NOW + 60, not_before=NOW)
    verify(text, NOW - LEEWAY)
    assert refused(text, NOW - LEEWAY - 0.001) == "not_yet"
    verify(text, NOW + 60 + LEEWAY - 0.001)
    assert refused(text, NOW + 60 + LEEWAY) == "expired"


def test_one_without_an_end_is_refused() -> None:
    assert refused(signed({k: v for k, v in CLAIMS.items() if k != "exp"})) == "malformed"


def test_it_is_not_said_of_a_forged_token_that_it_has_expired() -> None:
    forged = make_room_token(key("other"), everything(expires_at=NOW - 1000))
    _, claims, signature = forged.split(".")
    for text in (forged, f"{part({'alg': 'HS256', 'kid': 'hs'})}.{claims}.{signature}"):
        assert refused(text) in ("unknown_key", "signature")


# --- keys ------------------------------------------------------------------------------------------


def test_algorithms_are_not_confused() -> None:
    """The public half of a pair is known to many: as a secret for HS256 it would let anybody sign."""
    assert ED.public is not None
    for headers in ({"kid": "ed"}, {"kid": "hs"}, {}):
        forged = jwt.encode(CLAIMS, ED.public, algorithm="HS256", headers=headers)
        assert refused(forged) == ("unknown_key" if headers == {"kid": "ed"} else "signature")
        assert refused(forged, ring=make_ring([ED])) == "unknown_key"
    claims = token(ED).split(".")[1]
    for header in ({"alg": "EdDSA", "kid": "hs"}, {"alg": "HS256", "kid": "ed"}):
        assert refused(f"{part(header)}.{claims}.{token(ED).split('.')[2]}") == "unknown_key"


@pytest.mark.parametrize("algorithm", ["none", "None", "", "HS512", "RS256", "ES256", ["HS256"], {}, None, 5])
@pytest.mark.parametrize("key_id", [None, "hs", "ed"])
def test_other_algorithms_are_none(algorithm: object, key_id: str | None) -> None:
    header = {"alg": algorithm} | ({} if key_id is None else {"kid": key_id})
    claims = part(CLAIMS)
    for signature in ("", token().split(".")[2]):
        assert refused(f"{part(header)}.{claims}.{signature}") in ("unknown_key", "malformed")


def test_a_token_with_a_kid_is_tried_with_that_key_only() -> None:
    assert verify(signed(CLAIMS, {"kid": "hs"})).room == "demo"
    assert refused(signed(CLAIMS, {"kid": "hs2"})) == "unknown_key"
    assert refused(signed(CLAIMS, {"kid": "hs2"}), ring=make_ring([HS, key("hs2")])) == "signature"


def test_a_token_without_a_kid_is_tried_with_all_of_its_algorithm() -> None:
    text = signed(CLAIMS)
    assert "kid" not in jwt.get_unverified_header(text)
    assert verify(text, ring=make_ring([key("a"), ED, key("b"), HS])).name == "alice"
    assert refused(text, ring=make_ring([key("a"), ED, key("b")])) == "signature"


def test_keys_rotate() -> None:
    old, new = key("old"), key("new", "EdDSA")
    both = make_ring([new, old])
    for ring, good, bad in (
        (make_ring([old]), [old], [new]),
        (both, [old, new], []),
        (make_ring([new]), [new], [old]),
    ):
        for one in good:
            verify(token(one), ring=ring)
        for one in bad:
            assert refused(token(one), ring=ring) == "unknown_key"


# --- claims ----------------------------------------------------------------------------------------


def test_one_for_another_purpose_is_refused() -> None:
    assert refused(signed({**CLAIMS, "aud": "relaymesh/join"})) == "audience"
    assert refused(signed({k: v for k, v in CLAIMS.items() if k != "aud"})) == "malformed"
    assert verify(signed({**CLAIMS, "aud": ["other", ROOM_AUDIENCE]})).room == "demo"


@pytest.mark.parametrize(
    "extra",
    [
        *({"exp": wrong} for wrong in ("soon", True, None, [1], 1e300, float("inf"), float("nan"), 10**400)),
        *({"nbf": wrong} for wrong in ("now", False, [], float("nan"), -(2**54))),
        *({"sub": wrong} for wrong in (5, "", "a b", "-", 'a"b', "alice\n", "**", None)),
        *({"room": wrong} for wrong in (None, 5, "", "*", "a/b", "ü")),
        *({"publish": wrong} for wrong in ("camera", ["cam"], [["camera"]], 1, {}, ["camera"] * 5)),
        *(
            {name: wrong}
            for name in ("join", "subscribe", "data", "admin")
            for wrong in (1, "true", None, [])
        ),
    ],
)
def test_claims_that_cannot_be_are_refused(extra: dict[str, object]) -> None:
    assert refused(signed({**CLAIMS, **extra})) == "malformed"


def test_what_is_not_said_is_not_granted_and_what_is_not_ours_is_ignored() -> None:
    bare = verify(signed({**CLAIMS, "iss": "x", "role": "king", "video": {"roomJoin": True}}))
    assert bare == Grants("demo", "alice", CLAIMS["exp"])  # type: ignore[arg-type]
    assert not (bare.join or bare.publish or bare.subscribe or bare.data or bare.admin)


def test_an_extension_that_a_token_demands_is_refused() -> None:
    assert refused(signed(CLAIMS, {"crit": ["x"], "x": 1})) == "malformed"
    assert refused(signed(CLAIMS, {"crit": []})) == "malformed"


def test_a_token_is_bounded() -> None:
    # A signature that is right does not help.
    assert refused(signed({**CLAIMS, "more": "x" * MAX_TOKEN_BYTES})) == "malformed"
    names = {"room": "r" * 64, "name": "n" * 64, "not_before": NOW - 1}
    assert len(token(ED, **names, publish=ALL_SOURCES - {"camera"})) < MAX_TOKEN_BYTES // 4


# --- whatever comes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "a.b.c", "ü.ü.ü", "\0"),
        part("[" * 2000) + ".e30.AA",
        part({"alg": "HS256"}) + "." + part("[" * 2000) + ".AA",
        part({"alg": "HS256", "b64": False, "crit": ["b64"]}) + ".e30.AA",
        part("[]") + ".e30.AA",
    ],
)
def test_hostile_texts_are_refused(text: str) -> None:
    refused(text)


@given(st.text(max_size=200) | st.text("abAB01._-=+/", max_size=200))
def test_whatever_the_text_only_a_refusal_comes_out(text: str) -> None:
    refused(text)


def outcome(text: str) -> Grants | str:
    try:
        return verify(text)
    except AccessRefused as error:
        return error.code


@given(st.data())
def test_a_token_that_was_changed_is_refused(data: st.DataObject) -> None:
    text = token(data.draw(st.sampled_from([HS, ED])))
    place = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.characters(codec="ascii"))
    changed = text[:place] + put + text[place + 1 :]
    # The last characters of base64 have bits to spare: what still says the same is the same.
    assert outcome(changed) in (verify(text), "malformed", "unknown_key", "signature")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.just("camera"),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from([*CLAIMS, "nbf", "join", "publish", "subscribe", "data", "admin"]), VALUES
    )
)
def test_whatever_is_signed_grants_or_a_refusal_come_out(claims: dict[str, Any]) -> None:
    """Issuers have bugs, too."""
    try:
        grants = read_grants({**CLAIMS, **claims})
    except AccessRefused as error:
        code = error.code
        assert code == "malformed"
    else:
        assert read_grants(grants.claims()).claims() == grants.claims()


# --- what is granted -------------------------------------------------------------------------------


def why_not(check: Any, *arguments: Any) -> str:
    with pytest.raises(AccessRefused) as caught:
        check(*arguments)
    return caught.value.code


def test_publishing_wants_its_room_its_name_to_join_and_to_publish() -> None:
    everything().check_publish("demo", "alice")
    everything(name=None).check_publish("demo", "anybody")
    everything(subscribe=False, data=False, admin=False).check_publish("demo", "alice")
    assert why_not(everything().check_publish, "other", "alice") == "room"
    assert why_not(everything().check_publish, "demo", "bob") == "participant"
    assert why_not(everything(join=False).check_publish, "demo", "alice") == "grant"
    assert why_not(everything(publish=frozenset()).check_publish, "demo", "alice") == "grant"


def test_subscribing_wants_its_room_to_join_and_to_subscribe() -> None:
    everything(publish=frozenset(), data=False, admin=False).check_subscribe("demo")
    assert why_not(everything().check_subscribe, "other") == "room"
    assert why_not(everything(join=False).check_subscribe, "demo") == "grant"
    assert why_not(everything(subscribe=False).check_subscribe, "demo") == "grant"


@pytest.mark.parametrize(
    ("sources", "kinds"),
    [
        (set(), set()),
        ({"camera"}, {"video"}),
        ({"screen"}, {"video"}),
        ({"microphone"}, {"audio"}),
        ({"screen-audio"}, {"audio"}),
        ({"screen", "screen-audio"}, {"audio", "video"}),
    ],
)
def test_kinds_follow_from_sources(sources: set[Any], kinds: set[str]) -> None:
    grants = everything(publish=frozenset(sources))
    grants.check_kinds(kinds)
    for kind in {"audio", "video"} - kinds:
        assert why_not(grants.check_kinds, [kind]) == "grant"
    assert why_not(everything().check_kinds, ["application"]) == "grant"
