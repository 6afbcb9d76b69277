from __future__ import annotations

import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relaymesh.cli.main import main
from relaymesh.controller.tokens import JoinClaims, verify_join_token


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["token", *arguments], env=environment)


def claims(secret: str, token: str) -> JoinClaims:
    return verify_join_token(secret, token.strip(), name="fra-1", region="fra", unix_time=time.time())


def test_a_token_made_with_a_fresh_secret_lets_its_node_in(tmp_path: Path) -> None:
    secret = run("secret").output
    file = tmp_path / "join.secret"
    file.write_text(secret)
    made = run("join", "--name", "fra-1", "--region", "fra", "--ttl", "24h", "--secret-file", str(file))
    assert made.exit_code == 0
    read = claims(secret.strip(), made.output)
    assert (read.name, read.region) == ("fra-1", "fra")
    assert read.expires_at == pytest.approx(time.time() + 86_400, abs=60)


def test_the_secret_may_come_from_the_environment() -> None:
    secret = "s" * 40
    made = run("join", RELAYMESH_JOIN_SECRET=secret)
    assert claims(secret, made.output) == JoinClaims(None, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--secret", "short"], "at least 32 bytes"),
        ([], "RELAYMESH_JOIN_SECRET"),
        (["--secret", "s" * 32, "--name", "no name"], "cannot name a node"),
        (["--secret", "s" * 32, "--region", "/"], "cannot name a region"),
        (["--secret", "s" * 32, "--ttl", "soon"], "24h"),
        (["--secret", "s" * 32, "--ttl", "0s"], "24h"),
    ],
)
def test_what_does_not_fit_is_said(arguments: list[str], message: str) -> None:
    result = run("join", *arguments)
    assert result.exit_code != 0
    assert message in result.output


def test_a_secret_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    file = tmp_path / "join.secret"
    file.write_bytes(b"\xff\xfe")
    result = run("join", "--secret-file", str(file))
    assert result.exit_code == 2 and "join.secret" in result.output
