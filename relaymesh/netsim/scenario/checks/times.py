"""Times that cannot be: joins after the end, faults that outlast the run."""

from __future__ import annotations

from collections.abc import Iterator

from relaymesh.netsim.scenario.checks.reading import Finding, Mapping, entries, mapping, number, participants
from relaymesh.topology.source import Path


def check_times(data: Mapping) -> Iterator[Finding]:
    """Times that do not fit the length of the run, or each other."""
    duration = number(data, "duration_s")
    if duration is None:
        return
    warmup = number(data, "warmup_s", 5.0)
    if warmup is not None and warmup >= duration:
        at: Path = ("warmup_s",) if "warmup_s" in data else ("duration_s",)
        yield at, f"nothing is left to measure: the warm-up takes {warmup:g} s, the run {duration:g} s"
    for path, _, entry in participants(data):
        yield from _presence(path, entry, duration)
    for index, fault in entries(data, "faults"):
        yield from _fault_times(("faults", index), fault, duration)


def _presence(path: Path, entry: Mapping, duration: float) -> Iterator[Finding]:
    join, span = number(entry, "join_s", 0.0), entry.get("join")
    at: Path = (*path, "join_s")
    if isinstance(span, dict):
        start, join, at = number(span, "from_s", 0.0), number(span, "to_s"), (*path, "join", "to_s")
        if start is not None and join is not None and join < start:
            yield at, f"{join:g} s is before from_s, {start:g} s"
    if join is not None and join >= duration:
        yield at, f"{join:g} s is not before the end of the run, {duration:g} s"
    yield from _steps(path, entry, duration)
    leave = number(entry, "leave_s")
    if leave is not None and join is not None and leave <= join:
        yield (*path, "leave_s"), f"leaves at {leave:g} s, but joins at {join:g} s"
    if leave is not None and leave > duration:
        yield (*path, "leave_s"), f"{leave:g} s is after the end of the run, {duration:g} s"


def _steps(path: Path, entry: Mapping, duration: float) -> Iterator[Finding]:
    before = 0.0
    for index, step in entries(mapping(entry, "access"), "steps"):
        at = number(step, "at_s")
        place: Path = (*path, "access", "steps", index, "at_s")
        if at is None:
            continue
        if at >= duration:
            yield place, f"{at:g} s is not before the end of the run, {duration:g} s"
        elif at < before:
            yield place, f"{at:g} s is before the step above, {before:g} s"
        before = at


def _fault_times(path: Path, fault: Mapping, duration: float) -> Iterator[Finding]:
    at = number(fault, "at_s")
    if at is None:
        return
    if at >= duration:
        yield (*path, "at_s"), f"{at:g} s is not before the end of the run, {duration:g} s"
        return
    for key in ("for_s", "restart_after_s"):
        lasts = number(fault, key)
        if lasts is not None and at + lasts > duration:
            why = f"ends at {at + lasts:g} s, after the end of the run, {duration:g} s"
            yield (*path, key), f"{why}; without {key} it lasts to the end"
    count, every = number(fault, "count"), number(fault, "every_s")
    if count is not None and every is not None and at + count * every > duration:
        why = f"its {count:g} edits end at {at + count * every:g} s"
        yield (*path, "count"), f"{why}, after the end of the run, {duration:g} s"
    until = number(fault, "until_s")
    if until is not None and not at < until <= duration:
        yield (*path, "until_s"), f"{until:g} s is not between at_s, {at:g} s, and the end, {duration:g} s"
    period, down = number(fault, "period_s"), number(fault, "down_s")
    if period is not None and down is not None and down >= period:
        yield (*path, "down_s"), f"{down:g} s is not less than period_s, {period:g} s: it never comes up"
    ramp, lasts = number(fault, "ramp_s"), number(fault, "for_s")
    if ramp is not None and ramp > (duration - at if lasts is None else lasts):
        yield (*path, "ramp_s"), f"{ramp:g} s is longer than the fault itself"
