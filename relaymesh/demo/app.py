"""Runs the demo: starts everything in order, serves the page, shows the table, and says in the end what
arrived.

One trio program. The children are processes like any others of RelayMesh; only the delays on their links
are made. Order: controller → nodes → links up → publisher → player; ended in the reverse order.
"""

from __future__ import annotations

import json
import logging
import socket
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import trio
from rich.console import Console
from rich.live import Live

from relaymesh.controller.tokens import make_join_token, new_join_secret
from relaymesh.demo.checks import verdict
from relaymesh.demo.page import make_page
from relaymesh.demo.plan import (
    HOST,
    RELAYMESH,
    TOPOLOGY_FILE,
    controller_command,
    demo_topology,
    emulation_file,
    make_plan,
    node_command,
    player_command,
    publisher_command,
)
from relaymesh.demo.processes import ChildDied, Family, family
from relaymesh.demo.table import mesh_table, player_line, summary_table
from relaymesh.demo.view import POLL_S, MeshView
from relaymesh.runtime.http import bind_http, serve_http
from relaymesh.runtime.ports import free_ports
from relaymesh.runtime.process import wait_for_stop

STARTUP_WITHIN_S = 45.0  # a loaded machine with two cores takes about ten
LINE_EVERY_S = 5.0
PORTS_PER_NODE = 3


class DemoFailed(Exception):
    """The demo did not come up, or a part of it died; the text is for people."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command."""

    seconds: float | None = None  # None: until stopped
    as_json: bool = False
    page_port: int | None = 8080  # None: no page
    logs: Path | None = None  # None: a folder that is removed at the end
    program: tuple[str, ...] = RELAYMESH  # what runs controller, node, publish and play


def run_demo(options: Options) -> bool:
    """Run it to its end; whether it did what was asked: with a time limit, whether all checks passed.

    Raises:
        DemoFailed: it did not come up, or a part of it died.
    """
    page_socket = _open_page(options.page_port)
    try:
        with tempfile.TemporaryDirectory(prefix="relaymesh-demo-") as temporary:
            folder = options.logs or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            return trio.run(_Demo(options, folder, page_socket).run)
    except BaseExceptionGroup as group:
        cause = _first(group, (ChildDied, DemoFailed))
        if cause is None:
            raise
        raise DemoFailed(str(cause)) from None


