"""The options of a controller core: periods, bounds and the secret of join tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from relaymesh.controller.lsdb import SILENT_GRACE_S
from relaymesh.controller.publish import ACTIVATE_AFTER_S
from relaymesh.controller.registry import MAX_NODES
from relaymesh.topology import Objective

SILENCE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """Settings of a controller core; seconds unless the name says milliseconds."""

    join_secret: str = field(repr=False)
    probe_interval_ms: float = 50.0
    dead_after_ms: float = 200.0
    report_interval_ms: float = 1000.0
    key_rotation_s: float = 3600.0
    debounce_s: float = 0.02  # changes that come together make one plan
    activate_after_s: float = ACTIVATE_AFTER_S
    presence_timeout_s: float = 10.0  # from a node's death to the end of its streams
    mass_loss_s: float = 300.0  # the same, where so many died at once that we may be the one who is cut off
    silence_timeout_s: float = SILENCE_TIMEOUT_S  # a channel without a message for this long is closed
    silent_grace_s: float = SILENT_GRACE_S
    settle_s: float = 8.0  # at most, for all nodes to come back; more than their longest pause between tries
    max_nodes: int = MAX_NODES
    objective: Objective = "latency"  # where the topology says none
