"""Participants and tracks that cannot be: names twice, players of nobody."""

from __future__ import annotations

from collections.abc import Iterator

from relaymesh.netsim.scenario.checks.reading import (
    Finding,
    Mapping,
    entries,
    mapping,
    number,
    participants,
    texts,
)
from relaymesh.netsim.scenario.traffic import MAX_PARTICIPANTS
from relaymesh.topology import Topology
from relaymesh.topology.checks import suggestion
from relaymesh.topology.source import Path


def check_traffic(data: Mapping, topology: Topology | None) -> Iterator[Finding]:
    """Rooms and participants that share a name, and players of nobody."""
    yield from _duplicates(entries(mapping(data, "traffic"), "rooms"), ("traffic", "rooms"))
    publishers: dict[str, set[str]] = {}
    everybody: dict[str, dict[str, Path]] = {}
    total = 0
    for path, room, entry in participants(data):
        names = _expanded(entry)
        total += len(names)
        if total > MAX_PARTICIPANTS:
            yield path, f"more than {MAX_PARTICIPANTS} participants"
            return
        known = everybody.setdefault(room, {})
        for name in names:
            if name in known:
                key = "name" if "name" in entry else "prefix"
                yield (*path, key), f"'{name}' is already in room '{room}'"
                break
            known[name] = path
        if entry.get("publish"):
            publishers.setdefault(room, set()).update(names)
        yield from _kinds(path, entry)
    for path, room, entry in participants(data):
        for index, name in texts(entry.get("play")):
            if name not in everybody[room]:
                hint = suggestion(name, list(everybody[room]))
                yield (*path, "play", index), f"nobody called '{name}' in room '{room}'{hint}"
            elif name not in publishers.get(room, set()):
                yield (*path, "play", index), f"'{name}' publishes nothing"
            elif name == entry.get("name"):
                yield (*path, "play", index), f"'{name}' plays itself"


def _expanded(entry: Mapping) -> list[str]:
    name, prefix, count = entry.get("name"), entry.get("prefix"), entry.get("count")
    if isinstance(name, str):
        return [name]
    if isinstance(prefix, str) and isinstance(count, int):
        return [f"{prefix}-{index + 1}" for index in range(max(0, min(count, MAX_PARTICIPANTS + 1)))]
    return []


def _kinds(path: Path, entry: Mapping) -> Iterator[Finding]:
    tracks = entry.get("publish")
    seen: set[object] = set()
    for index, track in enumerate(tracks if isinstance(tracks, list) else []):
        kind = track.get("kind") if isinstance(track, dict) else track
        if isinstance(track, dict):
            yield from _layers((*path, "publish", index), track)
        if isinstance(kind, str) and kind in seen:
            yield (*path, "publish", index), f"a second {kind} track"
        seen.add(kind if isinstance(kind, str) else None)


def _layers(path: Path, track: Mapping) -> Iterator[Finding]:
    if (number(track, "layers") or 1) > 1 and (number(track, "spatial_layers") or 1) > 1:
        yield (*path, "spatial_layers"), "a track has either simulcast layers or spatial layers"
    if track.get("ignores_pli") is True and "keyframe_s" not in track:
        yield (*path, "ignores_pli"), "without keyframe_s nobody who joins later would ever have a picture"


def _duplicates(entries: Iterator[tuple[int, Mapping]], path: Path) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, entry in entries:
        name = entry.get("name")
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield (*path, index, "name"), f"'{name}' is already {path[-1]}[{first[name]}]"
