"""The supervisor of a site: starts the workers, starts those again that die, and stops all.

In: settings of a node and a number of workers. Out: as many processes, their HTTP behind one address.
It carries no media and holds no state of sessions: while it is busy or stuck, media goes on. If it is
killed, its workers stop by themselves (:mod:`relaymesh.site.worker`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from relaymesh.node.settings import NodeSettings
from relaymesh.runtime.http import bind_http, serve_http
from relaymesh.runtime.log import get_logger
from relaymesh.runtime.process import wait_for_stop
from relaymesh.runtime.settings import parse_endpoint
from relaymesh.site.channel import MAX_LINE_BYTES, ChannelError, Order, decode_report, encode, make_order
from relaymesh.site.plan import plan_workers
from relaymesh.site.roster import Roster
from relaymesh.site.router import Router, worker_client

WORKER = (sys.executable, "-m", "relaymesh.site.worker")
START_WITHIN = 60.0  # s, from a process to its first report
STOP_WITHIN = 10.0  # s, from SIGTERM to SIGKILL; a node takes about one

log = get_logger(__name__)


class SiteFailed(Exception):
    """The site could not go on, or not all of it stopped; the text is for people."""


async def run_site(
    settings: NodeSettings,
    workers: int,
    *,
    program: tuple[str, ...] = WORKER,
    task_status: trio.TaskStatus[Roster] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run *workers* nodes behind one HTTP address until SIGTERM or SIGINT.

    *program* runs a worker, with its name as the last argument.

    Raises:
        OSError: the HTTP address cannot be bound.
        ValueError: the settings do not fit so many workers.
        SiteFailed: a worker could not start, or did not stop.
    """
    http_socket = bind_http(*parse_endpoint(settings.http))
    try:
        plans = plan_workers(settings, workers, http_socket.getsockname()[1])
        folder = tempfile.TemporaryDirectory(prefix="relaymesh-site-")  # nobody else may read it
    except BaseException:
        http_socket.close()
        raise
    roster = Roster([(plan.name, plan.http_url or "") for plan in plans])
    log.info("site starts", site=settings.name, workers=workers, pid=os.getpid())
    with folder:
        orders = {
            number: make_order(
                plan,
                site=settings.name,
                number=number,
                workers=workers,
                http_path=str(Path(folder.name) / str(number)),
            )
            for number, plan in enumerate(plans, start=1)
        }
        async with AsyncExitStack() as stack:
            clients = {
                number: await stack.enter_async_context(worker_client(order.http_path))
                for number, order in orders.items()
            }
            about = {"site": settings.name, "region": settings.region, "pid": os.getpid()}
            app = Router(roster, clients, about).app()
            site = _Site(roster, orders, program)
            async with trio.open_nursery() as nursery:
                await nursery.start(
                    lambda task_status: serve_http(
                        app,
                        http_socket,
                        site.stopping.wait,
                        tls_cert=settings.tls_cert,
                        tls_key=settings.tls_key,
                        task_status=task_status,
                    )
                )
                nursery.start_soon(site.watch_signals)
                task_status.started(roster)
                await site.run()
                nursery.cancel_scope.cancel()
    log.info("stopped", site=settings.name)
    if roster.failure:
        raise SiteFailed(roster.failure)
    if site.killed:
        raise SiteFailed(
            f"did not stop within {STOP_WITHIN:.0f} s and had to be killed: {', '.join(site.killed)}"
        )


class _Site:
    """The processes of a site."""

    def __init__(self, roster: Roster, orders: dict[int, Order], program: tuple[str, ...]) -> None:
        self.stopping = trio.Event()
        self.killed: list[str] = []  # names of workers that did not stop
        self._roster = roster
        self._orders = orders
        self._program = program

    async def watch_signals(self) -> None:
        log.info("stopping", signal=await wait_for_stop())
        self.stopping.set()

    async def run(self) -> None:
        """Keep all workers running until :attr:`stopping`; returns when none is left."""
        async with trio.open_nursery() as nursery:
            for number in self._orders:
                nursery.start_soon(self._keep, number)

    async def _keep(self, number: int) -> None:
        name = str(self._orders[number].settings["name"])
        while not self.stopping.is_set():
            try:
                code = await self._run_once(number, name)
            except OSError as error:  # no process could be made; later one may
                log.error("worker cannot be started", worker=name, why=str(error))
                code = os.EX_OSERR
            if self.stopping.is_set():
                return
            wait = self._roster.handle_ended(number, code, trio.current_time())
            if wait is None:
                log.error("site fails", why=self._roster.failure)
                self.stopping.set()
                return
            log.warning("worker ended, and starts again", worker=name, code=code, wait_s=wait)
            with trio.move_on_after(wait):
                await self.stopping.wait()

    async def _run_once(self, number: int, name: str) -> int:
        """One process of a worker, from its start to its end; its exit code (negative: a signal)."""
        process = await trio.lowlevel.open_process(
            [*self._program, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is ours to pass on
        )
        self._roster.handle_started(number, process.pid)
        log.info("worker starts", worker=name, pid=process.pid)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, number, process)
                nursery.start_soon(self._listen, number, process)
                nursery.start_soon(self._lose_patience, number, name, process)
                nursery.start_soon(self._stop, name, process)
                code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                for pipe in (process.stdin, process.stdout):
                    assert pipe is not None, "it was asked for"
                    await pipe.aclose()
        return code

    async def _tell(self, number: int, process: trio.Process) -> None:
        """Give the order. The pipe stays open: its end would end the worker."""
        assert process.stdin is not None, "it is a pipe"
        try:
            await process.stdin.send_all(encode(self._orders[number]))
        except trio.BrokenResourceError:
            pass  # it has ended, which its exit code tells

    async def _listen(self, number: int, process: trio.Process) -> None:
        assert process.stdout is not None, "it is a pipe"
        rest = b""
        while chunk := await process.stdout.receive_some(1 << 14):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                try:
                    self._roster.handle_report(number, decode_report(line), trio.current_time())
                except ChannelError:
                    log.warning("a worker wrote what is no report", worker=number)
            if len(rest) > MAX_LINE_BYTES:
                rest = b""

    async def _lose_patience(self, number: int, name: str, process: trio.Process) -> None:
        await trio.sleep(START_WITHIN)
        if not self._roster.is_up(number):
            log.error("worker does not come up", worker=name, within_s=START_WITHIN)
            process.kill()

    async def _stop(self, name: str, process: trio.Process) -> None:
        await self.stopping.wait()
        process.terminate()
        await trio.sleep(STOP_WITHIN)
        log.error("worker does not stop", worker=name, within_s=STOP_WITHIN)
        self.killed.append(name)
        process.kill()
