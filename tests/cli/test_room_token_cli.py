from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relaymesh.access.grants import ALL_SOURCES, Grants
from relaymesh.access.keys import read_ring
from relaymesh.access.tokens import verify_room_token
from relaymesh.cli.main import main


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["token", *arguments], input=stdin)


def output(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "room-keys.json"
    file.write_text(output("key", "--eddsa", "--id", "k1"))
    return file


def create(keys: Path, *arguments: str) -> Result:
    return run("create", "--keys", str(keys), "--room", "demo", "--name", "alice", *arguments)


def grants(keys: Path, *arguments: str) -> Grants:
    made = create(keys, *arguments)
    assert made.exit_code == 0, made.output
    return verify_room_token(read_ring(keys.read_bytes()), made.output.strip(), unix_time=time.time())


def test_keys_are_fresh() -> None:
    first, second = (json.loads(output("key"))["keys"] for _ in range(2))
    assert (
        first[0]["kty"] == "oct" and first[0]["k"] != second[0]["k"] and first[0]["kid"] != second[0]["kid"]
    )
    [pair] = json.loads(output("key", "--eddsa", "--id", "2026-11"))["keys"]
    assert (pair["crv"], pair["kid"]) == ("Ed25519", "2026-11")


def test_a_token_says_what_was_asked_for(keys: Path) -> None:
    nothing = grants(keys)
    assert nothing == Grants("demo", "alice", nothing.expires_at, join=True)
    assert nothing.expires_at == pytest.approx(time.time() + 3600, abs=60)
    more = grants(keys, "--publish", "camera, microphone", "--subscribe", "--data", "--admin", "--ttl", "7d")
    assert more.publish == {"camera", "microphone"}
    assert more.subscribe and more.data and more.admin
    assert more.expires_at == pytest.approx(time.time() + 7 * 86_400, abs=60)
    assert grants(keys, "--publish", "all").publish == ALL_SOURCES
    anybody = grants(keys, "--name", "*", "--no-join")
    assert anybody.name is None and not anybody.join


def test_nodes_check_tokens_with_public_halves(keys: Path, tmp_path: Path) -> None:
    public = tmp_path / "public.json"
    public.write_text(output("public", str(keys)))
    assert '"d"' in keys.read_text() and '"d"' not in public.read_text()
    made = create(keys).output.strip()
    assert verify_room_token(read_ring(public.read_bytes()), made, unix_time=time.time()).room == "demo"
    says(create(public), "public halves")


def test_a_rotation_step_by_step(keys: Path, tmp_path: Path) -> None:
    old = create(keys).output.strip()
    both = tmp_path / "both.json"
    both.write_text(output("key", "--id", "k2", "--beside", str(keys)))
    ring = read_ring(both.read_bytes())
    assert [key.id for key in ring.keys] == ["k2", "k1"]
    public = read_ring(output("public", "--id", "k1", str(both)).encode())
    assert [(key.id, key.private) for key in public.keys] == [("k1", None)]
    says(run("public", "--id", "k3", str(both)), "there is no key 'k3'; there are k2, k1")
    for token in (old, create(both).output.strip(), create(both, "--id", "k1").output.strip()):
        assert verify_room_token(ring, token, unix_time=time.time()).name == "alice"
    says(run("public", str(both)), "the key k2 is for HS256")
    says(run("key", "--id", "k1", "--beside", str(both)), "same kid")


def test_keys_come_by_a_pipe_too(keys: Path) -> None:
    made = run("create", "--keys", "-", "--room", "r", "--name", "n", stdin=keys.read_bytes())
    assert (
        verify_room_token(read_ring(keys.read_bytes()), made.output.strip(), unix_time=time.time()).room
        == "r"
    )


def says(result: Result, text: str) -> None:
    assert isinstance(result.exception, SystemExit) and result.exit_code != 0
    assert text in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--room", "a b"], "cannot name a room"),
        (["--room", "*"], "cannot name a room"),
        (["--name", "a/b"], "cannot name a participant"),
        (["--publish", "camera,cam"], "'cam' is no source; there are camera, microphone"),
        (["--publish", ""], "'' is no source"),
        (["--ttl", "soon"], "24h"),
        (["--ttl", "0s"], "24h"),
        (["--id", "k9"], "there is no key 'k9'; there are k1"),
        (["--keys", "/nowhere.json"], "No such file"),
    ],
)
def test_what_does_not_fit_is_said(keys: Path, arguments: list[str], message: str) -> None:
    says(create(keys, *arguments), message)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b'{"keys": []}', b'{"keys": [{"kty": "oct", "kid": "k", "k": "AA"}]}']
)
def test_a_file_that_holds_no_keys_is_said(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    for result in (create(file), run("public", str(file)), run("key", "--beside", str(file))):
        says(result, "keys.json")


def test_a_key_without_a_proper_name_is_not_made() -> None:
    says(run("key", "--id", "a b"), "cannot name a key")


def test_a_join_secret_is_no_room_key(tmp_path: Path) -> None:
    file = tmp_path / "join.secret"
    file.write_text(output("secret"))
    says(create(file), "no JWK set")


def test_what_a_token_shows_to_whoever_reads_it(keys: Path) -> None:
    """Claims are signed and not secret: nothing of the key or the machine is in it."""
    import jwt

    said: dict[str, Any] = jwt.decode(
        create(keys, "--subscribe").output.strip(), options={"verify_signature": False}
    )
    assert set(said) == {"aud", "sub", "room", "exp", "join", "subscribe"}
