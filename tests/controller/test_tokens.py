from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.refusal import JoinRefused
from relaymesh.controller.tokens import (
    JOIN_AUDIENCE,
    JoinClaims,
    SecretTooShort,
    check_join_secret,
    make_join_token,
    new_join_secret,
    verify_join_token,
)

SECRET = "s" * 32


def verify(token: str, name: str = "fra-1", region: str = "fra", unix_time: float = 1000.0) -> JoinClaims:
    return verify_join_token(SECRET, token, name=name, region=region, unix_time=unix_time)


def refusal(token: str, **said: Any) -> str:
    with pytest.raises(JoinRefused) as caught:
        verify(token, **said)
    assert caught.value.code == "token"
    return caught.value.reason


def test_a_token_lets_in_the_node_it_names() -> None:
    token = make_join_token(SECRET, name="fra-1", region="fra", expires_at=2000)
    assert verify(token) == JoinClaims("fra-1", "fra", 2000)


def test_a_token_for_any_name_lets_anybody_in() -> None:
    token = make_join_token(SECRET)
    assert verify(token, name="a") == verify(token, name="b") == JoinClaims(None, None, None)


def test_name_region_time_and_secret_must_fit() -> None:
    token = make_join_token(SECRET, name="fra-1", region="fra", expires_at=2000)
    assert "'fra-1'" in refusal(token, name="ams-1")
    assert "'fra'" in refusal(token, region="ams")
    assert "expired" in refusal(token, unix_time=2000.0)
    assert "another secret" in refusal(make_join_token("x" * 32, name="fra-1"))


def test_an_unsigned_token_or_one_for_another_purpose_is_refused() -> None:
    claims = {"aud": JOIN_AUDIENCE, "sub": "*"}
    assert "cannot be read" in refusal(jwt.encode(claims, None, algorithm="none"))
    assert "not a join token" in refusal(jwt.encode({"aud": "relaymesh/room", "sub": "*"}, SECRET))
    assert "cannot be read" in refusal(jwt.encode({"aud": JOIN_AUDIENCE}, SECRET))


@pytest.mark.parametrize("extra", [{"region": 5}, {"exp": "soon"}, {"exp": True}, {"exp": [1]}])
def test_claims_of_a_wrong_type_are_refused(extra: dict[str, object]) -> None:
    assert "wrong types" in refusal(jwt.encode({"aud": JOIN_AUDIENCE, "sub": "*", **extra}, SECRET))


def test_json_nested_beyond_the_stack_is_refused() -> None:
    def part(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    refusal(part("[" * 2000) + "." + part("{}") + ".AAAA")
    refusal(part(json.dumps({"alg": "HS256"})) + "." + part("[" * 2000) + ".AAAA")


@given(st.text(max_size=200))
def test_whatever_the_text_only_a_refusal_comes_out(text: str) -> None:
    refusal(text)


def test_secrets_are_fresh_and_long_enough() -> None:
    assert check_join_secret(new_join_secret()) != new_join_secret()
    with pytest.raises(SecretTooShort):
        make_join_token("short")
