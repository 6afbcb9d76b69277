"""The settings of a controller; :mod:`relaymesh.runtime.settings` says where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from relaymesh.controller.store import parse_store
from relaymesh.controller.tokens import check_join_secret
from relaymesh.runtime.log import LogFormat, LogLevel
from relaymesh.runtime.settings import format_endpoint, is_loopback, is_wildcard, parse_endpoint
from relaymesh.topology import Objective

NO_API = "off"


def _endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


def _endpoint_or_off(text: str) -> str:
    return text if text == NO_API else _endpoint(text)


class ControllerSettings(BaseModel):
    """Everything a controller must be told before it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: Annotated[str, AfterValidator(_endpoint)] = Field(
        default="127.0.0.1:7400",
        description="Where nodes connect, HOST:PORT. Beyond loopback it needs --tls-cert and --tls-key.",
    )
    api_listen: Annotated[str, AfterValidator(_endpoint_or_off)] = Field(
        default="127.0.0.1:7401",
        description="Where the JSON API is served, HOST:PORT, or 'off'. "
        "Beyond loopback it needs --admin-token, and is served by TLS.",
    )
    topology: Path | None = Field(
        default=None,
        description="A topology file: regions, who may peer, added costs. Without it: a full mesh.",
    )
    join_secret: SecretStr | None = Field(
        default=None, description="What join tokens are signed with; make one with 'relaymesh token secret'."
    )
    join_secret_file: Path | None = Field(
        default=None, description="A file that holds the join secret (instead of --join-secret)."
    )
    tls_cert: Path | None = Field(default=None, description="Certificate chain (PEM) of this controller.")
    tls_key: Path | None = Field(default=None, description="Private key (PEM) of this controller.")
    admin_token: SecretStr | None = Field(
        default=None, min_length=16, description="What API requests must bring as their Bearer token."
    )
    probe_interval_ms: float = Field(
        default=50.0, ge=5, le=10_000, description="How often nodes probe each neighbour, milliseconds."
    )
    dead_after_ms: float = Field(
        default=200.0,
        ge=10,
        le=60_000,
        description="Silence after which a link is down at the latest, milliseconds; sooner on a busy one.",
    )
    report_interval_ms: float = Field(
        default=1000.0, ge=10, le=60_000, description="How often nodes report their links, milliseconds."
    )
    objective: Objective = Field(
        default="latency",
        description="What routes are to be best at, where the topology file does not say: latency, "
        "cost (prices per GB first) or balanced.",
    )
    store: str = Field(
        default="memory",
        description="What outlives this process, and is shared with other controllers: memory (nothing), "
        "sqlite:PATH (one controller), or nats://HOST:PORT[/BUCKET] (several; tls:// beyond loopback).",
    )
    url: str = Field(
        default="",
        description="The URL at which nodes reach this controller, as in their --controller; "
        "standbys tell it to nodes. Derived from --listen where that names one address.",
    )
    key_rotation_s: float = Field(
        default=3600.0, ge=10, description="How long the keys of a link are used, seconds."
    )
    geoip: Path | None = Field(
        default=None,
        description="A MaxMind file (GeoLite2-City.mmdb) that says where clients are. Needs the extra 'geo'.",
    )
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    log_format: LogFormat = Field(default="console", description="console or json.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        if self.tls_cert is None and not is_loopback(parse_endpoint(self.listen)[0]):
            raise ValueError(f"listen: {self.listen} is beyond loopback and needs tls_cert and tls_key")
        if self.api_is_public and (self.admin_token is None or self.tls_cert is None):
            raise ValueError(
                f"api_listen: {self.api_listen} is beyond loopback: it needs admin_token, tls_cert, tls_key"
            )
        if self.dead_after_ms < 2 * self.probe_interval_ms:
            raise ValueError("dead_after_ms is less than two probe intervals")
        parse_store(self.store)
        self.read_join_secret()
        return self

    def node_url(self, host: str, port: int) -> str:
        """URL for nodes of this controller, which listens on *host* and *port*; empty: it cannot be known."""
        if self.url or is_wildcard(host):
            return self.url.rstrip("/")
        return f"{'ws' if self.tls_cert is None else 'wss'}://{format_endpoint((host, port))}"

    @property
    def api_is_public(self) -> bool:
        """True when the API can be reached from other machines; it has TLS then, and only then."""
        return self.api_listen != NO_API and not is_loopback(parse_endpoint(self.api_listen)[0])

    def read_join_secret(self) -> str:
        """The join secret, from wherever it is kept.

        Raises:
            ValueError: there is none, or two, or it is too short, or its file cannot be read.
        """
        if (self.join_secret is None) == (self.join_secret_file is None):
            raise ValueError(
                "give either join_secret or join_secret_file; 'relaymesh token secret' makes one"
            )
        if self.join_secret is not None:
            return check_join_secret(self.join_secret.get_secret_value())
        assert self.join_secret_file is not None, "one of the two is given"
        try:
            return check_join_secret(self.join_secret_file.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ValueError(f"join_secret_file: {self.join_secret_file}: {error.strerror}") from None
