"""The windows of a scenario's faults, with the links and nodes that each fault is on."""

from __future__ import annotations

from dataclasses import asdict

from relaymesh.netsim.result import FaultWindow
from relaymesh.netsim.scenario.resolved import Scenario
from relaymesh.netsim.scenario.timeline import Window, windows


def fault_windows(scenario: Scenario) -> list[FaultWindow]:
    """The windows of the scenario's faults, with the links and nodes each fault is on."""
    return [_window(scenario, window) for window in windows(scenario)]


def _window(scenario: Scenario, window: Window) -> FaultWindow:
    fault = scenario.faults[window.fault]
    between, node = getattr(fault, "between", None), getattr(fault, "node", None)
    links = scenario.directed(between, getattr(fault, "direction", "both")) if between else []
    crashed = list(scenario.nodes_at(node)) if node and fault.kind == "node-crash" else []
    return FaultWindow(**asdict(window), links=links, nodes=crashed)
