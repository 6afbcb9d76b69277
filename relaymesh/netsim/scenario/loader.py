"""From a scenario file to a :class:`~relaymesh.netsim.scenario.resolved.Scenario`, or to all that is wrong.

The stages: text → tree with places (:mod:`relaymesh.topology.source`) → overrides → types and ranges
(:mod:`file`) and cross-checks (:mod:`checks`), both always → the scenario, only if nothing was found.
Whatever the bytes are, the only exception is :class:`ScenarioError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from relaymesh.netsim.scenario.checks import cross_check
from relaymesh.netsim.scenario.conditions import AccessLink, BurstByMean, BurstByStates, LinkOverride
from relaymesh.netsim.scenario.expectations import Expectation, ExpectedFail, Scope
from relaymesh.netsim.scenario.faults import FAULTS
from relaymesh.netsim.scenario.file import ControllerEntry, ScenarioFile, Settings, UnderlayEntry
from relaymesh.netsim.scenario.resolved import Scenario
from relaymesh.netsim.scenario.traffic import (
    AudioTrack,
    GroupEntry,
    JoinSpan,
    ParticipantAccess,
    ParticipantEntry,
    RateStep,
    RoomEntry,
    Traffic,
    VideoTrack,
)
from relaymesh.netsim.underlay import UnderlayError, lay_over, load_underlay
from relaymesh.topology import Topology, TopologyError, parse_topology
from relaymesh.topology.checks import cross_check as topology_cross_check
from relaymesh.topology.checks import suggestion
from relaymesh.topology.formats import Assumptions, topology_text
from relaymesh.topology.problems import EMPTY_VALUE, MAX_PROBLEMS, Problem, path_text, shown
from relaymesh.topology.schema import known_keys as topology_keys
from relaymesh.topology.source import Path, Place, SourceError, SourceNode, read_source

MAX_FILE_BYTES = 1024 * 1024

_MESSAGES = {
    "string_type": "must be text",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "finite_number": "must be a finite number",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "list_type": "must be a list",
    "string_pattern_mismatch": "is not a name: letters, digits, '.', '_', '-', the first a letter or digit",
}
_PARTICIPANTS = ("traffic", "rooms", "participants")
_MODELS: dict[tuple[str, ...], tuple[type[BaseModel], ...]] = {
    (): (ScenarioFile,),
    ("traffic",): (Traffic,),
    ("traffic", "rooms"): (RoomEntry,),
    _PARTICIPANTS: (ParticipantEntry, GroupEntry),
    (*_PARTICIPANTS, "join"): (JoinSpan,),
    (*_PARTICIPANTS, "access"): (ParticipantAccess,),
    (*_PARTICIPANTS, "access", "steps"): (RateStep,),
    (*_PARTICIPANTS, "publish"): (AudioTrack, VideoTrack),
    ("links",): (LinkOverride,),
    ("links", "burst"): (BurstByMean, BurstByStates),
    ("access",): (AccessLink,),
    ("access", "burst"): (BurstByMean, BurstByStates),
    ("expect",): (Expectation,),
    ("expect", "scope"): (Scope,),
    ("expected_fail",): (ExpectedFail,),
    ("settings",): (Settings,),
    ("controller",): (ControllerEntry,),
    ("underlay",): (UnderlayEntry,),
}
_FAULTS = {str(get_args(fault.model_fields["kind"].annotation)[0]): fault for fault in FAULTS}


class ScenarioError(Exception):
    """The file is no scenario. ``problems`` holds every reason, in the file's order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def load_scenario(path: FilePath | str, overrides: Mapping[str, str] | None = None) -> Scenario:
    """The scenario in the file at *path* (YAML or JSON, UTF-8, at most 1 MiB).

    *overrides* are values by dotted path (``duration_s``, ``faults[0].at_s``, ``settings.dead_after_ms``),
    as text that is read like a value in the file.

    Raises:
        ScenarioError: the file cannot be read, or is no scenario; with all reasons.
    """
    file = FilePath(path)
    problems = _Problems(str(path))
    text = _read(file, problems)
    return parse_scenario(text, file, overrides)


