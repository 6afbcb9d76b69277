"""The live table in the terminal: links with RTT, loss and cost; tracks with path and packets per second.

In: the state that ``/api/state`` answers, and the player's last report. Out: something rich can print. Pure.
"""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

State = dict[str, Any]


def mesh_table(state: State, player: dict[str, Any] | None, footer: str) -> RenderableType:
    """Everything worth seeing now."""
    return Group(links_table(state), tracks_table(state), player_line(player), Text(footer, style="dim"))


def links_table(state: State) -> Table:
    """One row for each direction of each link."""
    table = _table("Links", "from", "to", "state", ">RTT", ">jitter", ">loss", ">cost")
    controller = state["controller"] or {"links": []}
    cut = {frozenset((link["a"], link["b"])) for link in state["links"] if link["down"]}
    for link in controller["links"]:
        up = link["up"]
        if up:
            word = Text("up", style="green")
        elif frozenset((link["from"], link["to"])) in cut:
            word = Text("cut", style="red")
        else:
            word = Text("down", style="red")
        numbers = (
            (_ms(link["rtt_ms"]), _ms(link["jitter_ms"]), f"{link['loss']:.1%}", _ms(link["cost_ms"]))
            if up
            else ("–", "–", "–", "–")
        )
        table.add_row(link["from"], link["to"], word, *numbers)
    if not controller["links"]:
        table.add_row(
            Text("the nodes are joining …" if state["controller"] else "no controller", style="dim")
        )
    return table


def tracks_table(state: State) -> Table:
    """One row for each track at each edge that plays it, and one where it enters."""
    table = _table("Tracks", "stream", "track", "path", ">packets/s", ">lost")
    for stream in (state["controller"] or {"publications": []})["publications"]:
        name = f"{stream['room']}/{stream['participant']}"
        ways = {stream["ingress"]: [stream["ingress"]], **stream["paths"]}
        for edge, path in ways.items():
            seen = _tracks_at(state["nodes"].get(edge), stream)
            for track in stream["tracks"]:
                here = seen.get(track["track"])
                numbers = (f"{here['packets_per_s']:.0f}", str(here["lost"])) if here else ("–", "–")
                what = f"{track['kind']} {track['codec']}"
                table.add_row(name, what, " → ".join(path) or "no path", *numbers)
    if not table.row_count:
        table.add_row(Text("nobody publishes yet", style="dim"))
    return table


def player_line(player: dict[str, Any] | None) -> Text:
    """Counts of the headless player."""
    if not player or not player.get("frames_decoded"):
        return Text("player   waiting for the first picture", style="dim")
    latency = player["latency"]
    delay = f", {latency['p50_ms']:.0f} ms from drawing to decoding" if latency else ""
    return Text(
        f"player   {player['frames_decoded']} pictures, {player['frames_lost']} lost, "
        f"{player['gaps_over_200ms']} gaps over 200 ms, {player['audio_frames']} audio frames{delay}"
    )


def summary_table(result: dict[str, Any]) -> RenderableType:
    """The verdict: each check, and whether it holds."""
    table = _table("Checks", "", "what", "value", "bound")
    for column in table.columns[1:]:
        column.no_wrap = False
    for check in result["checks"]:
        mark = Text("✓", style="green") if check["passed"] else Text("✗", style="bold red")
        table.add_row(mark, check["name"], str(check["value"]), check["bound"])
    words = ("Media crossed the mesh.", "bold green") if result["passed"] else ("Not passed.", "bold red")
    return Group(table, Text(*words))


def _tracks_at(status: dict[str, Any] | None, stream: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """The tracks of *stream* as the node with this *status* sees them, by number."""
    for mine in (status or {"publications": []})["publications"]:
        if (mine["room"], mine["participant"]) == (stream["room"], stream["participant"]):
            return {track["track"]: track for track in mine["tracks"]}
    return {}


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = column.startswith(">")
        table.add_column(column.lstrip(">"), justify="right" if numbers else "left", no_wrap=True)
    return table


def _ms(value: float) -> str:
    return f"{value:.1f} ms"
