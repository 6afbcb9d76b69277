"""Writes topologies/ibm-cloud.yaml from the table of round-trip latencies beside this script.

    python topologies/data/make_ibm_cloud.py

The table gives a round trip for each direction a pair is measured from. Which
part of it was spent on the way there is not known; half is taken: forward is
half of the round trip measured from the first end, backward half of the one
measured from the second.
"""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLE = HERE / "ibm-cloud-rtt-2024-09-15.csv"
OUTPUT = HERE.parent / "ibm-cloud.yaml"

# The centres of the cities, degrees; good enough for a map.
CITIES = {
    "dallas": ("Dallas", "US", 32.78, -96.80),
    "toronto": ("Toronto", "CA", 43.65, -79.38),
    "washington-dc": ("Washington, D.C.", "US", 38.91, -77.04),
    "frankfurt": ("Frankfurt", "DE", 50.11, 8.68),
    "london": ("London", "GB", 51.51, -0.13),
    "madrid": ("Madrid", "ES", 40.42, -3.70),
    "osaka": ("Osaka", "JP", 34.69, 135.50),
    "sydney": ("Sydney", "AU", -33.87, 151.21),
    "tokyo": ("Tokyo", "JP", 35.68, 139.65),
    "sao-paulo": ("São Paulo", "BR", -23.55, -46.63),
}

HEADER = """\
# yaml-language-server: $schema=topology.schema.json
#
# Ten regions of a real cloud and all 45 pairs between them. Made by data/make_ibm_cloud.py: edit that.
#
# Delays are halves of the average round trips between IBM Cloud multizone regions from 17 August to
# 15 September 2024. Source: IBM Cloud docs, "Network latency dashboards" (repository ibm-cloud-docs/vpc,
# network-latency); the table is data/ibm-cloud-rtt-2024-09-15.csv.
version: 1
name: ibm-cloud
description: Ten regions of IBM Cloud, fully meshed, with the round trips measured between them in 2024.
"""


def round_trips(table: str) -> dict[tuple[str, str], float]:
    """(from, to) → milliseconds, from the CSV text *table*; lines beginning with # are its provenance."""
    rows = csv.DictReader(line for line in table.splitlines() if not line.startswith("#"))
    return {(row["from"], to): float(rtt) for row in rows for to, rtt in row.items() if to != "from" and rtt}


def ibm_cloud(table: str) -> str:
    """The topology file for *table*."""
    rtt = round_trips(table)
    lines = [HEADER + "regions:"]
    for name, (title, country, latitude, longitude) in CITIES.items():
        place = f"latitude: {latitude}, longitude: {longitude}, country: {country}"
        lines.append(f'  - {{name: {name}, title: "{title}", {place}}}')
    lines.append("links:")
    for a, b in combinations(CITIES, 2):
        forward, backward = rtt[a, b] / 2, rtt[b, a] / 2
        delay = f"{forward:g}"
        if forward != backward:
            delay = f"{{forward: {forward:g}, backward: {backward:g}}}"
        lines.append(f"  - {{between: [{a}, {b}], delay_ms: {delay}}}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(ibm_cloud(TABLE.read_text(encoding="utf-8")), encoding="utf-8")
