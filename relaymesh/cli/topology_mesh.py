"""``relaymesh topology plan`` and ``apply``: what a file would change on a running mesh, and changing it.

In: a topology file and the controller's API. Out: what the controller answers,
as lines or as JSON. The file is checked here first, so that its mistakes are
told with its own name; the controller checks again.
"""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx

from relaymesh.topology import TopologyError, load_topology
from relaymesh.topology.diff import Change

TIMEOUT_S = 60.0  # a plan of a large mesh takes a while
MAX_LINES = 40  # of each list; --json has all that the controller tells

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _controller_options(function: Callable[..., None]) -> Callable[..., None]:
    """Options for the controller's API: its address and the token."""
    url = click.option(
        "--controller-url",
        envvar="RELAYMESH_CONTROLLER_URL",
        default="http://127.0.0.1:7401",
        show_default=True,
        help="The controller's API.",
    )
    token = click.option(
        "--admin-token", envvar="RELAYMESH_ADMIN_TOKEN", help="What the API asks for, if anything."
    )
    ca = click.option("--ca", type=_FILE, help="Certificates (PEM) to trust, for https.")
    as_json = click.option("--json", "as_json", is_flag=True, help="Print the controller's answer.")
    return url(token(ca(as_json(function))))


@click.command("plan")
@click.argument("file", type=_FILE)
@_controller_options
def plan(file: Path, controller_url: str, admin_token: str | None, ca: Path | None, as_json: bool) -> None:
    """Show what a topology file would change on a running mesh, and change nothing.

    The controller computes it from what its nodes measure: links gained and lost, paths that would
    move with their cost before and after, streams on them. Exits with 1 where the file is no
    topology or does not fit the nodes that are in.
    """
    with _Controller(controller_url, admin_token, ca) as controller:
        answer = controller.ask("POST", "/v1/topology/plan", _body(file))
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(_lines(answer)))
    sys.exit(1 if answer["conflicts"] else 0)


@click.command("apply")
@click.argument("file", type=_FILE)
@_controller_options
@click.option("--expect", metavar="VERSION", help="Refuse if another version holds. Default: what holds now.")
@click.option("--force", is_flag=True, help="Also where nodes would not reach each other any more.")
def apply(
    file: Path,
    controller_url: str,
    admin_token: str | None,
    ca: Path | None,
    as_json: bool,
    expect: str | None,
    force: bool,
) -> None:
    """Let a topology file hold on a running mesh, without a lost packet.

    What is forbidden is planned around first; its links are taken away when no packet is under way
    on them any more. All or nothing: a file that is refused changes nothing.
    """
    body = _body(file)
    with _Controller(controller_url, admin_token, ca) as controller:
        version = expect or controller.ask("GET", "/v1/topology")["version"]
        query = "?force=1" if force else ""
        answer = controller.ask("PUT", f"/v1/topology{query}", body, {"If-Match": f'"{version}"'})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    click.echo("\n".join(_lines(answer)))
    click.echo(f"applied: {answer['topology']}, version {answer['version']}")


class _Controller:
    """The API of one controller; its refusals end the program."""

    def __init__(self, url: str, admin_token: str | None, ca: Path | None) -> None:
        headers = {} if admin_token is None else {"Authorization": f"Bearer {admin_token}"}
        try:
            verify = True if ca is None else ssl.create_default_context(cafile=str(ca))
        except (OSError, ssl.SSLError) as error:
            raise click.ClickException(f"{ca}: {error}") from None
        self._url = url.rstrip("/")
        self._http = httpx.Client(headers=headers, verify=verify, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> _Controller:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer to one request."""
        try:
            response = self._http.request(method, self._url + path, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise click.ClickException(f"{self._url}: {error or type(error).__name__}") from None
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        if response.is_success and isinstance(answer, dict):
            return answer
        reasons = answer.get("reasons") or [answer.get("error") or f"HTTP {response.status_code}"]
        raise click.ClickException("refused: " + "\n  ".join(map(str, reasons)))


def _body(file: Path) -> bytes:
    try:
        load_topology(file)
        return file.read_bytes()
    except TopologyError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except OSError as error:
        raise click.FileError(str(file), error.strerror or str(error)) from None


def _lines(answer: dict[str, Any]) -> list[str]:
    """A plan, for people."""
    counts = answer["counts"]
    lines = [f"cannot be applied: {conflict}" for conflict in answer["conflicts"]]
    lines += _cut([_change(change) for change in answer["changes"]], counts["changes"])
    lines += _cut([f"+ link {a} – {b}" for a, b in answer["links"]["gained"]], counts["links_gained"])
    lines += _cut([f"- link {a} – {b}" for a, b in answer["links"]["lost"]], counts["links_lost"])
    lines += [f"! nothing would follow the pin {pin}" for pin in answer["idle_pins"]]
    lines += _cut([_path(path) for path in answer["paths"]], counts["paths_moved"])
    streams = [
        f"* {stream['room']}/{stream['participant']}: {stream['ingress']} → {stream['edge']} moves"
        for stream in answer["publications"]
    ]
    lines += _cut(streams, counts["publications"])
    return lines or ["nothing would change"]


def _cut(lines: list[str], count: int) -> list[str]:
    more = count - min(len(lines), MAX_LINES)
    return lines[:MAX_LINES] + ([f"  and {more} more"] if more > 0 else [])


def _change(change: dict[str, Any]) -> str:
    fields = {name: (value["old"], value["new"]) for name, value in change["fields"].items()}
    return str(Change(change["what"], change["name"], change["kind"], fields))


def _path(path: dict[str, Any]) -> str:
    """`~ a → c: a, t1, c (10.5 ms) → a, t2, c (26.5 ms)`."""

    def shown(way: list[str] | None, cost_ms: float | None) -> str:
        if way is None:
            return "no way"
        return f"{', '.join(way)} ({'?' if cost_ms is None else f'{cost_ms:.1f}'} ms)"

    line = f"~ path {path['from']} → {path['to']}: {shown(path['before'], path['before_ms'])}"
    return f"{line} ⇒ {shown(path['after'], path['after_ms'])}{' estimated' if path['estimated'] else ''}"
