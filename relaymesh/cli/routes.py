"""``relaymesh routes``: where packets go, and why. Asks the controller's API and prints what it says."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx

TIMEOUT_S = 10.0
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
# What the terms of a cost are for, in the order they are printed.
TERMS = {
    "latency_ms": "half the round trip",
    "jitter_ms": "margin for jitter",
    "loss_ms": "expected repair of losses",
    "hop_ms": "the hop itself",
    "extra_ms": "the operator's",
    "load_ms": "no room on the link",
    "price_ms": "price, as the objective weighs it",
    "door_ms": "not the one link into that region (objective cost)",
    "probation_ms": "came back a moment ago",
    "held_ms": "held back by hysteresis",
}


@click.group()
def command() -> None:
    """Show where packets go, and why."""


def _controller_options(function: Callable[..., None]) -> Callable[..., None]:
    """Options for the controller's API: its address and the token."""
    options = [
        click.option(
            "--controller-url",
            envvar="RELAYMESH_CONTROLLER_URL",
            default="http://127.0.0.1:7401",
            show_default=True,
            help="The controller's API.",
        ),
        click.option(
            "--admin-token", envvar="RELAYMESH_ADMIN_TOKEN", help="What the API asks for, if anything."
        ),
        click.option("--ca", type=_FILE, help="Certificates (PEM) to trust, for https."),
        click.option("--json", "as_json", is_flag=True, help="Print the controller's answer."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@command.command("explain")
@click.argument("start", metavar="FROM")
@click.argument("end", metavar="TO")
@_controller_options
def explain(
    start: str, end: str, controller_url: str, admin_token: str | None, ca: Path | None, as_json: bool
) -> None:
    """Say why packets from one node to another go the way they go.

    Each hop with each term of its cost, and what the best other ways would cost: by another next
    hop, and with no node or link in common.
    """
    answer = _ask(controller_url, admin_token, ca, "/v1/routes/explain", {"from": start, "to": end})
    click.echo(json.dumps(answer, indent=2) if as_json else "\n".join(_explained(answer)))


@command.command("show")
@click.argument("node")
@_controller_options
def show(node: str, controller_url: str, admin_token: str | None, ca: Path | None, as_json: bool) -> None:
    """Print the table of a node: for each destination its path, cost, and detour."""
    answer = _ask(controller_url, admin_token, ca, "/v1/routes", {"from": node})
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for row in answer["routes"]:
        around = f"   detour by {' → '.join(row['detour'])}" if row["detour"] else ""
        click.echo(f"{row['to']:20} {_ms(row['cost_ms'])}  {' → '.join(row['path'])}{around}")


def _ask(
    url: str, admin_token: str | None, ca: Path | None, path: str, query: dict[str, str]
) -> dict[str, Any]:
    headers = {} if admin_token is None else {"Authorization": f"Bearer {admin_token}"}
    try:
        verify = True if ca is None else ssl.create_default_context(cafile=str(ca))
        with httpx.Client(headers=headers, verify=verify, timeout=TIMEOUT_S, trust_env=False) as client:
            response = client.get(url.rstrip("/") + path, params=query)
            answer: dict[str, Any] = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise click.ClickException(f"no answer from {url}: {error}") from None
    if response.is_error:
        raise click.ClickException(str(answer.get("error", response.status_code)))
    return answer


def _explained(answer: dict[str, Any]) -> list[str]:
    path = answer["path"]
    start_to_end = f"{answer['from']} → {answer['to']}"
    lines = [
        f"{start_to_end}, generation {answer['generation']}, objective {answer['objective']}",
        "",
        *_way("path", path),
    ]
    lines += [f"  pinned: {pin}" for pin in answer["pins"]]
    if not answer["is_cheapest_now"] and not answer["pins"]:
        lines.append("  not the cheapest at this moment: a plan is on its way, or a pin holds a part of it")
    if len(path["nodes"]) > 2:
        lines.append(f"  the direct link: {_direct(answer)}")
    for key, title in (("runner_up", "by another next hop"), ("disjoint", "with nothing in common")):
        rival = answer[key]
        if rival is None:
            lines += ["", f"{title}: there is no such way"]
            continue
        lines += ["", *_way(title, rival)]
        lines.append(
            f"  {_ms(rival['more_ms']).strip()} more, from {rival['parts_at']} to {rival['meets_at']}"
        )
        for term, value in rival["difference"].items():
            if abs(value) >= 0.005:
                lines.append(f"    {value:+10.2f}  {TERMS.get(term, term)}")
    return lines


def _direct(answer: dict[str, Any]) -> str:
    if not answer["may_peer"]:
        return "the topology forbids it"
    if not answer["are_neighbours"]:
        return "the two are no neighbours"
    return "dearer than this path, or down"


def _way(title: str, way: dict[str, Any]) -> list[str]:
    lines = [f"{title}: {' → '.join(way['nodes'])}   {_ms(way['cost_ms']).strip()}"]
    for hop in way["hops"]:
        lines.append(f"  {hop['from']} → {hop['to']}: {_ms(hop['cost_ms']).strip()}")
        lines += [
            f"    {value:10.2f}  {TERMS.get(term, term)}"
            for term, value in hop["terms"].items()
            if abs(value) >= 0.005
        ]
    return lines


def _ms(cost_ms: float | None) -> str:
    return "      down" if cost_ms is None else f"{cost_ms:7.2f} ms"
