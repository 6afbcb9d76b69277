"""How many emulated packets a CPU second carries through the whole stack, in virtual time.

In: a topology, or a scenario. Out: packets for each CPU second, CPU seconds. A room over regions of the
topology: nodes with sealed relay links and probes, a controller, control channels, publishers, players and
all measuring. The baseline is one AES-128-GCM seal and one open of a packet's bytes, measured in the same
run: a packet costs so many of them, on any machine.
"""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relaymesh.netsim.scenario.loader import load_scenario
from relaymesh.netsim.scenario.resolved import Scenario
from relaymesh.netsim.simulate import simulate
from relaymesh.topology import load_topology

CHECKOUT = Path(__file__).parent.parent.parent
TOPOLOGY = CHECKOUT / "topologies" / "ibm-cloud.yaml"
# Of that topology, in the order in which publishers stand in them: far from each other first.
REGIONS = [
    "sao-paulo", "tokyo", "london", "dallas", "sydney",
    "madrid", "toronto", "washington-dc", "frankfurt", "osaka",
]  # fmt: skip
SEALED_BYTES = 1100
SCENARIO = """
version: 1
name: rate
topology: {topology}
duration_s: {seconds}
warmup_s: 2
traffic:
  rooms:
    - name: room
      participants:
{publishers}
        - {{prefix: player, count: {count}, at: {regions}}}
"""
PUBLISHER = (
    "        - {{name: p{n}, at: {at}, publish: [audio, {{kind: video, kbps: {kbps}, fps: 30}}], play: none}}"
)


@dataclass(frozen=True, slots=True)
class StackRate:
    """The whole stack; of several runs the fastest."""

    packets: int  # of one run
    virtual_s: float
    packets_per_cpu_s: float
    aes_gcm_us: float  # CPU for sealing and opening 1100 bytes once

    @property
    def packet_us(self) -> float:
        """CPU for each packet."""
        return 1e6 / self.packets_per_cpu_s

    @property
    def ratio(self) -> float:
        """How many times sealing and opening it a packet costs."""
        return self.packet_us / self.aes_gcm_us


@dataclass(frozen=True, slots=True)
class ScenarioCost:
    """One scenario, once; of several runs the cheapest."""

    scenario: str
    seed: int
    cpu_s: float
    packets: int
    outcome: str
    trace_hash: str

    @property
    def packets_per_cpu_s(self) -> float:
        """Emulated packets for each CPU second."""
        return self.packets / max(self.cpu_s, 1e-9)


def rate_scenario(topology: Path, seconds: float, publishers: int, kbps: float) -> Scenario:
    """One player in each of ten regions, of every publisher.

    Raises:
        TopologyError: *topology* is none.
    """
    known = [region.name for region in load_topology(topology).regions]
    regions = REGIONS if set(REGIONS) <= set(known) else known[: len(REGIONS)]
    lines = [PUBLISHER.format(n=n, at=regions[n % len(regions)], kbps=kbps) for n in range(publishers)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rate.yaml"
        path.write_text(
            SCENARIO.format(
                topology=json.dumps(str(topology.resolve())),
                seconds=seconds,
                publishers="\n".join(lines),
                count=len(regions),
                regions=json.dumps(regions),
            ),
            encoding="utf-8",
        )
        return load_scenario(path)


def aes_gcm_us(rounds: int = 20_000) -> float:
    """µs of CPU for sealing and opening 1100 bytes once."""
    key, nonce, data = AESGCM(bytes(16)), bytes(12), bytes(SEALED_BYTES)
    start = time.process_time()
    for _ in range(rounds):
        key.decrypt(nonce, key.encrypt(nonce, data, None), None)
    return (time.process_time() - start) / rounds * 1e6


def where_time_goes(scenario: Scenario) -> str:
    """The forty functions that take most of one run."""
    profile, text = cProfile.Profile(), io.StringIO()
    profile.runcall(simulate, scenario)
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(40)
    return text.getvalue()


def stack_rate(scenario: Scenario, seconds: float, rounds: int) -> StackRate:
    """Run *scenario*, which takes *seconds* of virtual time, some times."""
    baseline, best, packets = aes_gcm_us(), 0.0, 0
    for _ in range(rounds):
        metrics = simulate(scenario).metrics
        packets = metrics["packets"]
        best = max(best, packets / metrics["cpu_s"])
    return StackRate(packets, seconds, best, baseline)


def scenario_cost(scenario: Scenario, seed: int, rounds: int) -> ScenarioCost:
    """Run *scenario* some times with the same seed."""
    results = [simulate(scenario, seed=seed) for _ in range(rounds)]
    best = min(results, key=lambda result: float(result.metrics["cpu_s"]))
    return ScenarioCost(
        scenario=scenario.name,
        seed=seed,
        cpu_s=best.metrics["cpu_s"],
        packets=best.metrics["packets"],
        outcome=best.outcome,
        trace_hash=best.metrics["trace_sha256"],
    )
