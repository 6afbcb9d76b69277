"""Which backend there is: our own emulator over TUN devices, or the kernel's netem.

Whether a kernel has netem is found out by trying: versions and module lists say
nothing, because distributions build and package it differently.
"""

from __future__ import annotations

import subprocess
import sys

from relaymesh.netsim.conditions import link_conditions
from relaymesh.netsim.emulate.netem_rules import NotInNetem, check
from relaymesh.netsim.emulate.plan import EmulationPlan, TooLarge
from relaymesh.netsim.scenario.resolved import Scenario
from relaymesh.netsim.scenario.timeline import SetLink, timeline

TUN, NETEM = "tun", "netem"
TRY_SECONDS = 30.0

_TRY = """
from relaymesh.netsim.emulate.namespaces import NetworkNamespace, NotAllowed, enter_user_namespace
from relaymesh.netsim.emulate.netem_rules import Leaf, host_links, root_lines, router_links, wire_lines
from relaymesh.netsim.emulate.netem_world import ToolFailed, run_tool
from relaymesh.netsim.link_model import LinkConditions
import os
try:
    enter_user_namespace()
    router, host = NetworkNamespace.create("try"), NetworkNamespace.create("try too")
    path = f"/proc/{os.getpid()}/fd/{host.descriptor}"
    run_tool("ip", router, router_links([["192.0.2.1"]], [path]))
    run_tool("ip", host, host_links(["192.0.2.1"], "192.0.2.0/24"))
    lines = wire_lines(Leaf("rm0", 2), "192.0.2.2", "192.0.2.1", LinkConditions(delay_ms=1))
    run_tool("tc", router, root_lines("rm0") + lines)
except (NotAllowed, ToolFailed) as error:
    print(error)
"""


def why_no_netem() -> str | None:
    """Why the kernel's netem cannot be used here, in one line; ``None`` when it can. Tried in a child."""
    if sys.platform != "linux":
        return "netem is a thing of Linux"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRY], capture_output=True, text=True, timeout=TRY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"trying it took more than {TRY_SECONDS:.0f} s"
    if tried.returncode != 0:
        last = tried.stderr.strip().splitlines()[-1:] or [f"exit code {tried.returncode}"]
        return f"trying it failed: {last[0]}"
    reason = tried.stdout.strip()
    return f"netem cannot be used here: {reason}" if reason else None


def choose_backend(wanted: str) -> str | None:
    """Why *wanted* cannot be used here; ``None`` when it can."""
    return None if wanted == TUN else why_no_netem()


def cannot_netem(scenario: Scenario) -> list[str]:
    """What *scenario* asks of links that netem has no words for."""
    try:
        plan = EmulationPlan(scenario, 0)
    except TooLarge:
        return []  # is said when it is run
    names = {address: name for name, address in plan.node_address.items()}
    wanted = [
        (f"{names.get(w.source, w.source)} to {names.get(w.target, w.target)}", w.conditions)
        for w in plan.wires()
    ]
    wanted += [
        (f"{a.source} to {a.target} at {a.at_s:g} s", link_conditions(a.conditions, scenario.path.parent))
        for a in timeline(scenario)
        if isinstance(a, SetLink)
    ]
    found = []
    for link, conditions in wanted:
        try:
            check(conditions)
        except NotInNetem as error:
            found.append(f"{scenario.path}: {link}: {error}")
    return found
