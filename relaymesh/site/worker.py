"""The process of one worker of a site: a node, its order on standard input, its reports on standard output.

It runs until SIGTERM, or until its standard input ends: then its supervisor is gone, and nobody
would stop it or pass requests on to it. Started by the supervisor only:
``python -m relaymesh.site.worker NAME``, where the name is for those who list processes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio

from relaymesh.node.agent import JoinRefused
from relaymesh.node.app import Node, NodePorts
from relaymesh.node.process import WorkerOf, open_ports, run_node
from relaymesh.runtime.http import bind_http_path
from relaymesh.runtime.log import configure_logging, get_logger
from relaymesh.runtime.process import innermost
from relaymesh.runtime.settings import format_endpoint
from relaymesh.site.channel import MAX_LINE_BYTES, ChannelError, Order, Report, decode_order, encode

REPORT_INTERVAL = 0.5  # s

log = get_logger(__name__)


async def run_worker(order: Order, orders: trio.abc.ReceiveStream, reports: trio.abc.SendStream) -> None:
    """Run the node of *order* until SIGTERM or the end of *orders*.

    Raises:
        OSError, JoinRefused: as of :func:`run_node`, perhaps in a group.
    """
    settings = order.node_settings()
    ports = open_ports(settings)
    try:
        listener = bind_http_path(Path(order.http_path))
    except OSError:
        ports.close()
        raise
    worker = WorkerOf(order.site, order.number, order.workers, listener)

    async def run(task_status: trio.TaskStatus[Node]) -> None:
        await run_node(settings, ports, worker, task_status=task_status)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_at_end, orders)
        node: Node = await nursery.start(run)
        nursery.start_soon(_report, node, ports, reports)


async def _stop_at_end(orders: trio.abc.ReceiveStream) -> None:
    while await orders.receive_some(1 << 12):
        pass
    log.warning("the supervisor of this worker is gone")
    signal.raise_signal(signal.SIGTERM)  # from here on it is a stop like any other


async def _report(node: Node, ports: NodePorts, reports: trio.abc.SendStream) -> None:
    media, relay = format_endpoint(ports.media.address), format_endpoint(ports.relay.address)
    while True:
        report = Report(len(node.core.edge), node.core.outbox.connected, media, relay)
        try:
            await reports.send_all(encode(report))
        except trio.BrokenResourceError:
            return  # its other pipe has ended too
        await trio.sleep(REPORT_INTERVAL)


async def _main(order: Order) -> None:
    orders = trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))
    reports = trio.lowlevel.FdStream(os.dup(sys.stdout.fileno()))
    async with orders, reports:
        await run_worker(order, orders, reports)


def main() -> int:
    """Read the order, and run; the exit code."""
    try:
        order = decode_order(sys.stdin.buffer.readline(MAX_LINE_BYTES + 1))
        settings = order.node_settings()
    except ChannelError as error:
        print(f"this is started by 'relaymesh node --workers' only: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level, settings.log_format)
    try:
        trio.run(_main, order)
    except (JoinRefused, OSError, BaseExceptionGroup) as error:
        cause = innermost(error)
        if isinstance(cause, JoinRefused):
            why = f"the controller refused this node ({cause.code}): {cause.reason}"
        elif isinstance(cause, OSError):
            why = str(cause)
        else:
            raise
        log.error("cannot go on", node=settings.name, why=why)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
