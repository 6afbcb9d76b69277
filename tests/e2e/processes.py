"""A mesh of real processes on loopback, for tests: free ports, a join secret, logs kept for failures."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relaymesh.controller.tokens import make_join_token
from relaymesh.topology import Topology, load_topology

TOPOLOGIES = Path(__file__).parent.parent.parent / "topologies"
READY = 30.0  # s; two busy cores start five interpreters slowly


def free_ports(count: int, kind: int = socket.SOCK_DGRAM) -> list[int]:
    sockets = [socket.socket(socket.AF_INET, kind) for _ in range(count)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def own_address() -> str:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        return sock.getsockname()[0]


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


def wait_for(condition, seconds: float = READY, what: str = "it"):
    """The first true value of *condition*: real processes take real time, so this looks often, bounded."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            value = condition()
        except OSError:
            value = None
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s")


@dataclass
class Process:
    """One RelayMesh process and its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def stop(self, how: signal.Signals = signal.SIGTERM, timeout: float = 10.0) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(how)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"{self.name} did not stop on {how.name}:\n{self.tail()}") from None

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class Mesh:
    """A controller and one node for each region of a topology, their links delayed as the file says."""

    topology: Topology
    directory: Path
    secret: str = "0123456789abcdef0123456789abcdef"
    tls: dict[str, Path] | None = None
    media_host: str = "127.0.0.1"
    store: str | None = None  # shared by all controllers
    controllers: int = 1
    processes: dict[str, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [node.name for node in self.topology.node_list()]
        relay, media = free_ports(len(names)), free_ports(len(names))
        http = free_ports(len(names) + 2 * self.controllers, socket.SOCK_STREAM)
        self.relay_ports = dict(zip(names, relay, strict=True))
        self.media_ports = dict(zip(names, media, strict=True))
        self.http_ports = dict(zip(names, http, strict=False))
        self.control_ports = http[len(names) : len(names) + self.controllers]
        self.api_ports = http[len(names) + self.controllers :]
        self.leader = 0  # the number of the controller that is asked for the state

    def command(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> Process:
        log = self.directory / f"{name}-{len(list(self.directory.glob(f'{name}-*.log')))}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "relaymesh", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        process = self.processes[name] = Process(name, popen, log)
        return process

    @property
    def api_port(self) -> int:
        return self.api_ports[self.leader]

    def start_controller(self, number: int = 0) -> Process:
        tls = ["--tls-cert", str(self.tls["cert"]), "--tls-key", str(self.tls["key"])] if self.tls else []
        process = self.command(
            f"controller-{number}" if number else "controller",
            "controller",
            *("--listen", f"127.0.0.1:{self.control_ports[number]}"),
            *("--api-listen", f"127.0.0.1:{self.api_ports[number]}"),
            *(("--store", self.store) if self.store else ()),
            *("--topology", str(TOPOLOGIES / f"{self.topology.name}.yaml")),
            *("--log-format", "json", *tls),
            environment={"RELAYMESH_CONTROLLER_JOIN_SECRET": self.secret},
        )
        scheme = "http"
        wait_for(
            lambda: get_json(f"{scheme}://127.0.0.1:{self.api_ports[number]}/v1/state"),
            what="the controller's start",
        )
        return process

    def role(self, number: int) -> str:
        """leader, standby, lapsed, or dead."""
        try:
            role: str = get_json(f"http://127.0.0.1:{self.api_ports[number]}/v1/state")["role"]
        except OSError:
            return "dead"
        return role

    def start_node(
        self, name: str, *, process: str | None = None, token: str | None = None, **flags: str
    ) -> Process:
        links = {}
        for other in self.topology.node_list():
            link = self.topology.link(name, other.name) if other.name != name else None
            if link is not None:
                links[other.name] = {
                    "address": f"127.0.0.1:{self.relay_ports[other.name]}",
                    "delay_ms": link.delay_ms,
                }
        emulation = self.directory / f"{name}-links.json"
        emulation.write_text(json.dumps({"links": links}))
        options = {
            "name": name,
            "region": self.topology.node(name).region,
            "controller": ",".join(
                f"{'wss' if self.tls else 'ws'}://127.0.0.1:{port}" for port in self.control_ports
            ),
            "relay": f"127.0.0.1:{self.relay_ports[name]}",
            "media": f"{self.media_host}:{self.media_ports[name]}",
            "http": f"127.0.0.1:{self.http_ports[name]}",
            "log-format": "json",
            "emulate-links": str(emulation),
            **({"ca": str(self.tls["ca"])} if self.tls else {}),
            **{key.replace("_", "-"): value for key, value in flags.items()},
        }
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        return self.command(
            process or name,
            "node",
            *arguments,
            environment={"RELAYMESH_NODE_TOKEN": token or make_join_token(self.secret, name=name)},
        )

    def start(self) -> None:
        for number in range(self.controllers):
            self.start_controller(number)
        for node in self.topology.node_list():
            self.start_node(node.name)
        self.wait_until_routed()

    def wait_until_routed(self) -> None:
        """Until every link is up both ways and a plan of all nodes is active."""

        def ready() -> bool:
            state = self.state()
            return (
                len([n for n in state["nodes"] if n["connected"]]) == len(self.topology.node_list())
                and all(link["up"] for link in state["links"])
                and state["active_generation"] > 0
                and state["active_generation"] == state["generation"]
            )

        wait_for(ready, what="a mesh with all links up")

    # --- looking and touching ------------------------------------------------------------------

    def state(self) -> Any:
        return get_json(f"http://127.0.0.1:{self.api_port}/v1/state")

    def http(self, node: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.http_ports[node]}{path}"

    def status(self, node: str) -> Any:
        return get_json(self.http(node, "/status"))

    def path(self, room: str, participant: str, edge: str) -> list[str]:
        for stream in self.state()["publications"]:
            if (stream["room"], stream["participant"]) == (room, participant):
                return stream["paths"].get(edge, [])
        return []

    def set_link(self, a: str, b: str, **change: Any) -> None:
        """Change the emulated link in both directions."""
        for one, other in ((a, b), (b, a)):
            request = urllib.request.Request(
                self.http(one, f"/emulation/links/{other}"), json.dumps(change).encode(), method="POST"
            )
            urllib.request.urlopen(request, timeout=5).close()

    def stop(self) -> None:
        for process in self.processes.values():
            if process.popen.poll() is None:
                process.popen.terminate()
        for process in self.processes.values():
            try:
                process.popen.wait(10)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()

    def logs(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.tail()}" for p in self.processes.values())


def square_mesh(directory: Path, **options: Any) -> Mesh:
    """a – t1 – c and, a little slower, a – t2 – c."""
    return Mesh(load_topology(TOPOLOGIES / "square.yaml"), directory, **options)
