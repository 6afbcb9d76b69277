"""``topology plan`` and ``apply`` against a controller on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread

import httpx
import pytest
import trio
from click.testing import CliRunner, Result

from relaymesh.cli.topology import command
from relaymesh.controller.app import Addresses, run_controller
from relaymesh.controller.settings import ControllerSettings
from relaymesh.topology.loader import MAX_FILE_BYTES

TOKEN = "an admin token of some length"
TEXT = "version: 1\nname: mesh\nregions: [{name: a}, {name: b}]\nlinks: [{between: [a, b], delay_ms: 10}]\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mesh.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@contextmanager
def controller(topology: Path, token: str | None) -> Iterator[str]:
    """The URL of a controller that runs in a thread."""
    settings = ControllerSettings(
        listen="127.0.0.1:0",
        api_listen="127.0.0.1:0",
        join_secret="a join secret for tests, long enough",
        topology=topology,
        admin_token=token,
    )
    found: list[Addresses] = []
    stops: list[tuple[trio.lowlevel.TrioToken, trio.Event]] = []

    async def run() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            found.append(await nursery.start(partial(run_controller, settings, stop=stop)))
            stops.append((trio.lowlevel.current_trio_token(), stop))

    thread = Thread(target=trio.run, args=(run,))
    thread.start()
    while not stops and thread.is_alive():
        thread.join(0.01)
    try:
        assert found[0].api is not None
        yield f"http://{found[0].api[0]}:{found[0].api[1]}"
    finally:
        trio_token, stop = stops[0]
        trio_token.run_sync_soon(stop.set)
        thread.join(10)
        assert not thread.is_alive()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_plan_then_apply(file: Path) -> None:
    with controller(file, TOKEN) as url:
        options = ("--controller-url", url, "--admin-token", TOKEN)
        same = run("plan", str(file), *options)
        assert (same.exit_code, same.output) == (0, "nothing would change\n")
        file.write_text(TEXT.replace("delay_ms: 10", "delay_ms: 10, price_per_gb: 0.09"), encoding="utf-8")
        plan = run("plan", str(file), *options)
        assert (plan.exit_code, plan.output) == (0, "~ pair a – b: price_per_gb 0 → 0.09\n")
        applied = run("apply", str(file), *options)
        assert applied.exit_code == 0 and "\napplied: mesh, version " in applied.output
        version = applied.output.split()[-1]
        as_json = json.loads(run("plan", str(file), "--json", *options).output)
        assert as_json["version"] == version and as_json["changes"] == []
        stale = run("apply", str(file), "--expect", "0" * 16, *options)
        assert stale.exit_code == 1 and f"is version {version}, not 0000" in stale.output


def test_refusals_are_told(file: Path, tmp_path: Path) -> None:
    with controller(file, TOKEN) as url:
        refused = run("apply", str(file), "--controller-url", url)
        assert refused.exit_code == 1 and "admin token" in refused.output
        broken = tmp_path / "broken.yaml"
        broken.write_text(TEXT.replace("[a, b]", "[a, c]"), encoding="utf-8")
        told = run("plan", str(broken), "--controller-url", url)
        assert told.exit_code == 1 and f"{broken}:4:23: error: links[0].between[1]" in told.output
    nobody = run("plan", str(file), "--controller-url", url)
    assert nobody.exit_code == 1 and url in nobody.output


def test_a_body_has_a_bound(file: Path) -> None:
    with controller(file, None) as url:
        answer = httpx.put(
            f"{url}/v1/topology", content=b"#" * (MAX_FILE_BYTES + 1), headers={"If-Match": "*"}
        )
        assert answer.status_code == 413
        assert httpx.get(f"{url}/v1/topology").json()["name"] == "mesh"
