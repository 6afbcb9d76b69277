"""The inner parts of hypercorn that :mod:`relaymesh.runtime.http` is built on, and a check of them.

They are no public interface, so a release may move them: ``pyproject.toml`` caps the version, and
:func:`check_hypercorn` says by name what moved, instead of an error from
inside of a connection. Nothing else of RelayMesh imports from inside hypercorn.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version

from hypercorn.config import Config

try:
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.trio.tcp_server import TCPServer
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import ConnectionState
except ImportError as error:
    raise ImportError(
        f"relaymesh.runtime.http does not know hypercorn {version('hypercorn')}: {error}"
    ) from error

__all__ = [
    "ASGIWrapper",
    "Config",
    "ConnectionState",
    "HypercornMoved",
    "TCPServer",
    "WorkerContext",
    "check_hypercorn",
]

_SETTINGS = (
    "accesslog",
    "certfile",
    "create_ssl_context",
    "errorlog",
    "h11_max_incomplete_size",
    "include_server_header",
    "keyfile",
    "read_timeout",
    "ssl_handshake_timeout",
)


class HypercornMoved(RuntimeError):
    """This hypercorn is not one that the HTTP server knows."""


def check_hypercorn() -> None:
    """See whether hypercorn has the inner parts that are used here.

    Raises:
        HypercornMoved: it has not; the message names them all.
    """
    config = Config()
    parts = {
        "hypercorn.app_wrappers.ASGIWrapper(app)": _parameters(ASGIWrapper) == ["app"],
        "hypercorn.trio.tcp_server.TCPServer(app, config, context, state, stream)": _parameters(TCPServer)
        == ["app", "config", "context", "state", "stream"],
        "await of hypercorn.trio.tcp_server.TCPServer": hasattr(TCPServer, "__await__"),
        "hypercorn.trio.tcp_server.TCPServer.protocol_send": hasattr(TCPServer, "protocol_send"),
        "hypercorn.trio.worker_context.WorkerContext(max_requests)": _parameters(WorkerContext)
        == ["max_requests"],
        "hypercorn.trio.worker_context.WorkerContext.terminated.set": inspect.iscoroutinefunction(
            getattr(getattr(WorkerContext(None), "terminated", None), "set", None)
        ),
        "hypercorn.typing.ConnectionState of a dict": callable(ConnectionState) and ConnectionState({}) == {},
        **{f"hypercorn.config.Config.{name}": hasattr(config, name) for name in _SETTINGS},
    }
    missing = [name for name, there in parts.items() if not there]
    if missing:
        raise HypercornMoved(
            f"the HTTP server does not know hypercorn {version('hypercorn')}: no {', no '.join(missing)}"
        )


def _parameters(made: type) -> list[str]:
    """The names of what *made* must be called with."""
    return [
        name
        for name, parameter in inspect.signature(made).parameters.items()
        if parameter.default is inspect.Parameter.empty
    ]
