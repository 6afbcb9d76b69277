"""Scenario files: a mesh, what happens in it, and what must hold.

`strict` → `conditions`, `traffic`, `faults`, `expectations` → `file` →
`checks` → `loader` → `resolved` (what runners use) → `timeline` (the changes, in order).
"""

from relaymesh.netsim.scenario.loader import ScenarioError, load_scenario, parse_scenario
from relaymesh.netsim.scenario.resolved import Participant, Scenario
from relaymesh.netsim.scenario.schema import json_schema
from relaymesh.netsim.scenario.timeline import timeline, windows

__all__ = [
    "Participant",
    "Scenario",
    "ScenarioError",
    "json_schema",
    "load_scenario",
    "parse_scenario",
    "timeline",
    "windows",
]
