"""The plan of a site: from the settings of one node to those of each of its workers.

In: settings and a number of workers. Out: settings for each, alike but for name, UDP ports and URL.
Ports are counted up from the configured ones, for the addresses that others are told too; port 0 stays 0,
any free one. Pure.
"""

from __future__ import annotations

from relaymesh.node.settings import NodeSettings
from relaymesh.protocol.ids import is_name
from relaymesh.runtime.settings import format_endpoint, is_wildcard, parse_endpoint

LAST_PORT = 65535
PREFIX = "/worker"  # of the paths that name a worker


def worker_count(asked: int, cores: int) -> int:
    """Number of workers for what was *asked*: 0 stands for one per core."""
    return asked or max(1, cores)


def worker_name(site: str, number: int) -> str:
    """The name of a worker as a node of the mesh; *number* counts from 1."""
    return f"{site}.{number}"


def worker_path(number: int) -> str:
    """The path under which the router passes requests on to this worker."""
    return f"{PREFIX}/{number}"


def plan_workers(settings: NodeSettings, workers: int, http_port: int) -> tuple[NodeSettings, ...]:
    """Settings of all workers, the first one first. *http_port*: the router's, as bound.

    Raises:
        ValueError: with the option that does not fit so many.
    """
    if not is_name(worker_name(settings.name, workers)):
        raise ValueError(f"name: too long for workers, which add .{workers} to it")
    _check_apart(settings, workers)
    base = (settings.http_url or _own_url(settings, http_port)).rstrip("/")
    return tuple(_settings_of(settings, number, base) for number in range(1, workers + 1))


def _own_url(settings: NodeSettings, http_port: int) -> str:
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{format_endpoint((parse_endpoint(settings.http)[0], http_port))}"


def _settings_of(settings: NodeSettings, number: int, base: str) -> NodeSettings:
    """Those of one worker. Clients reach it through the router, which speaks TLS for it."""
    values = settings.model_dump() | {
        "name": worker_name(settings.name, number),
        "http": "127.0.0.1:0",
        "http_url": base + worker_path(number),
        "tls_cert": None,
        "tls_key": None,
        "workers": 1,
        "advertise": _advertised(settings, number),
    }
    for option in ("relay", "media", "relay_address", "media_address"):
        endpoint = values[option]
        values[option] = None if endpoint is None else _counted(option, endpoint, number)
    return NodeSettings.model_validate(values)


def _counted(option: str, endpoint: str, number: int) -> str:
    """*endpoint* with the port of this worker."""
    host, port = parse_endpoint(endpoint)
    return format_endpoint((host, _port(option, port, number)))


def _port(option: str, port: int, number: int) -> int:
    counted = port + number - 1 if port else 0
    if counted > LAST_PORT:
        raise ValueError(f"{option}: worker {number} would have port {counted}, beyond {LAST_PORT}")
    return counted


def _advertised(settings: NodeSettings, number: int) -> str | None:
    addresses = [
        format_endpoint((host, _port("advertise", port, number))) if port else host
        for host, port in settings.advertised
    ]
    return ",".join(addresses) or None


def _check_apart(settings: NodeSettings, workers: int) -> None:
    """Refuse ranges of ports that meet on one address."""
    (relay_host, relay), (media_host, media) = (
        parse_endpoint(settings.relay),
        parse_endpoint(settings.media),
    )
    shared = relay_host == media_host or is_wildcard(relay_host) or is_wildcard(media_host)
    if shared and relay and media and abs(relay - media) < workers:
        raise ValueError(
            f"relay and media: {workers} workers need {workers} ports from each on, and {relay} and {media} "
            "are too near"
        )
