"""The emulated network by the kernel's netem: namespaces, veths to a router, and queues on it.

In: an :class:`~relaymesh.netsim.emulate.plan.EmulationPlan`. Out: the same face as
:class:`~relaymesh.netsim.emulate.world.World`. What to run is said by
:mod:`~relaymesh.netsim.emulate.netem_rules`; here it is run, by ``ip`` and ``tc``.

The kernel keeps the time, and does not tell how well: there is no lateness here.
It does not tell media from probes either: every packet counts as media.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from relaymesh.netsim.emulate import netem_rules
from relaymesh.netsim.emulate.cleanup import RunState
from relaymesh.netsim.emulate.emulator import Counters
from relaymesh.netsim.emulate.namespaces import NetworkNamespace, NotAllowed
from relaymesh.netsim.emulate.netem_rules import ETHERNET_BYTES, FIRST_CLASS, Leaf, router_device
from relaymesh.netsim.emulate.plan import PREFIX_BITS, EmulationPlan, address_at
from relaymesh.netsim.link_model import LinkConditions

TOOL_WITHIN_S = 30.0
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_FAILED_LINE = re.compile(r"Command failed [^\n]*:(\d+)")
NO_COUNTERS = Counters(0, 0, 0, 0, 0, 0)


class ToolFailed(OSError):
    """``ip`` or ``tc`` is missing or refused; the text says what, and its own words."""


def run_tool(
    tool: str, namespace: NetworkNamespace, lines: Sequence[str], tables: Path | None = None
) -> None:
    """Have *tool* (``ip``, ``tc``) do *lines* in *namespace*; *tables*: where distributions lie.

    Raises:
        ToolFailed: it is not there, or did not do one of them.
    """
    given = "\n".join(lines) + "\n"
    done = _run([_find(tool), "-batch", "-"], namespace, given, tables)
    if done.returncode != 0:
        failed = _FAILED_LINE.search(done.stderr)
        what = lines[int(failed[1]) - 1] if failed and 0 < int(failed[1]) <= len(lines) else "-batch"
        words = [line for line in done.stderr.splitlines() if line.strip() and not _FAILED_LINE.match(line)]
        raise ToolFailed(f"'{tool} {what}' failed: {'; '.join(words) or f'exit code {done.returncode}'}")


def _find(tool: str) -> str:
    # Who is not root often has no sbin in the path.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(tool, path=path)
    if found is None:
        raise ToolFailed(f"there is no '{tool}'; install iproute2")
    return found


def _run(
    command: list[str], namespace: NetworkNamespace, given: str | None, tables: Path | None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"TC_LIB_DIR": str(tables)} if tables else {})
    try:
        with namespace.inside():
            return subprocess.run(
                command,
                input=given,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TOOL_WITHIN_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise ToolFailed(f"'{Path(command[0]).name}' did not end within {TOOL_WITHIN_S:.0f} s") from None


class NetemWorld:
    """Namespaces by host name, and the router that joins them."""

    backend = "netem"
    fifo = False

    def __init__(self, plan: EmulationPlan, state: RunState) -> None:
        self.namespaces: dict[str, NetworkNamespace] = {}
        self.state = state  # of the run, for others to read
        self._folder = state.folder
        self._tables: set[str] = set()
        self._leaves: dict[tuple[str, str], Leaf] = {}
        self._conditions: dict[tuple[str, str], LinkConditions] = {}
        self._replaced: dict[tuple[str, str], Counters] = {}  # counted by queues that are gone
        self._router = NetworkNamespace.create("router")
        try:
            for host in plan.hosts:
                self.namespaces[host.name] = NetworkNamespace.create(host.name)
            self._join(plan)
            self._add_wires(plan)
            state.namespaces = {name: space.descriptor for name, space in self.namespaces.items()}
            state.save()
        except BaseException:
            self.close()
            raise

    def _join(self, plan: EmulationPlan) -> None:
        spaces = [self.namespaces[host.name] for host in plan.hosts]
        paths = [f"/proc/{os.getpid()}/fd/{space.descriptor}" for space in spaces]
        run_tool("ip", self._router, netem_rules.router_links([h.addresses for h in plan.hosts], paths))
        network = f"{address_at(0)}/{PREFIX_BITS}"
        for host, space in zip(plan.hosts, spaces, strict=True):
            run_tool("ip", space, netem_rules.host_links(host.addresses, network))
        with self._router.inside():
            try:
                FORWARDING.write_text("1")
            except OSError as error:
                raise NotAllowed(f"{FORWARDING} cannot be written ({error.strerror})") from None

    def _add_wires(self, plan: EmulationPlan) -> None:
        device_of = {
            address: router_device(number)
            for number, host in enumerate(plan.hosts)
            for address in host.addresses
        }
        lines = [line for n in range(len(plan.hosts)) for line in netem_rules.root_lines(router_device(n))]
        taken = dict.fromkeys(device_of.values(), FIRST_CLASS)
        for wire in plan.wires():
            device = device_of[wire.target]
            leaf = self._leaves[wire.source, wire.target] = Leaf(device, taken[device])
            taken[device] += 1
            self._conditions[wire.source, wire.target] = wire.conditions
            lines += netem_rules.wire_lines(leaf, wire.source, wire.target, wire.conditions)
        self._write_tables(self._conditions.values())
        run_tool("tc", self._router, lines, self._folder)

    def _write_tables(self, conditions: Iterable[LinkConditions]) -> None:
        for one in conditions:
            table = netem_rules.delay_table(one)
            if table is not None and table.name not in self._tables:
                (self._folder / f"{table.name}.dist").write_text(table.text())
                self._tables.add(table.name)

    def set_link(self, source: str, target: str, conditions: LinkConditions) -> None:
        """From now on the link between two addresses is like this; what is under way on it is lost.

        Raises:
            ToolFailed: the kernel refused.
        """
        wire = source, target
        if conditions == self._conditions[wire]:
            return
        self._write_tables([conditions])
        self._replaced[wire] = self._counters().get(wire, NO_COUNTERS)
        lines = netem_rules.change_lines(self._leaves[wire], conditions)
        run_tool("tc", self._router, lines, self._folder)
        self._conditions[wire] = conditions

    def _queues(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What tc says of each queue, by device and class."""
        done = _run([_find("tc"), "-s", "-j", "qdisc", "show"], self._router, None, None)
        try:
            queues = json.loads(done.stdout)
        except ValueError:
            raise ToolFailed(f"'tc -s -j qdisc show' failed: {done.stderr.strip()}") from None
        return {(queue["dev"], queue["parent"]): queue for queue in queues if "parent" in queue}

    def _counters(
        self, queues: dict[tuple[str, str], dict[str, Any]] | None = None
    ) -> dict[tuple[str, str], Counters]:
        queues = self._queues() if queues is None else queues
        found = {}
        for wire, leaf in self._leaves.items():
            queue = queues.get((leaf.device, leaf.parent), {})
            packets, drops = queue.get("packets", 0), queue.get("drops", 0)
            size = queue.get("bytes", 0) - packets * ETHERNET_BYTES
            if packets:  # those that were lost are taken to be as long as the others
                size = round(size * (packets + drops) / packets)
            before = self._replaced.get(wire, NO_COUNTERS)
            found[wire] = Counters(
                packets_in=before.packets_in + packets + drops,
                bytes_in=before.bytes_in + size,
                packets_out=before.packets_out + packets,
                media=before.media + packets + drops,
                media_bytes=before.media_bytes + size,
                media_lost=before.media_lost + drops,
            )
        return found

    def stats(self) -> dict[str, Any]:
        """As of the emulator, as far as the kernel tells; ``lateness_ms`` is None."""
        queues = self._queues()
        nowhere = f"1:{netem_rules.NOWHERE:x}"
        return {
            "wires": {wire: c for wire, c in self._counters(queues).items() if c.packets_in},
            "lateness_ms": None,
            "unroutable": sum(q.get("drops", 0) for (_, parent), q in queues.items() if parent == nowhere),
            "overflowed": 0,
            "cpu_s": 0.0,
        }

    def begin_measuring(self) -> None:
        """There is nothing to begin."""

    def tell_children(self) -> None:
        """Nobody stays to end them if this process is killed; the next start does (``clean_up``)."""

    def close(self) -> None:
        """Let go of the namespaces; devices and queues go with them."""
        for namespace in (self._router, *self.namespaces.values()):
            namespace.close()