def parse_scenario(
    text: str, path: FilePath = FilePath("<scenario>"), overrides: Mapping[str, str] | None = None
) -> Scenario:
    """The scenario that *text* describes; names of files in it are relative to *path*'s folder.

    Raises:
        ScenarioError: with every problem found, at most ``MAX_PROBLEMS`` and a count of the rest.
    """
    problems = _Problems(str(path))
    try:
        root, findings = read_source(text.removeprefix("\ufeff"))
    except SourceError as error:
        raise ScenarioError((Problem(str(path), *error.place, "", error.message),)) from None
    problems.root = root
    for at, place, message in findings:
        problems.add(at, message, place)
    given = tuple((overrides or {}).items())
    for key, value in given:
        _override(root, key, value, problems)
    data = root.plain()
    file = _validated(data, problems)
    topology, text_of_topology = _topology(data, path, problems)
    if topology is not None and file is not None and file.underlay is not None:
        topology, text_of_topology = _laid_over(topology, file.underlay, path, problems)
    for at, message in cross_check(data, topology):
        problems.add(at, message)
    _refuse_missing_traces(data, path, problems)
    for empty in root.empty_values():
        if empty not in problems.paths:
            problems.add(empty, EMPTY_VALUE)
    problems.raise_if_any()
    assert file is not None, "a file that is not valid has problems"
    assert topology is not None, "a topology that is not valid is a problem"
    return Scenario(path, file, topology, text_of_topology, given)


def _read(file: FilePath, problems: _Problems) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ScenarioError((Problem(str(file), 1, 1, "", f"cannot be read: {reason}"),)) from None
    if len(data) > MAX_FILE_BYTES:
        raise ScenarioError((Problem(str(file), 1, 1, "", f"larger than {MAX_FILE_BYTES >> 20} MiB"),))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ScenarioError((Problem(str(file), line, column, "", "not UTF-8"),)) from None


