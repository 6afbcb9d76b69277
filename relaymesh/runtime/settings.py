"""Settings of a process: one pydantic model, filled from a TOML file, the environment and flags.

Flags win over the environment (``RELAYMESH_<SECTION>_<FIELD>``), which wins
over the file's table ``[section]``, which wins over the defaults. Every field
of the model is all three by itself, so none can be forgotten.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import PydanticUndefined

Model = TypeVar("Model", bound=BaseModel)
Command = TypeVar("Command", bound=Callable[..., Any])


class SettingsError(click.ClickException):
    """The settings do not fit; the message names every place and what would."""

    exit_code = 2


def environment_name(section: str, field: str) -> str:
    """The environment variable of one field."""
    return f"RELAYMESH_{section}_{field}".upper()


def settings_options(model: type[BaseModel], section: str) -> Callable[[Command], Command]:
    """Give a command a flag and an environment variable for each field of *model*, and ``--config``."""

    def decorate(command: Command) -> Command:
        for name, field in reversed(model.model_fields.items()):
            is_switch = field.annotation is bool
            flag = "--" + name.replace("_", "-")
            command = click.option(
                f"{flag}/--no-{flag[2:]}" if is_switch else flag,
                name,
                default=None,
                type=bool if is_switch else str,
                metavar=None if is_switch else "TEXT",
                envvar=environment_name(section, name),
                show_envvar=True,
                help=(field.description or "") + _default_note(field.default),
            )(command)
        return click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            envvar=environment_name(section, "config"),
            show_envvar=True,
            help=f"A TOML file; its table [{section}] holds the same options, written_like_this.",
        )(command)

    return decorate


def load_settings(model: type[Model], section: str, config: Path | None, flags: dict[str, Any]) -> Model:
    """*model* filled from the file at *config*, overlaid with the given *flags* (``None`` = not given).

    Raises:
        SettingsError: all problems at once, each with its place.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values.update(_read_table(config, section))
    given = {name: value for name, value in flags.items() if value is not None}
    values.update(given)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            field = ".".join(str(part) for part in problem["loc"]) or section
            place = (
                "--" + field.replace("_", "-")
                if field in given or config is None
                else f"{config}: {section}.{field}"
            )
            lines.append(f"{place}: {problem['msg']}")
        raise SettingsError("these settings do not fit:\n  " + "\n  ".join(lines)) from None


def _read_table(config: Path, section: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(config.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{config}: not TOML: {error}") from None
    except OSError as error:
        raise SettingsError(f"{config}: {error.strerror}") from None
    table = document.get(section, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{config}: [{section}] must be a table")
    return table


def _default_note(default: Any) -> str:
    if default is None or default is PydanticUndefined or isinstance(default, SecretStr):
        return ""
    return f"  [default: {default}]"


def parse_endpoint(text: str) -> tuple[str, int]:
    """``"host:port"`` or ``"[v6]:port"`` as (host, port).

    Raises:
        ValueError: with what was expected.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not is_host(host):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def is_host(text: str) -> bool:
    """Check that *text* can be looked up as a host: for others the resolver raises errors beside OSError."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return "\0" not in text


def format_endpoint(address: tuple[str, int]) -> str:
    """The reverse of :func:`parse_endpoint`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Check that *host* is this machine only, so that a plain connection leaves nothing in the open."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may lead anywhere, 127.0.0.1.example too
        return False


def is_wildcard(host: str) -> bool:
    """Check for a *host* that means "every address", which no peer can be told to send to."""
    return host in ("0.0.0.0", "::", "")
