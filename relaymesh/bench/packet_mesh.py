"""A controller and real nodes on loopback for the packet benchmarks, and what the kernel says they spent.

In: the names of the nodes and of the pairs that may peer. Out: processes as an operator starts them,
which end with the block; CPU seconds and bytes of memory of each. It knows no clients and no media.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from relaymesh.controller.tokens import make_join_token, new_join_secret
from relaymesh.netsim.emulate.processes import RELAYMESH
from relaymesh.runtime.ports import LOOPBACK, free_ports

STARTING_WITHIN_S = 45.0
STOPPING_WITHIN_S = 5.0  # from SIGTERM to SIGKILL
LAST_LINES = 12
MAX_SESSIONS = 4000  # more than any benchmark asks for
SECRET = "RELAYMESH_CONTROLLER_JOIN_SECRET"
TOKEN = "RELAYMESH_NODE_TOKEN"


class BenchFailed(Exception):
    """A measurement did not come to a result; the text is for people."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Nodes by name, and the pairs that peer; a chain or a star is made of few links."""

    nodes: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()

    def topology(self) -> str:
        """The topology file: each node a region; the delays say 1 ms, and loopback has none."""
        regions = [{"name": name, "latitude": 0, "longitude": n} for n, name in enumerate(self.nodes)]
        peers = {frozenset(pair) for pair in self.links}
        links: list[dict[str, Any]] = []
        for pair in combinations(self.nodes, 2):
            way = {"delay_ms": 1} if frozenset(pair) in peers else {"peering": "never"}
            links.append({"between": list(pair), **way})
        # JSON is YAML.
        return json.dumps({"version": 1, "name": "bench", "regions": regions, "links": links})


@dataclass(slots=True)
class Server:
    """One process of the mesh."""

    name: str
    popen: subprocess.Popen[bytes] = field(repr=False)
    log: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def check(self) -> None:
        """Raises :class:`BenchFailed` when it has ended."""
        if self.popen.poll() is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            said = "".join(f"\n  {line}" for line in lines)
            raise BenchFailed(f"{self.name} ended with exit code {self.popen.returncode}:{said}")

    def cpu_s(self) -> float:
        """User and system time so far, all threads. Raises :class:`BenchFailed` when it has ended."""
        self.check()
        return process_cpu_s(self.pid)

    def memory_bytes(self) -> int:
        """Resident set size. Raises :class:`BenchFailed` when it has ended."""
        self.check()
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])  # proc_pid_statm(5)
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it does not obey."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            self.popen.wait(STOPPING_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def process_cpu_s(pid: int) -> float:
    """User and system time of a process, all its threads, in nanosecond steps (clock_getcpuclockid(3)).

    Raises:
        OSError: there is no such process.
    """
    return time.clock_gettime(~pid << 3 | 2)  # as Linux numbers the CPU clocks of other processes


class Mesh:
    """The running processes of a :class:`Shape`."""

    def __init__(self, shape: Shape, folder: Path) -> None:
        self.shape = shape
        self.servers: dict[str, Server] = {}
        self._folder = folder
        self._secret = new_join_secret()
        ports = free_ports(2 + 3 * len(shape.nodes))
        self._control, self._api = next(ports), next(ports)
        self._ports = {name: (next(ports), next(ports), next(ports)) for name in shape.nodes}

    def start(self) -> None:
        """Start all, and wait until every link is up and the routes are in force.

        Raises:
            BenchFailed: one ended, or it takes too long.
        """
        topology = self._folder / "topology.yaml"
        topology.write_text(self.shape.topology(), encoding="utf-8")
        options = {
            "listen": f"{LOOPBACK}:{self._control}", "api-listen": f"{LOOPBACK}:{self._api}",
            "topology": str(topology),
        }  # fmt: skip
        self._start("controller", "controller", options, {SECRET: self._secret})
        self.wait_for(lambda: self.state() is not None, "the controller answers")
        for name, (relay, media, http) in self._ports.items():
            options = {
                "name": name, "region": name, "controller": f"ws://{LOOPBACK}:{self._control}",
                "relay": f"{LOOPBACK}:{relay}", "media": f"{LOOPBACK}:{media}", "http": f"{LOOPBACK}:{http}",
                "max-sessions": str(MAX_SESSIONS),
            }  # fmt: skip
            self._start(name, "node", options, {TOKEN: make_join_token(self._secret, name=name)})
        self.wait_for(self._is_routed, "all links are up and routes are in force")

    def _start(self, name: str, role: str, options: dict[str, str], environment: dict[str, str]) -> None:
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        log = self._folder / f"{name}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [*RELAYMESH, role, *arguments, "--log-format", "json"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                start_new_session=True,  # Ctrl-C in the terminal is ours: we end them, in order
            )
        self.servers[name] = Server(name, popen, log)

    def wait_for(self, condition: Callable[[], bool], what: str, within: float = STARTING_WITHIN_S) -> None:
        """Look until *condition* holds, for *within* seconds. Raises :class:`BenchFailed`."""
        deadline = time.monotonic() + within
        while not condition():
            for server in self.servers.values():
                server.check()
            if time.monotonic() >= deadline:
                raise BenchFailed(f"after {within:g} s still not: {what}")
            time.sleep(0.05)

    def http(self, node: str) -> tuple[str, int]:
        """Where *node* serves WHIP and WHEP."""
        return LOOPBACK, self._ports[node][2]

    def state(self) -> Any:
        """The controller's account of the mesh; ``None`` while it does not answer."""
        return get_json(f"http://{LOOPBACK}:{self._api}/v1/state")

    def status(self, node: str) -> Any:
        """A node's account of itself; ``None`` while it does not answer."""
        return get_json("http://{}:{}/status".format(*self.http(node)))

    def _is_routed(self) -> bool:
        state = self.state()
        if state is None:
            return False
        joined = [node for node in state["nodes"] if node["connected"]]
        up = [link for link in state["links"] if link["up"]]
        return bool(
            len(joined) == len(self.shape.nodes)
            and len(up) == 2 * len(self.shape.links)
            and 0 < state["generation"] == state["active_generation"]
        )

    def stop(self) -> None:
        """End all, the controller last."""
        for server in reversed(self.servers.values()):
            server.stop()


def get_json(url: str) -> Any:
    """What *url* answers; ``None`` where it does not, or no JSON."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)
    except (urllib.error.URLError, OSError, ValueError):
        return None


@contextmanager
def running(shape: Shape) -> Iterator[Mesh]:
    """The mesh of *shape*, ready; it ends with the block.

    Raises:
        BenchFailed: it did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="relaymesh-bench-") as folder:
        mesh = Mesh(shape, Path(folder))
        try:
            mesh.start()
            yield mesh
        finally:
            mesh.stop()


def kernels_in_use() -> str:
    """Which packet kernels a node of this installation uses, by its own word."""
    asked = subprocess.run(
        [*RELAYMESH, "--version", "--verbose"], capture_output=True, text=True, timeout=30, check=False
    )
    told = [line.strip() for line in asked.stdout.splitlines() if "kernel" in line.lower()]
    if asked.returncode or not told:  # a version that has one kind only says nothing of them
        return "kernels: Python only"
    return "; ".join(told)


def machine(lines: Iterable[str] | None = None) -> str:
    """Processor, number of CPUs and Python, for a report. *lines*: those of /proc/cpuinfo."""
    if lines is None:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpus = len(os.sched_getaffinity(0))
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{models[0] if models else 'unknown processor'}, {cpus} CPUs, Python {python}"
