"""The settings of a node; :mod:`relaymesh.runtime.settings` says where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from relaymesh.node.hitless import Hitless
from relaymesh.protocol.ids import NAME_PATTERN
from relaymesh.protocol.messages import MAX_WORKERS
from relaymesh.runtime.log import LogFormat, LogLevel
from relaymesh.runtime.settings import is_host, is_loopback, is_wildcard, parse_endpoint


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


def _has_port(url: SplitResult) -> bool:
    """Whether the port of *url* is one, or left out."""
    try:
        return url.port != 0
    except ValueError:
        return False


def _check_controller(text: str) -> None:
    """One URL of a controller.

    Raises:
        ValueError: it is none, or one that keys must not travel to.
    """
    url = urlsplit(text)
    if url.scheme not in ("ws", "wss") or not url.hostname or not _has_port(url) or not is_host(url.hostname):
        raise ValueError("controller must be a URL like wss://controller.example:7400")
    if url.scheme == "ws" and not is_loopback(url.hostname):
        raise ValueError(
            "controller: plain ws:// is for loopback only, because keys travel on it; use wss://"
        )


def _host_and_port(text: str) -> tuple[str, int]:
    """HOST or HOST:PORT; an IPv6 address with a port stands in brackets."""
    bare = text.removeprefix("[").removesuffix("]")
    if is_host(bare) and (":" not in text or (bare.count(":") > 1 and "]:" not in text)):
        return bare, 0
    return parse_endpoint(text)


def _worker_count(value: object) -> object:
    return 0 if value == "auto" else value


MAX_ADVERTISED = 8
Endpoint = Annotated[str, AfterValidator(_endpoint)]


class NodeSettings(BaseModel):
    """Everything a node must be told before it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN, description="The node's name, unique in the mesh.")
    region: str = Field(pattern=NAME_PATTERN, description="The region of the topology it stands in.")
    controller: str = Field(
        description="Where the controller's node channel is: wss://host:7400 (ws:// only on loopback). "
        "Of several controllers all, with commas between."
    )
    token: SecretStr = Field(description="The join token; make one with 'relaymesh token join'.")
    ca: Path | None = Field(
        default=None, description="A PEM file with the authority that signed the controller's certificate."
    )
    relay: Endpoint = Field(
        default="0.0.0.0:7500", description="The UDP port towards other nodes, HOST:PORT."
    )
    relay_address: Endpoint | None = Field(
        default=None, description="HOST:PORT other nodes reach it at, where that differs from --relay."
    )
    media: Endpoint = Field(default="0.0.0.0:7600", description="The UDP port for all clients, HOST:PORT.")
    media_address: Endpoint | None = Field(
        default=None, description="HOST:PORT clients reach it at, where that differs from --media."
    )
    advertise: str | None = Field(
        default=None,
        description="Further HOST[:PORT] at which clients reach --media (IPv6, a LAN), commas between.",
    )
    media_tcp: bool = Field(
        default=True,
        description="Take clients that UDP does not reach by TCP (ICE-TCP), on the port of --media.",
    )
    http: Endpoint = Field(default="127.0.0.1:7700", description="Where WHIP, WHEP and /status are served.")
    http_url: str | None = Field(
        default=None,
        description="The URL clients reach --http at, where it differs; its path is what a proxy strips.",
    )
    tls_cert: Path | None = Field(default=None, description="Certificate chain (PEM) for --http.")
    tls_key: Path | None = Field(default=None, description="Private key (PEM) for --http.")
    plain_http: bool = Field(
        default=False, description="Serve --http without TLS beyond loopback, behind a proxy that adds it."
    )
    hitless: Hitless = Field(
        default="audio",
        description="Which tracks travel twice over disjoint paths: none, audio or all; publishers may say.",
    )
    max_sessions: int = Field(default=1000, ge=1, le=100_000, description="WebRTC sessions held at most.")
    workers: Annotated[int, BeforeValidator(_worker_count)] = Field(
        default=1,
        ge=0,
        le=MAX_WORKERS,
        description="Processes to run behind one --http, each a node (NAME.1, NAME.2, …) with the next UDP "
        "ports from --relay and --media on, and --max-sessions of its own; 'auto': one for each core.",
    )
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="console", description="console or json.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for url in self.controllers or ("",):
            _check_controller(url)
        for option in ("relay", "media"):
            host, _ = parse_endpoint(getattr(self, option))
            if is_wildcard(host) and getattr(self, f"{option}_address") is None:
                raise ValueError(
                    f"{option} listens on every address ({host}); say in {option}_address which others use"
                )
        try:
            found = self.advertised
        except ValueError as error:
            raise ValueError(f"advertise: {error}") from None
        if any(is_wildcard(host) for host, _ in found):
            raise ValueError("advertise: clients cannot send to every address, name one")
        if len(found) > MAX_ADVERTISED:
            raise ValueError(f"advertise: at most {MAX_ADVERTISED} addresses")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if self.tls_cert is None and not self.plain_http and not is_loopback(parse_endpoint(self.http)[0]):
            raise ValueError("http beyond loopback needs tls_cert and tls_key, or plain_http behind a proxy")
        return self

    @property
    def controllers(self) -> tuple[str, ...]:
        """The URLs of all controllers, each once, in the order given."""
        urls = (url.strip().rstrip("/") for url in self.controller.split(","))
        return tuple(dict.fromkeys(url for url in urls if url))

    @property
    def advertised(self) -> tuple[tuple[str, int], ...]:
        """The addresses in ``advertise``; port 0 where it names none."""
        texts = [text.strip() for text in (self.advertise or "").split(",")]
        return tuple(_host_and_port(text) for text in texts if text)
