"""Chromium in layers: what players two hops away see by lines of 150 and 700 kbit/s and without a limit.

    python benchmarks/browser_layers.py [--codec VP8,H264,VP9,AV1] [--runs N] [--json]

One page publishes marked pictures (:mod:`tests.e2e.marked`) at node a, three pages play them from node c. The
line of 700 kbit/s is cut to 150 for ten seconds; then the player without a limit leaves. Everything runs on
this machine, the encoder of three layers and all decoders too. So the browsers give way to the mesh (nice),
pages are open before they play, and the longest gap between two pictures that the encoder gave is told beside
those that players saw: what is in both is the machine's.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import sync_playwright

from tests.e2e.adaptive import ENCODED, Player, live_layers, publish
from tests.e2e.conftest import find_chromium, launch
from tests.e2e.processes import Mesh, square_mesh, wait_for

# Chromium makes three simulcast layers of no less than 960 × 540; scalable ones cost it more.
# More than that and its scalable encoders leave out layers of pictures.
NOISE = {"VP8": 0.2, "H264": 0.2, "VP9": 0.1, "AV1": 0.1}
SIZES = {"VP8": (960, 540), "H264": (960, 540), "VP9": (480, 270), "AV1": (480, 270)}
# Chromium's VP9 in L2T3_KEY and its kin stands still for 3.2 s after some requested keyframes, from one
# page to another without anything between (browser_alone.py), so VP9 has all layers depend on each other.
MODES = {"VP8": None, "H264": None, "VP9": "L3T3", "AV1": "L3T3_KEY"}
ACCESS_BPS = (150_000.0, 700_000.0, None)
# Of a quarter (0), half (1) and the whole (2) of the height, what fits each. At 480 × 270 Chromium makes
# two spatial layers of the three it is asked for, of 100 and 260 kbit/s; the line of 700 carries both.
FITS = {"VP8": (0, 1, 2), "H264": (0, 1, 2), "VP9": (1, 2, 2), "AV1": (1, 2, 2)}
OPEN_S = 4.0  # after which pages that were opened are still
WARM_S = 12.0  # in which the browser's own estimate of its uplink grows, and with it the top layer
SETTLED_S, NARROW_S, CLIMB_S, LEAVES_S = 12.0, 10.0, 15.0, 4.0


@dataclass
class Seen:
    """What one player saw; times in seconds, -1 where it did not come to that."""

    access: str
    layer: int
    settled_s: float
    pictures: int
    corrupted: int
    longest_gap_ms: float
    freezes: int  # as the browser counts them


@dataclass
class Run:
    codec: str
    players: list[Seen]
    down_s: float
    up_s: float
    leaves_s: float  # from the leaving of the top layer's last taker to its last packet on the mesh
    link_rates: tuple[float, float]  # video packets/s on the mesh before that, and after
    encoded_gap_ms: float  # the longest between two pictures of an encoding, as the encoder gave them


def layer_of(height: float, full: int) -> int:
    """0, 1 or 2: encoders crop, so that heights are near a quarter, a half and the whole."""
    share = height / full
    return 0 if share < 0.35 else 1 if share < 0.7 else 2


def settled(shown: list[list[float]], began: float, until: float, layer: int, full: int) -> float:
    """Seconds from *began* to the first picture of *layer* after which no other one came before *until*."""
    found = -1.0
    for at, _, height in shown:
        if at > until:
            break
        if layer_of(height, full) != layer:
            found = -1.0
        elif found < 0:
            found = (at - began) / 1e3
    return found


def first_after(shown: list[list[float]], since: float, layer: int, full: int) -> float:
    """Seconds from *since* to the first picture of *layer*."""
    for at, _, height in shown:
        if at >= since and layer_of(height, full) == layer:
            return (at - since) / 1e3
    return -1.0


def came(mesh: Mesh, name: str) -> int:
    """Packets of the video of *name* that came to c, of all encodings."""
    [publication] = [p for p in mesh.status("c")["publications"] if p["participant"] == name]
    [video] = [track for track in publication["tracks"] if track["kind"] == "video"]
    return sum(encoding["packets"] for encoding in video["encodings"])


def link_rate(mesh: Mesh, name: str, seconds: float) -> float:
    """Packets of video a second that come to c."""
    before, began = came(mesh, name), time.monotonic()
    time.sleep(seconds)
    return (came(mesh, name) - before) / (time.monotonic() - began)


def leave(mesh: Mesh, name: str, player: Player) -> tuple[float, tuple[float, float]]:
    """Close the last taker of the top layer; returns when its packets stopped and the link's rates."""
    before = link_rate(mesh, name, 2.0)
    player.close()
    began = time.monotonic()
    stopped = -1.0
    while (passed := time.monotonic() - began) < LEAVES_S:
        if link_rate(mesh, name, 0.25) < 0.6 * before:
            stopped = passed
            break
    return stopped, (before, link_rate(mesh, name, 2.0))


