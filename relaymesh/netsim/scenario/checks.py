"""What one part of a scenario file says about another, and about its topology.

In: the file's values as plain data, as they were written, perhaps wrong in
other ways, and the topology if there is one. Out: problems by path. These
checks look only at what is well formed, so that they and the schema's can be
reported together: a misspelt key in one place does not hide an impossible
time in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from relaymesh.netsim.metrics import METRICS, metric_names
from relaymesh.netsim.scenario.model import CONTROLLER, MAX_PARTICIPANTS, Conditions
from relaymesh.topology import Topology, TopologyError
from relaymesh.topology.checks import suggestion
from relaymesh.topology.edits import with_edits
from relaymesh.topology.source import Path

Finding = tuple[Path, str]
Mapping = dict[str, object]
_CHANGES = tuple(Conditions.model_fields)


def cross_check(data: object, topology: Topology | None) -> Iterator[Finding]:
    """Everything that is wrong between the entries of *data*; names only where there is a topology."""
    if not isinstance(data, dict):
        return
    yield from _times(data)
    yield from _traffic(data, topology)
    yield from _faults(data, topology)
    yield from _expectations(data)
    yield from _settings(data)
    if topology is not None:
        yield from _names(data, topology)


# --- reading what may be malformed ------------------------------------------------------------------


def _mapping(value: object, *steps: str) -> Mapping:
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _entries(data: Mapping, key: str) -> Iterator[tuple[int, Mapping]]:
    """The mappings in the list under *key*, with their positions in it."""
    entries = data.get(key)
    if isinstance(entries, list):
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                yield index, entry


def _texts(value: object) -> list[tuple[int, str]]:
    entries = value if isinstance(value, list) else []
    return [(index, entry) for index, entry in enumerate(entries) if isinstance(entry, str)]


def _number(entry: Mapping, key: str, default: float | None = None) -> float | None:
    value = entry.get(key, default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else None  # type: ignore[arg-type]


def _participants(data: Mapping) -> Iterator[tuple[Path, str, Mapping]]:
    """Every participant and group: its path, its room's name and itself."""
    for index, room in _entries(_mapping(data, "traffic"), "rooms"):
        for position, entry in _entries(room, "participants"):
            yield (
                ("traffic", "rooms", index, "participants", position),
                str(room.get("name")),
                entry,
            )


# --- times ------------------------------------------------------------------------------------------


def _times(data: Mapping) -> Iterator[Finding]:
    duration = _number(data, "duration_s")
    if duration is None:
        return
    warmup = _number(data, "warmup_s", 5.0)
    if warmup is not None and warmup >= duration:
        at: Path = ("warmup_s",) if "warmup_s" in data else ("duration_s",)
        yield at, f"nothing is left to measure: the warm-up takes {warmup:g} s, the run {duration:g} s"
    for path, _, entry in _participants(data):
        yield from _presence(path, entry, duration)
    for index, fault in _entries(data, "faults"):
        yield from _fault_times(("faults", index), fault, duration)


def _presence(path: Path, entry: Mapping, duration: float) -> Iterator[Finding]:
    join, span = _number(entry, "join_s", 0.0), entry.get("join")
    at: Path = (*path, "join_s")
    if isinstance(span, dict):
        start, join, at = _number(span, "from_s", 0.0), _number(span, "to_s"), (*path, "join", "to_s")
        if start is not None and join is not None and join < start:
            yield at, f"{join:g} s is before from_s, {start:g} s"
    if join is not None and join >= duration:
        yield at, f"{join:g} s is not before the end of the run, {duration:g} s"
    leave = _number(entry, "leave_s")
    if leave is not None and join is not None and leave <= join:
        yield (*path, "leave_s"), f"leaves at {leave:g} s, but joins at {join:g} s"
    if leave is not None and leave > duration:
        yield (*path, "leave_s"), f"{leave:g} s is after the end of the run, {duration:g} s"


