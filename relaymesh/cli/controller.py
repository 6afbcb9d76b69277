"""``relaymesh controller``: run the controller of a mesh."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import click
import trio

from relaymesh.controller.app import serve_until_signal
from relaymesh.controller.geo import GeoError
from relaymesh.controller.settings import ControllerSettings
from relaymesh.controller.store import StoreDown
from relaymesh.runtime.log import configure_logging
from relaymesh.runtime.settings import load_settings, settings_options
from relaymesh.topology import TopologyError


@click.command()
@settings_options(ControllerSettings, "controller")
def command(config: Path | None, **flags: Any) -> None:
    """Run the controller: nodes join it; it computes and pushes their routes.

    \b
    On one machine:
      export RELAYMESH_CONTROLLER_JOIN_SECRET=$(relaymesh token secret)
      relaymesh controller
    For nodes elsewhere it needs a certificate:
      relaymesh controller --listen 0.0.0.0:7400 --tls-cert cert.pem --tls-key key.pem \\
          --topology mesh.yaml --join-secret-file join.secret

    Each node brings a token signed with the join secret (relaymesh token join).
    What the mesh is like now:  curl http://127.0.0.1:7401/v1/state
    The controller stops cleanly on SIGTERM; the nodes go on forwarding without it.
    """
    settings = load_settings(ControllerSettings, "controller", config, flags)
    configure_logging(settings.log_level, settings.log_format)
    try:
        trio.run(serve_until_signal, settings)
    except ExceptionGroup as group:
        raise _explained(group) from None


def _explained(group: ExceptionGroup[Exception]) -> Exception:
    """Turn what stopped the start into words; anything else passes, with its traceback."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    match error:
        case TopologyError():
            return click.ClickException(str(error))
        case GeoError():
            return click.ClickException(str(error))
        case StoreDown():
            return click.ClickException(f"cannot use --store: {error}")
        case ssl.SSLError():
            return click.ClickException(f"cannot use --tls-cert and --tls-key: {error}")
        case OSError():
            return click.ClickException(f"cannot start: {error}")
    return group