class _Problems:
    """Collects, places and orders what is found."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.root = SourceNode((1, 1), None)
        self.paths: set[Path] = set()
        self.set_by: dict[Path, str] = {}  # what an override put there → how it was written
        self._found: list[Problem] = []
        self._elsewhere: list[Problem] = []  # in the topology's own file
        self._omitted = 0

    def add(self, path: Path, message: str, place: Place | None = None, blamed: Path | None = None) -> None:
        """A problem at *path*; *blamed* is what caused it, where that is something below."""
        if len(self._found) >= MAX_PROBLEMS:
            self._omitted += 1
            return
        self.paths.add(path)
        blamed = blamed or path
        for length in range(len(blamed) + 1):
            if blamed[:length] in self.set_by:
                source = f"--set {self.set_by[blamed[:length]]}"
                self._found.append(Problem(source, 1, 1, path_text(path), message))
                return
        line, column = place or self.root.locate(path)
        self._found.append(Problem(self.source, line, column, path_text(path), message))

    def add_elsewhere(self, problems: tuple[Problem, ...]) -> None:
        self._elsewhere.extend(problems)

    def raise_if_any(self) -> None:
        found = sorted(self._found, key=lambda problem: (problem.line, problem.column))
        if self._omitted:
            last = found[-1]
            found.append(Problem(self.source, last.line, last.column, "", f"and {self._omitted} more"))
        found += self._elsewhere
        if found:
            raise ScenarioError(tuple(found))


# --- overrides --------------------------------------------------------------------------------------

_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)|\[([0-9]{1,6})\]")


def _override(root: SourceNode, key: str, value: str, problems: _Problems) -> None:
    """Put *value* at the dotted path *key* of the tree."""
    written = f"{key}={value}"
    steps: list[str | int] = []
    for part in key.split("."):
        found = list(_STEP.finditer(part))
        if not found or "".join(match[0] for match in found) != part:
            problems.add_elsewhere((Problem(f"--set {written}", 1, 1, "", "not a path like faults[0].at_s"),))
            return
        steps += [match[1] if match[2] is None else int(match[2]) for match in found]
    path = tuple(steps)
    problems.set_by[path] = written
    try:
        fresh, _ = read_source(value) if value.strip() else (SourceNode((1, 1), None), [])
    except SourceError as error:
        problems.add(path, error.message)
        return
    node = root
    for position, step in enumerate(path):
        last = position == len(path) - 1
        if node.value is None and isinstance(step, str):
            node.value = {}
        children = node.value
        absent = isinstance(children, dict) and step not in children
        if absent and not last and isinstance(path[position + 1], int):
            problems.add(path, f"there is no {path_text(path[: position + 2])}")
            return
        if isinstance(children, dict) and isinstance(step, str):
            children[step] = fresh if last else children.get(step, SourceNode(node.place, None))
            node.key_places.setdefault(step, node.place)
            node = children[step]
        elif isinstance(children, list) and isinstance(step, int) and step < len(children):
            children[step] = fresh if last else children[step]
            node = children[step]
        else:
            problems.add(path, f"there is no {path_text(path[: position + 1])}")
            return


# --- the schema -------------------------------------------------------------------------------------


def _validated(data: object, problems: _Problems) -> ScenarioFile | None:
    try:
        return ScenarioFile.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _add_schema_problem(dict(detail), problems)
        return None


def _add_schema_problem(detail: dict[str, Any], problems: _Problems) -> None:
    kind, value = detail["type"], detail["input"]
    steps = [step for step in detail["loc"] if not (isinstance(step, str) and step.startswith("<"))]
    tag = None
    if steps[:1] == ["faults"] and len(steps) > 2:
        tag = steps.pop(2)
    path: Path = tuple(steps)
    name = path[-1] if path else ""
    if kind == "missing":
        problems.add(path[:-1], f"missing key '{name}'")
    elif kind == "extra_forbidden":
        hint = suggestion(str(name), _known_keys(path[:-1], tag))
        place = problems.root.locate(path, key=True)
        problems.add(path[:-1], f"unknown key {shown(str(name))}{hint}", place, path)
    elif kind == "union_tag_not_found":
        problems.add(path, f"missing key 'kind': one of {', '.join(_FAULTS)}")
    elif kind == "union_tag_invalid":
        wrong = str(detail["ctx"]["tag"])
        hint = suggestion(wrong, list(_FAULTS)) or f"; there are {', '.join(_FAULTS)}"
        problems.add((*path, "kind"), f"no fault is called {shown(wrong)}{hint}")
    elif name == "between" and kind in ("too_short", "too_long"):
        problems.add(path, f"must name two ends, not {len(value)}")
    elif kind == "string_pattern_mismatch":
        rule = "has control characters" if name in ("title", "description", "reason") else _MESSAGES[kind]
        problems.add(path, f"{shown(value)} {rule}")
    else:
        message = _MESSAGES.get(kind) or re.sub("^(Input|List|String) should", "must", detail["msg"])
        message = message.partition(" after validation")[0]
        quoting = " (write it in quotes)" if kind == "string_type" and isinstance(value, int | float) else ""
        problems.add(path, f"{message}, not {shown(value)}{quoting}")


def _known_keys(path: Path, tag: object) -> list[str]:
    names = tuple(step for step in path if isinstance(step, str))
    if names[:1] == ("topology",):
        return topology_keys(path[1:])
    if names == ("faults",):
        return list(_FAULTS[str(tag)].model_fields) if tag in _FAULTS else []
    return [key for entry in _MODELS.get(names, ()) for key in entry.model_fields]


# --- files beside it --------------------------------------------------------------------------------


def _topology(data: object, path: FilePath, problems: _Problems) -> tuple[Topology | None, str]:
    """The topology the scenario names or holds; None, and problems, where it is none."""
    wanted = data.get("topology") if isinstance(data, dict) else None
    if isinstance(wanted, str) and wanted:
        file = path.parent / wanted
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            problems.add(("topology",), f"{shown(wanted)} cannot be read: {reason}")
            return None, ""
        try:
            return parse_topology(text, str(file)), text
        except TopologyError as error:
            problems.add(("topology",), f"{shown(wanted)} is no topology, see below")
            problems.add_elsewhere(error.problems)
            return None, ""
    if not isinstance(wanted, dict):
        return None, ""
    for at, message in topology_cross_check(wanted):
        problems.add(("topology", *at), message)
    text = json.dumps(wanted)
    try:
        return parse_topology(text, "<topology>"), text
    except (TopologyError, ValueError):
        return None, ""  # the schema and the cross-checks have said why


def _laid_over(
    topology: Topology, below: UnderlayEntry, path: FilePath, problems: _Problems
) -> tuple[Topology, str]:
    """*topology* over the network *below*; itself, and problems, where it does not fit."""
    try:
        graph = load_underlay(path.parent / below.file, Assumptions(stretch=below.stretch)).topology
        topology = lay_over(topology, graph, below.places)
    except TopologyError as error:
        problems.add(("underlay", "file"), f"{shown(below.file)} is no graph, see below")
        problems.add_elsewhere(error.problems)
    except UnderlayError as error:
        for message in error.problems:
            problems.add(("underlay", "places") if below.places else ("underlay",), message)
    return topology, topology_text(topology)


def _refuse_missing_traces(data: object, path: FilePath, problems: _Problems) -> None:
    entries: list[tuple[Path, object]] = []
    if isinstance(data, dict):
        entries = [(("access",), data.get("access"))]
        for key in ("links", "faults"):
            found = data.get(key)
            entries += [((key, i), entry) for i, entry in enumerate(found if isinstance(found, list) else [])]
    for at, entry in entries:
        trace = entry.get("trace") if isinstance(entry, dict) else None
        if isinstance(trace, str) and not (path.parent / trace).is_file():
            problems.add((*at, "trace"), f"no file {shown(trace)} beside the scenario")
