"""Run scenarios and print their trace hashes as JSON; the test of determinism starts this in processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from relaymesh.netsim.scenario.loader import load_scenario
from relaymesh.netsim.simulate import simulate

ROOT = Path(__file__).parent.parent.parent
SCENARIOS: dict[str, tuple[Path, dict[str, str]]] = {
    "two-hops": (
        ROOT / "simulations" / "two-hops.yaml",
        {"duration_s": "10", "warmup_s": "2", "faults[0].at_s": "6"},
    ),
    "swarm": (ROOT / "tests" / "netsim" / "scenarios" / "swarm.yaml", {}),
    "wrong-clocks": (ROOT / "tests" / "netsim" / "scenarios" / "wrong-clocks.yaml", {}),
    "lossy-transpacific": (
        ROOT / "simulations" / "lossy-transpacific.yaml",
        {"duration_s": "5", "warmup_s": "2"},
    ),
}


def hashes(seed: int | None) -> dict[str, str]:
    """Scenario → hash of everything that was delivered."""
    return {
        name: simulate(load_scenario(path, overrides), seed=seed).metrics["trace_sha256"]
        for name, (path, overrides) in SCENARIOS.items()
    }


if __name__ == "__main__":
    print(json.dumps(hashes(int(sys.argv[1]))))