def run(mesh: Mesh, browsers: list[Any], codec: str, number: int) -> Run:
    name = f"{codec.lower()}-{number}"
    camera = browsers[0].new_context().new_page()
    camera.add_init_script(ENCODED)
    width, full = SIZES[codec]
    marked = {"width": width, "height": full, "fps": 15, "noise": NOISE[codec], "spoil": 0}
    publish(mesh, camera, name, codec, MODES[codec], marked)
    wanted = 1 if MODES[codec] else 3
    wait_for(lambda: len(live_layers(mesh, name)) == wanted, 30.0, f"{wanted} live encodings")
    time.sleep(WARM_S)
    players = {rate: Player(mesh, browsers[1], name, rate, watch=True) for rate in ACCESS_BPS}
    time.sleep(OPEN_S)
    began = camera.evaluate("performance.timeOrigin + performance.now()")
    for player in players.values():
        player.play()
    time.sleep(SETTLED_S)
    narrow = players[700_000.0]
    assert narrow.line is not None
    starts = {rate: player.now() for rate, player in players.items()}
    narrow.line.down_bps = 150_000.0
    time.sleep(NARROW_S)
    restored = narrow.now()
    narrow.line.down_bps = 700_000.0
    time.sleep(CLIMB_S)
    seen = {rate: player.seen() for rate, player in players.items()}
    stats = {rate: player.look()["stats"] for rate, player in players.items()}
    encoded = camera.evaluate("window.encoded")
    leaves_s, rates = leave(mesh, name, players.pop(None))
    for player in players.values():
        player.close()
    camera.close()
    shown = seen[700_000.0]["shown"]
    return Run(
        codec,
        [
            Seen(
                "no limit" if rate is None else f"{rate / 1e3:.0f} kbit/s",
                layer,
                settled(seen[rate]["shown"], seen[rate]["began"], starts[rate], layer, full),
                seen[rate]["pictures"],
                len(seen[rate]["corrupted"]),
                max((b[0] - a[0] for a, b in pairwise(seen[rate]["shown"])), default=-1.0),
                stats[rate]["freezeCount"],
            )
            for layer, rate in zip(FITS[codec], ACCESS_BPS, strict=True)
        ],
        first_after(shown, starts[700_000.0], FITS[codec][0], full),
        first_after(shown, restored, FITS[codec][1], full),
        leaves_s,
        rates,
        max(b - a for times in encoded.values() for a, b in pairwise(times) if b >= began),
    )


def show(result: Run) -> None:
    for seen in result.players:
        print(
            f"{result.codec:5} {seen.access:>10}: layer {seen.layer} after {seen.settled_s:5.1f} s, "
            f"{seen.pictures:5} pictures, {seen.corrupted} corrupted, "
            f"longest gap {seen.longest_gap_ms:4.0f} ms, freezes {seen.freezes}"
        )
    print(
        f"{'':5} cut: down after {result.down_s:.1f} s, up {result.up_s:.1f} s after its end; "
        f"the last taker left: {result.leaves_s:.1f} s, "
        f"{result.link_rates[0]:.0f} → {result.link_rates[1]:.0f} packets/s; "
        f"longest gap of the encoder {result.encoded_gap_ms:.0f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--codec", default=",".join(MODES), help="comma-separated")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    path = find_chromium()
    if path is None:
        sys.exit("no Chromium here; scripts/browser.sh installs one")
    results = []
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        mesh = square_mesh(Path(directory))
        mesh.start()
        browsers = [launch(playwright, path) for _ in range(2)]
        if not options.json:
            print(f"Chromium {browsers[0].version}, {platform.machine()}, Python {platform.python_version()}")
        try:
            for number in range(options.runs):
                for codec in options.codec.split(","):
                    results.append(run(mesh, browsers, codec, number))
                    if not options.json:
                        show(results[-1])
        finally:
            for browser in browsers:
                browser.close()
            mesh.stop()
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))


if __name__ == "__main__":
    main()
