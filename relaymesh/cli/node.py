"""``relaymesh node``: run one node of the mesh."""

from __future__ import annotations

import json
import os
import ssl
from pathlib import Path
from typing import Any

import click
import trio

from relaymesh.node.agent import JoinRefused, client_tls
from relaymesh.node.app import NodePorts
from relaymesh.node.process import open_ports, run_node
from relaymesh.node.settings import NodeSettings
from relaymesh.runtime.log import configure_logging
from relaymesh.runtime.settings import SettingsError, load_settings, settings_options
from relaymesh.site.plan import worker_count
from relaymesh.site.supervisor import SiteFailed, run_site


@click.command()
@settings_options(NodeSettings, "node")
@click.option(
    "--emulate-links",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="For demonstrations on one machine: a JSON file with delays to put on the links.",
)
def command(config: Path | None, emulate_links: Path | None, **flags: Any) -> None:
    """Run a node: it serves WHIP and WHEP to clients near it, and relays media to its neighbours.

    \b
    A node needs a name, its region, the controller and a join token:
      relaymesh node --name fra-1 --region frankfurt \\
          --controller wss://controller.example:7400 --token "$TOKEN" \\
          --media-address 198.51.100.7:7600 --relay-address 198.51.100.7:7500

    Clients publish by WHIP at  http://HOST:7700/whip/ROOM/NAME  and play by WHEP
    at  http://HOST:7700/whep/ROOM/NAME,  at this node or any other. The node
    stops cleanly on SIGTERM.

    With --workers it takes more cores than one: as many processes, each a node
    of its own (fra-1.1, fra-1.2, …), all by one token for fra-1. Clients need the
    one HTTP address only; the UDP ports of all must be open. One SIGTERM stops all.
    """
    settings = load_settings(NodeSettings, "node", config, flags)
    configure_logging(settings.log_level, settings.log_format)
    _check_tls(settings)
    workers = worker_count(settings.workers, _cores())
    if workers > 1:
        if emulate_links is not None:
            raise click.UsageError("--emulate-links is for one node, without --workers")
        _run_site(settings, workers)
        return
    try:
        ports = open_ports(settings)
        if emulate_links is not None:
            _emulate(ports, emulate_links)
        trio.run(run_node, settings, ports)
    except JoinRefused as error:
        raise click.ClickException(
            f"the controller refused this node ({error.code}): {error.reason}"
        ) from None
    except OSError as error:
        raise click.ClickException(f"cannot start: {error}") from None


def _cores() -> int:
    """Number of cores this process may use, where the system tells; else of all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run_site(settings: NodeSettings, workers: int) -> None:
    try:
        trio.run(run_site, settings, workers)
    except ValueError as error:
        raise SettingsError(f"these settings do not fit {workers} workers:\n  {error}") from None
    except (SiteFailed, OSError) as error:
        raise click.ClickException(f"{error}") from None


def _check_tls(settings: NodeSettings) -> None:
    """Read the TLS files once before anything begins: inside, their errors do not say which file it was."""
    options = "--ca"
    try:
        client_tls(settings.controllers, settings.ca)
        options = "--tls-cert and --tls-key"
        if settings.tls_cert is not None:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                settings.tls_cert, settings.tls_key
            )
    except OSError as error:
        raise click.ClickException(f"cannot use {options}: {error}") from None


def _emulate(ports: NodePorts, file: Path) -> None:
    from relaymesh.netsim.node_links import emulate

    try:
        emulate(ports, json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:  # also what JSON, UTF-8 and pydantic raise
        ports.close()
        raise click.ClickException(f"--emulate-links {file}: {error}") from None