def _fault_times(path: Path, fault: Mapping, duration: float) -> Iterator[Finding]:
    at = _number(fault, "at_s")
    if at is None:
        return
    if at >= duration:
        yield (*path, "at_s"), f"{at:g} s is not before the end of the run, {duration:g} s"
        return
    for key in ("for_s", "restart_after_s"):
        lasts = _number(fault, key)
        if lasts is not None and at + lasts > duration:
            why = f"ends at {at + lasts:g} s, after the end of the run, {duration:g} s"
            yield (*path, key), f"{why}; without {key} it lasts to the end"
    count, every = _number(fault, "count"), _number(fault, "every_s")
    if count is not None and every is not None and at + count * every > duration:
        why = f"its {count:g} edits end at {at + count * every:g} s"
        yield (*path, "count"), f"{why}, after the end of the run, {duration:g} s"
    until = _number(fault, "until_s")
    if until is not None and not at < until <= duration:
        yield (*path, "until_s"), f"{until:g} s is not between at_s, {at:g} s, and the end, {duration:g} s"
    period, down = _number(fault, "period_s"), _number(fault, "down_s")
    if period is not None and down is not None and down >= period:
        yield (*path, "down_s"), f"{down:g} s is not less than period_s, {period:g} s: it never comes up"
    ramp, lasts = _number(fault, "ramp_s"), _number(fault, "for_s")
    if ramp is not None and ramp > (duration - at if lasts is None else lasts):
        yield (*path, "ramp_s"), f"{ramp:g} s is longer than the fault itself"


# --- traffic ----------------------------------------------------------------------------------------


def _traffic(data: Mapping, topology: Topology | None) -> Iterator[Finding]:
    yield from _duplicates(_entries(_mapping(data, "traffic"), "rooms"), ("traffic", "rooms"))
    publishers: dict[str, set[str]] = {}
    everybody: dict[str, dict[str, Path]] = {}
    total = 0
    for path, room, entry in _participants(data):
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
    for path, room, entry in _participants(data):
        for index, name in _texts(entry.get("play")):
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
        if isinstance(kind, str) and kind in seen:
            yield (*path, "publish", index), f"a second {kind} track"
        seen.add(kind if isinstance(kind, str) else None)


def _duplicates(entries: Iterator[tuple[int, Mapping]], path: Path) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, entry in entries:
        name = entry.get("name")
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield (*path, index, "name"), f"'{name}' is already {path[-1]}[{first[name]}]"


# --- faults -----------------------------------------------------------------------------------------


def _faults(data: Mapping, topology: Topology | None) -> Iterator[Finding]:
    for index, fault in _entries(data, "faults"):
        path: Path = ("faults", index)
        kind = fault.get("kind")
        if kind == "conditions" and not any(name in fault for name in _CHANGES):
            yield path, f"changes nothing: give at least one of {', '.join(_CHANGES)}"
        if kind == "brown-out" and ("mbps" in fault) == ("factor" in fault):
            yield path, "give either mbps or factor"
        elif kind == "brown-out" and "factor" in fault and topology is not None:
            yield from _has_rate((*path, "factor"), fault, data, topology)
        if topology is not None and (kind == "brown-out" or (kind == "conditions" and "rate_mbps" in fault)):
            yield from _has_trace(path, fault, data, topology)
        if kind == "partition" and topology is not None:
            yield from _groups(path, fault, topology)
        if kind == "apply-topology" and topology is not None:
            yield from _edit(path, fault, topology)


def _edit(path: Path, fault: Mapping, topology: Topology) -> Iterator[Finding]:
    """What is wrong with the topology an edit would make; said of the edit as a whole."""
    links = [link for _, link in _entries(fault, "links")]
    pins = None if "pins" not in fault else [pin for _, pin in _entries(fault, "pins")]
    try:
        with_edits(topology, links, pins)
    except TopologyError as error:
        for problem in error.problems[:10]:
            yield path, f"makes no topology: {problem.path}: {problem.message}"


def _has_trace(path: Path, fault: Mapping, data: Mapping, topology: Topology) -> Iterator[Finding]:
    """A rate given to a link that goes by a trace would change nothing."""
    if "trace" in fault:
        return
    links = _directed(fault, topology)
    for index, entry in _entries(data, "links"):
        if "trace" in entry and links & _directed(entry, topology):
            why = f"this link goes by the trace of links[{index}] and has no rate to change"
            yield (*path, "between"), f"{why}; give a 'conditions' fault with another trace"
            return