class _Demo:
    def __init__(self, options: Options, folder: Path, page_socket: socket.socket | None) -> None:
        self.options = options
        self.folder = folder
        self.page_socket = page_socket
        self.page_url = f"http://localhost:{page_socket.getsockname()[1]}" if page_socket else None
        self.console = Console(stderr=options.as_json)
        topology = demo_topology()
        self.plan = make_plan(topology, free_ports(2 + PORTS_PER_NODE * len(topology.regions)))
        self.startup_s: float | None = None  # None: it did not come up
        self.collecting = False  # whether reports count: only while everything runs
        self._work = trio.CancelScope()  # cancelled by Ctrl-C and SIGTERM

    async def run(self) -> bool:
        page_done = trio.Event()
        async with httpx.AsyncClient(trust_env=False) as http, trio.open_nursery() as nursery:
            self.view = MeshView(self.plan, http)
            nursery.start_soon(self._stop_on_signal)
            if self.page_socket is not None:
                await nursery.start(_serve, make_page(self.view), self.page_socket, page_done.wait)
            with self._work:
                async with family(self.folder, self.options.program) as children:
                    await self._start(children)
                    await self._watch()
            page_done.set()
            nursery.cancel_scope.cancel()
        return self._summary()

    async def _stop_on_signal(self) -> None:
        await wait_for_stop()
        self._say("stopping …")
        self._work.cancel()

    # --- starting -----------------------------------------------------------------------------

    async def _start(self, children: Family) -> None:
        """Controller, nodes, publisher, player: each when what it needs is there."""
        began = trio.current_time()
        plan, evidence = self.plan, self.view.evidence
        self._say(f"controller   {plan.api_url}/v1/state")
        await self._start_mesh(children)
        self._say("waiting for the links to come up …")
        await self._until(self.view.ready, "all nodes have joined and all links are up")
        for a, b, rtt_ms in plan.links:
            self._say(f"link         {plan.title(a)} – {plan.title(b)}: {rtt_ms:g} ms round trip, emulated")
        self._say(f"publisher    {plan.publish_url}  (VP8 and Opus, a picture with a clock)")
        await children.start(publisher_command(plan), self._listener(evidence.published))
        await self._until(lambda: self.view.stream() is not None, "the publisher's stream is in the mesh")
        self._say(f"player       {plan.play_url}")
        await children.start(player_command(plan), self._listener(evidence.played))
        self.collecting = True
        await self._until(lambda: _has_pictures(evidence.played), "the player has a picture")
        self.startup_s = trio.current_time() - began

    async def _start_mesh(self, children: Family) -> None:
        plan, secret = self.plan, new_join_secret()
        topology_file = self.folder / TOPOLOGY_FILE
        topology_file.write_bytes((files("relaymesh.demo") / TOPOLOGY_FILE).read_bytes())
        await children.start(controller_command(plan, topology_file, secret))
        await self._until(lambda: self.view.controller is not None, "the controller answers")
        for node in plan.nodes:
            emulation = self.folder / f"{node.name}-links.json"
            emulation.write_text(json.dumps(emulation_file(plan, node)))
            token = make_join_token(secret, name=node.name, region=node.region)
            await children.start(node_command(plan, node, emulation, token))
            self._say(f"node         {node.name}, {plan.title(node.name)}: {node.http_url}/status")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        with trio.move_on_after(STARTUP_WITHIN_S):
            while not condition():
                await self.view.refresh()
                if condition():
                    return
                await trio.sleep(0.1)
            return
        raise DemoFailed(f"after {STARTUP_WITHIN_S:.0f} s still not: {what}{self._log_tails()}")

    def _listener(self, reports: list[dict[str, Any]]) -> Callable[[str], None]:
        def listen(line: str) -> None:
            try:
                report = json.loads(line)
            except ValueError:
                return
            if self.collecting and isinstance(report, dict) and report.get("event") == "report":
                reports.append(report)

        return listen

    # --- running ------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Show what happens, for as long as was asked."""
        where = f"Watch it at {self.page_url}" if self.page_url else "No page is served"
        how_long = f"for {self.options.seconds:g} s" if self.options.seconds else "until Ctrl-C"
        footer = f"{where} — running {how_long}"
        self._say(footer)
        with trio.move_on_after(self.options.seconds or float("inf")):
            if self.console.is_terminal and not self.options.as_json:
                await self._show_table(footer)
            else:
                await self._show_lines()
        await self.view.refresh()
        self.collecting = False

    async def _show_table(self, footer: str) -> None:
        with Live(console=self.console, auto_refresh=False, transient=False) as live:
            while True:
                await self.view.refresh()
                played = self.view.evidence.played
                table = mesh_table(self.view.state(), played[-1] if played else None, footer)
                live.update(table, refresh=True)
                await trio.sleep(POLL_S)

    async def _show_lines(self) -> None:
        """For a log: a line now and then."""
        while True:
            for _ in range(int(LINE_EVERY_S / POLL_S)):
                await self.view.refresh()
                await trio.sleep(POLL_S)
            played = self.view.evidence.played
            self._say(player_line(played[-1] if played else None).plain)

    # --- ending -------------------------------------------------------------------------------

    def _summary(self) -> bool:
        if self.startup_s is None:
            self._say("stopped before media flowed")
            return self.options.seconds is None
        result = verdict(self.view.evidence, self.startup_s)
        if self.options.as_json:
            print(json.dumps(result, indent=2, ensure_ascii=False), flush=True)
        else:
            self.console.print(summary_table(result))
        return bool(result["passed"]) or self.options.seconds is None

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def _log_tails(self) -> str:
        tails = []
        for log in sorted(self.folder.glob("*.log")):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]
            tails += [f"\n  {log.stem}: {line}" for line in lines]
        return "".join(tails)


def _open_page(port: int | None) -> socket.socket | None:
    if port is None:
        return None
    try:
        return bind_http(HOST, port)
    except OSError as error:
        raise DemoFailed(
            f"port {port} cannot be used ({error.strerror}); choose another with --port"
        ) from None


async def _serve(
    app: Any,
    sock: socket.socket,
    stop: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    # hypercorn tells on standard error where it runs; the demo does that better itself.
    logging.getLogger("hypercorn.error").disabled = True
    await serve_http(app, sock, stop, task_status=task_status)


def _has_pictures(reports: list[dict[str, Any]]) -> bool:
    return bool(reports) and bool(reports[-1]["frames_distinct"])


def _first(
    group: BaseExceptionGroup[BaseException], kinds: tuple[type[BaseException], ...]
) -> BaseException | None:
    """The first exception of one of *kinds* in *group*, however deep."""
    for error in group.exceptions:
        found = _first(error, kinds) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, kinds):
            return found
    return None
