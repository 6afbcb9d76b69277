"""How many emulated packets a CPU second carries through the whole stack, in virtual time.

A room over the ten regions of the example topology: nodes with sealed relay
links and probes, a controller, control channels, publishers, players and all
measuring. The baseline is one AES-128-GCM seal and one open of a packet's
bytes, measured in the same run: a packet costs so many of them, on any machine.

    python benchmarks/simulate_rate.py [--seconds 10] [--publishers 6] [--kbps 2500] [--rounds 3] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from relaymesh.netsim.scenario.loader import load_scenario
from relaymesh.netsim.scenario.resolved import Scenario
from relaymesh.netsim.simulate import simulate

ROOT = Path(__file__).parent.parent
REGIONS = [
    "sao-paulo", "tokyo", "london", "dallas", "sydney",
    "madrid", "toronto", "washington-dc", "frankfurt", "osaka",
]  # fmt: skip
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


def make_scenario(seconds: float, publishers: int, kbps: float, folder: Path) -> Scenario:
    """One player in each region, of every publisher."""
    lines = [PUBLISHER.format(n=n, at=REGIONS[n % len(REGIONS)], kbps=kbps) for n in range(publishers)]
    path = folder / "rate.yaml"
    path.write_text(
        SCENARIO.format(
            topology=ROOT / "topologies" / "ibm-cloud.yaml",
            seconds=seconds,
            publishers="\n".join(lines),
            count=len(REGIONS),
            regions=json.dumps(REGIONS),
        )
    )
    return load_scenario(path)


def aes_gcm_us(rounds: int = 20_000) -> float:
    """µs of CPU for sealing and opening 1100 bytes once."""
    key, nonce, data = AESGCM(bytes(16)), bytes(12), bytes(1100)
    start = time.process_time()
    for _ in range(rounds):
        key.decrypt(nonce, key.encrypt(nonce, data, None), None)
    return (time.process_time() - start) / rounds * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--publishers", type=int, default=6)
    parser.add_argument("--kbps", type=float, default=2500.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="Print where the time goes, for one run.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenario = make_scenario(options.seconds, options.publishers, options.kbps, Path(folder))
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(simulate, scenario)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    best, baseline = 0.0, aes_gcm_us()
    packets = 0
    for _ in range(options.rounds):
        metrics = simulate(scenario).metrics
        packets = metrics["packets"]
        best = max(best, packets / metrics["cpu_s"])
    print(
        json.dumps(
            {
                "python": platform.python_version(),
                "machine": platform.machine(),
                "packets": packets,
                "virtual_s": options.seconds,
                "packets_per_cpu_s": round(best),
                "us_per_packet": round(1e6 / best, 2),
                "aes_gcm_seal_and_open_us": round(baseline, 2),
                "ratio_to_aes_gcm": round(1e6 / best / baseline, 1),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