def _directed(entry: Mapping, topology: Topology) -> set[tuple[str, str]]:
    """The links between nodes, one direction each, that *entry* is about."""
    ends = [_nodes_at(topology, name) for _, name in _texts(entry.get("between"))]
    if len(ends) != 2:
        return set()
    forward, direction = set(product(*ends)), entry.get("direction")
    backward = {(b, a) for a, b in forward}
    return forward if direction == "forward" else backward if direction == "backward" else forward | backward


def _has_rate(path: Path, fault: Mapping, data: Mapping, topology: Topology) -> Iterator[Finding]:
    ends = [name for _, name in _texts(fault.get("between"))]
    overridden = [
        {name for _, name in _texts(entry.get("between"))}
        for _, entry in _entries(data, "links")
        if "rate_mbps" in entry
    ]
    if len(ends) != 2 or set(ends) in overridden or not all(_nodes_at(topology, end) for end in ends):
        return
    link = topology.link(*ends) if _same_kind(topology, ends) else None
    if link is None or link.capacity_mbps is None:
        yield path, "this link has no rate to take a part of; give mbps, or the link a rate_mbps in 'links'"


def _same_kind(topology: Topology, ends: list[str]) -> bool:
    regions = {region.name for region in topology.regions}
    nodes = {node.name for node in topology.nodes}
    return set(ends) <= regions or set(ends) <= nodes


def _groups(path: Path, fault: Mapping, topology: Topology) -> Iterator[Finding]:
    groups = fault.get("groups")
    seen: dict[str, int] = {}
    for number, group in enumerate(groups if isinstance(groups, list) else []):
        for position, name in _texts(group):
            members = [CONTROLLER] if name == CONTROLLER else _nodes_at(topology, name)
            for member in members:
                if seen.setdefault(member, number) != number:
                    where = f"groups[{seen[member]}]"
                    yield (*path, "groups", number, position), f"'{member}' is already in {where}"


# --- names ------------------------------------------------------------------------------------------


def _nodes_at(topology: Topology, name: str) -> list[str]:
    return [node.name for node in topology.nodes if name in (node.name, node.region)]


def _names(data: Mapping, topology: Topology) -> Iterator[Finding]:
    for path, name, more in _named(data):
        known = [*(region.name for region in topology.regions), *(node.name for node in topology.nodes)]
        if name not in known and name not in more:
            hint = suggestion(name, known)
            yield path, f"no region or node named '{name}' in topology '{topology.name}'{hint}"
        elif "participants" in path and not _edges_at(topology, name):
            yield path, f"'{name}' has no node that is an edge"
    yield from _ends(data, topology)


def _edges_at(topology: Topology, name: str) -> bool:
    return any("edge" in topology.node(node).roles for node in _nodes_at(topology, name))


def _named(data: Mapping) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """Every place that names a region or node, the name, and what else it may be."""
    for path, _, entry in _participants(data):
        at = entry.get("at")
        if isinstance(at, str):
            yield (*path, "at"), at, ()
        for index, name in _texts(at):
            yield (*path, "at", index), name, ()
    at = _mapping(data, "controller").get("at")
    if isinstance(at, str):
        yield ("controller", "at"), at, ()
    for key in ("links", "faults"):
        for index, entry in _entries(data, key):
            for position, name in _texts(entry.get("between")):
                yield (key, index, "between", position), name, ()
            if isinstance(node := entry.get("node"), str):
                yield (key, index, "node"), node, ()
            groups = entry.get("groups")
            for number, group in enumerate(groups if isinstance(groups, list) else []):
                for position, name in _texts(group):
                    yield (key, index, "groups", number, position), name, (CONTROLLER,)


