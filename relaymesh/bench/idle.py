"""What a node needs while nothing is sent, and what a join costs it.

In: how many sessions, for how long. Out: an :class:`IdleResult`, a :class:`JoinResult`. Real processes on
loopback; counted are the CPU time and the resident memory of one node's process. *Idle* is a player whose
connection lives, with consent checks as a browser makes them, while its publisher is silent.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from relaymesh.bench.edge_feed import Publisher
from relaymesh.bench.edge_players import Players
from relaymesh.bench.packet_mesh import BenchFailed, Mesh, Server, Shape, get_json, running
from relaymesh.bench.packet_rows import Row
from relaymesh.bench.worker import Worker, working

NODE = "edge"
SETTLE_S = 2.0  # after the last change: probes and reports find their pace
PICTURE = Row(400, 8)  # one burst of it is a keyframe, which a node keeps for those who join
PICTURE_S = 0.02

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class IdleResult:
    """A node without media; medians over the rounds. CPU in ms a second; differences may be noise."""

    links: int
    sessions: int
    node_ms: float  # with the links, without a session
    publisher_ms: float  # with a silent publisher besides
    session_ms: float  # for each player's session besides
    session_kb: float  # resident memory of each session, 1,000 bytes
    node_mb: float  # resident memory of the node without a session, 1,000,000 bytes
    held_s: float  # since the last player joined …
    still: int  # … so many of them were still connected


@dataclass(frozen=True, slots=True)
class JoinResult:
    """Joins one after the other. CPU is that of the node, less what it needs when idle."""

    joins: int
    join_ms: float  # CPU for each: POST, DTLS, the first packet
    took_ms: float  # real time for each, until its first packet
    session_kb: float  # resident memory of each session while it lasts, 1,000 bytes
    kept_kb: float  # of each session, after all have left


def idle(
    *, links: int, sessions: int, seconds: float, rounds: int, hold: float = 0.0, say: Say
) -> IdleResult:
    """Measure windows of *seconds*, *rounds* of each kind; the players stay for *hold* seconds at least.

    Raises:
        BenchFailed: it did not come up, or a process ended.
    """
    others = [f"peer-{number + 1}" for number in range(links)]
    shape = Shape((NODE, *others), tuple((NODE, other) for other in others))
    with ExitStack() as stack:
        say(f"starting a controller and {1 + links} nodes")
        mesh, feed, players = _set_up(stack, shape)
        node = mesh.servers[NODE]
        say("without a session")
        alone_s = _cpu_per_s(node, seconds, rounds)
        _show_a_picture(mesh, feed)
        say("with a silent publisher")
        published_s = _cpu_per_s(node, seconds, rounds)
        before = node.memory_bytes()
        say(f"{sessions} players join")
        players.ask("join", mesh.http(NODE), sessions, within=10.0 + sessions)
        joined = time.monotonic()
        say(f"with {sessions} idle players")
        held_s = _cpu_per_s(node, seconds, rounds)
        memory = node.memory_bytes()
        if (left := joined + hold - time.monotonic()) > 0:
            say(f"for {left:.0f} s more")
            time.sleep(left)
        still, held_for = _connected_players(mesh), time.monotonic() - joined
    return IdleResult(
        links=links,
        sessions=sessions,
        node_ms=alone_s * 1e3,
        publisher_ms=(published_s - alone_s) * 1e3,
        session_ms=(held_s - published_s) * 1e3 / sessions,
        session_kb=(memory - before) / 1e3 / sessions,
        node_mb=before / 1e6,
        held_s=held_for,
        still=still,
    )


def join(*, joins: int, seconds: float, say: Say) -> JoinResult:
    """Measure *joins* of players, each until its first packet; *seconds*: of the idle windows.

    Raises:
        BenchFailed: one cannot join, or a process ended.
    """
    with ExitStack() as stack:
        say("starting a controller and a node")
        mesh, feed, players = _set_up(stack, Shape((NODE,)))
        node = mesh.servers[NODE]
        _show_a_picture(mesh, feed)
        players.ask("join", mesh.http(NODE), 1, True)  # what is imported and made once is not counted
        idle_before = _cpu_per_s(node, seconds, 1)
        say(f"{joins} players join, one after the other")
        memory, began, before = node.memory_bytes(), time.monotonic(), node.cpu_s()
        players.ask("join", mesh.http(NODE), joins, True, within=10.0 + joins)
        spent, took = node.cpu_s() - before, time.monotonic() - began
        held = node.memory_bytes()
        idle_after = _cpu_per_s(node, seconds, 1)
        say("all leave")
        players.ask("leave")
        time.sleep(SETTLE_S)
        kept = node.memory_bytes()
    return JoinResult(
        joins=joins,
        join_ms=(spent - took * (idle_before + idle_after) / 2) * 1e3 / joins,
        took_ms=took * 1e3 / joins,
        session_kb=(held - memory) / 1e3 / joins,
        kept_kb=(kept - memory) / 1e3 / joins,
    )


def _set_up(stack: ExitStack, shape: Shape) -> tuple[Mesh, Worker, Worker]:
    mesh = stack.enter_context(running(shape))
    players = stack.enter_context(working("players", Players, "gcm", "none"))
    feed = stack.enter_context(working("publisher", Publisher, "gcm", False))
    return mesh, feed, players


def _connected_players(mesh: Mesh) -> int:
    host, port = mesh.http(NODE)
    status = get_json(f"http://{host}:{port}/status")
    if status is None:
        raise BenchFailed("the node does not tell its status")
    sessions = status["sessions"]
    return sum(one["role"] == "player" and one["transport"]["connected"] for one in sessions)


def _show_a_picture(mesh: Mesh, feed: Worker) -> None:
    """Publish one keyframe, and be silent from then on."""
    feed.ask("connect", mesh.http(NODE))
    feed.ask("run", PICTURE, PICTURE_S, "node")


def _cpu_per_s(node: Server, seconds: float, rounds: int) -> float:
    """CPU seconds a second, the median of some windows."""
    time.sleep(SETTLE_S)
    found = []
    for _ in range(rounds):
        began, before = time.monotonic(), node.cpu_s()
        time.sleep(seconds)
        found.append((node.cpu_s() - before) / (time.monotonic() - began))
    return statistics.median(found)
