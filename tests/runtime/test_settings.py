from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from relaymesh.runtime.settings import (
    SettingsError,
    format_endpoint,
    is_loopback,
    is_wildcard,
    load_settings,
    parse_endpoint,
    settings_options,
)


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=2, description="A name.")
    port_number: int = Field(default=7, ge=1, description="A port.")
    secret: SecretStr = Field(default=SecretStr(""), description="A secret.")
    loud: bool = Field(default=False, description="Noise.")


@click.command()
@settings_options(Model, "thing")
def command(config, **flags):
    settings = load_settings(Model, "thing", config, flags)
    click.echo(f"{settings.name} {settings.port_number} {settings.loud} {settings.secret.get_secret_value()}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "thing.toml"
    path.write_text('[thing]\nname = "file"\nport_number = 1\nsecret = "s"\n[other]\nx = 1\n')
    return path


def test_flags_win_over_environment_over_file_over_defaults(file):
    run = CliRunner().invoke
    assert run(command, ["--config", str(file)]).output == "file 1 False s\n"
    environment = {
        "RELAYMESH_THING_NAME": "env",
        "RELAYMESH_THING_PORT_NUMBER": "2",
        "RELAYMESH_THING_LOUD": "1",
    }
    assert run(command, ["--config", str(file)], env=environment).output == "env 2 True s\n"
    result = run(command, ["--config", str(file), "--name", "flag", "--no-loud"], env=environment)
    assert result.output == "flag 2 False s\n"
    assert run(command, ["--name", "ab"]).output == "ab 7 False \n"


def test_every_option_is_a_flag_and_an_environment_variable_and_says_its_default():
    text = CliRunner().invoke(command, ["--help"]).output
    for wanted in (
        "--name",
        "--port-number",
        "--loud / --no-loud",
        "RELAYMESH_THING_SECRET",
        "[default: 7]",
        "A port.",
    ):
        assert wanted in text


def test_all_problems_are_told_at_once_with_their_place(file):
    file.write_text('[thing]\nname = "x"\nport_number = 0\nsurprise = 1\n')
    result = CliRunner().invoke(command, ["--config", str(file)])
    assert result.exit_code == 2
    for wanted in ("thing.name", "thing.port_number", "thing.surprise"):
        assert wanted in result.output
    result = CliRunner().invoke(command, ["--port-number", "0"])
    assert "--name: Field required" in result.output
    assert "--port-number" in result.output


@pytest.mark.parametrize("text", ["[thing", "thing = 1", "\xff\xfe"])
def test_a_file_that_is_no_settings_file_is_one_clear_error(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=r"x\.toml"):
        load_settings(Model, "thing", path, {})


@pytest.mark.parametrize(
    ("text", "address"), [("a:1", ("a", 1)), ("[::1]:70", ("::1", 70)), ("127.0.0.1:0", ("127.0.0.1", 0))]
)
def test_endpoints_round_trip(text, address):
    assert parse_endpoint(text) == address
    assert format_endpoint(address) == text


@pytest.mark.parametrize("text", ["", "a", ":1", "a:", "a:x", "a:65536", "a:-1"])
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_endpoint(text)


def test_loopback_and_wildcards_are_known():
    assert all(is_loopback(h) for h in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(
        is_loopback(h)
        for h in ("0.0.0.0", "192.0.2.1", "relay.example", "127.example", "127.0.0.1.example", "")
    )
    assert is_wildcard("0.0.0.0")
    assert is_wildcard("::")
    assert not is_wildcard("127.0.0.1")