def _ends(data: Mapping, topology: Topology) -> Iterator[Finding]:
    for key in ("links", "faults"):
        for index, entry in _entries(data, key):
            ends = [name for _, name in _texts(entry.get("between"))]
            nodes = [_nodes_at(topology, end) for end in ends]
            if len(ends) != 2 or not all(nodes):
                continue
            path: Path = (key, index, "between")
            if ends[0] == ends[1] and len(nodes[0]) == 1:
                yield (*path, 1), f"'{ends[1]}' is linked to itself"
            elif not any(a != b and topology.may_peer(a, b) for a, b in product(*nodes)):
                yield path, f"there is no link between '{ends[0]}' and '{ends[1]}' in '{topology.name}'"


# --- expectations and settings ----------------------------------------------------------------------


def _expectations(data: Mapping) -> Iterator[Finding]:
    names = metric_names()
    used: set[str] = set()
    for index, entry in _entries(data, "expect"):
        path: Path = ("expect", index)
        metric = entry.get("metric")
        low, high = _number(entry, "min"), _number(entry, "max")
        if not any(key in entry for key in ("min", "max", "equals")):
            yield path, "no bound: give max, min or equals"
        if low is not None and high is not None and low > high:
            yield (*path, "min"), f"{low:g} is more than max, {high:g}"
        if isinstance(metric, str):
            used |= {metric, metric.partition(".")[0]}
            if metric not in names:
                yield (*path, "metric"), f"no metric named '{metric[:64]}'{_metric_hint(metric, names)}"
            else:
                yield from _scope(path, metric, _mapping(entry, "scope"), data)
    for index, name in _texts(_mapping(data, "expected_fail").get("metrics")):
        if name not in used:
            yield ("expected_fail", "metrics", index), f"nothing is expected of '{name[:64]}'"


def _metric_hint(metric: str, names: list[str]) -> str:
    known = METRICS.get(metric)
    if known is not None and known.quantiles:
        return f"; there are {', '.join(f'{metric}.{name}' for name in known.quantiles)}"
    return suggestion(metric, names)


def _scope(path: Path, metric: str, scope: Mapping, data: Mapping) -> Iterator[Finding]:
    if not scope:
        return
    if not METRICS[metric.partition(".")[0]].by_player:
        yield (*path, "scope"), f"'{metric}' is of the whole run and has no scope"
    rooms = [entry.get("name") for _, entry in _entries(_mapping(data, "traffic"), "rooms")]
    room, fault = scope.get("room"), scope.get("fault")
    gaps = metric.startswith(("media_gap_ms", "excess_gap_ms"))
    given = data.get("faults")
    faults = given if isinstance(given, list) else []
    if scope.get("affected") is True and not gaps:
        yield (*path, "scope", "affected"), "only media_gap_ms and excess_gap_ms are known by fault"
    elif scope.get("affected") is True and all(_shows_nothing(entry) for entry in faults):
        yield (*path, "scope", "affected"), "there is no fault that could affect anybody"
    if isinstance(room, str) and room not in rooms:
        yield (*path, "scope", "room"), f"no room named '{room[:64]}'"
    if not isinstance(fault, int):
        return
    if fault >= len(faults):
        yield (*path, "scope", "fault"), f"there is no faults[{fault}]"
    elif not gaps:
        yield (*path, "scope", "fault"), "only media_gap_ms and excess_gap_ms are known by fault"
    elif fault >= 0 and _shows_nothing(faults[fault]):
        yield (*path, "scope", "fault"), f"faults[{fault}] is a clock-skew, which has no gaps of its own"


def _shows_nothing(fault: object) -> bool:
    return isinstance(fault, dict) and fault.get("kind") == "clock-skew"


def _settings(data: Mapping) -> Iterator[Finding]:
    settings = _mapping(data, "settings")
    interval, dead = _number(settings, "probe_interval_ms", 50.0), _number(settings, "dead_after_ms", 200.0)
    if interval is not None and dead is not None and dead < 2 * interval:
        key = "dead_after_ms" if "dead_after_ms" in settings else "probe_interval_ms"
        yield (
            ("settings", key),
            f"dead_after_ms, {dead:g}, is less than two probe intervals of {interval:g} ms",
        )
