# ruff: noqa: E501, ISC004 - error messages stand here as they are
from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.netsim.scenario import Scenario, ScenarioError, load_scenario, parse_scenario

SQUARE = Path(__file__).parents[3] / "topologies" / "square.yaml"
HEAD = f"version: 1\nname: test\ntopology: {SQUARE}\nduration_s: 30\n"
TRAFFIC = "traffic: {rooms: [{name: r, participants: [{name: alice, at: a, publish: [audio]}, {name: bob, at: c}]}]}\n"


def scenario(text: str = "", **overrides: str) -> Scenario:
    return parse_scenario(HEAD + TRAFFIC + text, Path("s.yaml"), overrides)


def problems(text: str, overrides: dict[str, str] | None = None, head: str = HEAD + TRAFFIC) -> list[str]:
    """What is wrong, as `line:column path: message`; what stands in --set has no place."""
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(head + text, Path("s.yaml"), overrides)
    return [
        f"{found.line}:{found.column} {found.path}: {found.message}"
        if found.source == "s.yaml"
        else f"{found.source}: {found.message}"
        for found in caught.value.problems
    ]


def test_everything_wrong_is_said_at_once_with_its_place() -> None:
    text = (
        "trafic: 1\n"  # line 5
        "traffic:\n"
        "  rooms:\n"
        "    - name: r\n"
        "      participants:\n"
        "        - {name: alice, at: z, publish: [audio, vidoe], join_s: 50}\n"  # 10
        "        - {name: bob, at: a, play: [alicia], leave_s: 0}\n"
        "        - {prefix: bob, count: 2, at: [c, q], join: {from_s: 5, to_s: 2}}\n"
        "faults:\n"
        "  - {kind: link-cut, between: [a, c], at_s: 10}\n"
        "  - {kind: link-cutt, between: [a, t1], at_s: 10}\n"  # 15
        "  - {kind: flap, between: [a, t1], at_s: 100, period_s: 1, down_s: 2, untl_s: 8}\n"
        "  - {kind: node-crash, node: t9, at_s: 3, restart_after_s: 60}\n"
        "expect:\n"
        "  - {metric: media_gap_ms, max: 3}\n"
        "  - {metric: loop, equals: 0}\n"  # 20
    )
    assert problems(text, head=HEAD) == [
        "5:1 : unknown key 'trafic' (did you mean 'traffic'?)",
        "10:29 traffic.rooms[0].participants[0].at: no region or node named 'z' in topology 'square'",
        "10:49 traffic.rooms[0].participants[0].publish[1]: must be 'audio' or 'video', not 'vidoe'",
        "10:65 traffic.rooms[0].participants[0].join_s: 50 s is not before the end of the run, 30 s",
        "11:37 traffic.rooms[0].participants[1].play[0]: nobody called 'alicia' in room 'r' "
        "(did you mean 'alice'?)",
        "11:55 traffic.rooms[0].participants[1].leave_s: leaves at 0 s, but joins at 0 s",
        "12:43 traffic.rooms[0].participants[2].at[1]: no region or node named 'q' in topology 'square'",
        "12:71 traffic.rooms[0].participants[2].join.to_s: 2 s is before from_s, 5 s",
        "14:31 faults[0].between: there is no link between 'a' and 'c' in 'square'",
        "15:12 faults[1].kind: no fault is called 'link-cutt' (did you mean 'link-cut'?)",
        "16:42 faults[2].at_s: 100 s is not before the end of the run, 30 s",
        "16:71 faults[2]: unknown key 'untl_s' (did you mean 'until_s'?)",
        "17:30 faults[3].node: no region or node named 't9' in topology 'square'",
        "17:60 faults[3].restart_after_s: ends at 63 s, after the end of the run, 30 s; "
        "without restart_after_s it lasts to the end",
        "19:14 expect[0].metric: no metric named 'media_gap_ms'; there are media_gap_ms.p50, "
        "media_gap_ms.p99, media_gap_ms.max",
        "20:14 expect[1].metric: no metric named 'loop' (did you mean 'loops'?)",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("warmup_s: 30\n", "6:11 warmup_s: nothing is left to measure: the warm-up takes 30 s, the run 30 s"),
        ("controller: {at: x}\n", "6:18 controller.at: no region or node named 'x' in topology 'square'"),
        (
            "settings: {dead_after_ms: 60}\n",
            "6:27 settings.dead_after_ms: dead_after_ms, 60, is less than two probe intervals of 50 ms",
        ),
        ("seed: one\n", "6:7 seed: must be a whole number, not 'one'"),
        ("access:\n", "6:8 access: must be a mapping, not empty"),
        ("links: [{between: [a, t1], trace: gone.up}]\n", "6:35 links[0].trace: no file 'gone.up' beside the scenario"),
        ("links: [{between: [a, a], loss: 1}]\n", "6:23 links[0].between[1]: 'a' is linked to itself"),
        ("links: [{between: [a], loss: 1}]\n", "6:19 links[0].between: must name two ends, not 1"),
        (
            "faults: [{kind: brown-out, between: [a, t1], at_s: 1, factor: 0.5}]\n",
            "6:63 faults[0].factor: this link has no rate to take a part of; give mbps, or the link a rate_mbps "
            "in 'links'",
        ),
        (
            "links: [{between: [t1, a], direction: backward, trace: gone.up}]\n"
            "faults:\n"
            "  - {kind: brown-out, between: [t1, a], direction: forward, at_s: 1, mbps: 1}\n"
            "  - {kind: brown-out, between: [a, t1], direction: forward, at_s: 1, mbps: 1}\n"
            "  - {kind: conditions, between: [a, t1], at_s: 1, rate_mbps: 1}\n",
            "6:56 links[0].trace: no file 'gone.up' beside the scenario\n"
            "9:32 faults[1].between: this link goes by the trace of links[0] and has no rate to change; give a 'conditions' fault with another trace\n"
            "10:33 faults[2].between: this link goes by the trace of links[0] and has no rate to change; give a 'conditions' fault with another trace",
        ),
        ("faults: [{kind: brown-out, between: [a, t1], at_s: 1}]\n", "6:10 faults[0]: give either mbps or factor"),
        (
            "faults: [{kind: flap, between: [a, t1], at_s: 1, period_s: 1, down_s: 1}]\n",
            "6:71 faults[0].down_s: 1 s is not less than period_s, 1 s: it never comes up",
        ),
        (
            "faults: [{kind: flap, between: [a, t1], at_s: 9, period_s: 2, down_s: 1, until_s: 8}]\n",
            "6:83 faults[0].until_s: 8 s is not between at_s, 9 s, and the end, 30 s",
        ),
        (
            "faults: [{kind: conditions, between: [a, t1], at_s: 1, loss: 0.1, for_s: 2, ramp_s: 3}]\n",
            "6:85 faults[0].ramp_s: 3 s is longer than the fault itself",
        ),
        (
            "faults: [{kind: partition, groups: [[a, controller], [c, a]], at_s: 1}]\n",
            "6:58 faults[0].groups[1][1]: 'a' is already in groups[0]",
        ),
        ("expect: [{metric: loops}]\n", "6:10 expect[0]: no bound: give max, min or equals"),
        (
            "expect: [{metric: loops, max: 1, scope: {room: r}}]\n",
            "6:41 expect[0].scope: 'loops' is of the whole run and has no scope",
        ),
        (
            "expect: [{metric: residual_loss, max: 1, scope: {affected: true}}]\n",
            "6:60 expect[0].scope.affected: only media_gap_ms and excess_gap_ms are known by fault",
        ),
        (
            "expect: [{metric: media_gap_ms.max, max: 1, scope: {room: q, fault: 0}}]\n",
            "6:59 expect[0].scope.room: no room named 'q'\n6:69 expect[0].scope.fault: there is no faults[0]",
        ),
        (
            "expect: [{metric: media_gap_ms.max, max: 1, scope: {affected: true}}]\n",
            "6:63 expect[0].scope.affected: there is no fault that could affect anybody",
        ),
        (
            "faults: [{kind: clock-skew, node: a, at_s: 1}]\n"
            "expect: [{metric: media_gap_ms.max, max: 1, scope: {affected: true, fault: 0}}]\n",
            "7:63 expect[0].scope.affected: there is no fault that could affect anybody\n"
            "7:76 expect[0].scope.fault: faults[0] is a clock-skew, which has no gaps of its own",
        ),
        (
            "expect: [{metric: loops, max: 1, min: 2}]\n",
            "6:39 expect[0].min: 2 is more than max, 1",
        ),
        (
            "expected_fail: {reason: later, metrics: [loops]}\n",
            "6:42 expected_fail.metrics[0]: nothing is expected of 'loops'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be(text: str, expected: str) -> None:
    assert "\n".join(problems(text)) == expected


@pytest.mark.parametrize(
    ("participants", "expected"),
    [
        ("{name: a, at: a}, {name: a, at: c}", "name: 'a' is already in room 'r'"),
        ("{name: a, at: a, publish: [audio, audio]}", "publish[1]: a second audio track"),
        ("{name: a, at: a, publish: [audio]}, {name: b, at: c, play: [b]}", "play[0]: 'b' publishes nothing"),
        ("{name: a, at: a, publish: [audio], play: [a]}", "play[0]: 'a' plays itself"),
        ("{name: a, at: a, play: some}", "play: must be 'all' or 'none', not 'some'"),
        ("{prefix: a, count: 2001, at: [a]}", "count: must be less than or equal to 2000, not 2001"),
    ],
)
def test_who_cannot_be(participants: str, expected: str) -> None:
    text = f"traffic: {{rooms: [{{name: r, participants: [{participants}]}}]}}\n"
    found = problems(text, head=HEAD)
    assert any(problem.partition(" ")[2].partition("participants")[2].endswith(expected) for problem in found)


def test_a_bad_topology_is_told_by_its_own_places(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("version: 1\nname: m\nregions: [{name: a}, {name: a}]\n")
    (tmp_path / "s.yaml").write_text(HEAD.replace(str(SQUARE), "mesh.yaml") + TRAFFIC + "sed: 1\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(tmp_path / "s.yaml")
    assert [(Path(p.source).name, p.line, p.message.partition(",")[0]) for p in caught.value.problems] == [
        ("s.yaml", 3, "'mesh.yaml' is no topology"),
        ("s.yaml", 6, "unknown key 'sed' (did you mean 'seed'?)"),
        ("mesh.yaml", 3, "'a' is already regions[0]"),
    ]


def test_a_topology_may_stand_in_the_scenario() -> None:
    inline = (
        "version: 1\nname: test\nduration_s: 30\n"
        "topology: {version: 1, name: t, regions: [{name: a}, {name: c}], "
        "links: [{between: [a, c], delay_ms: 7}]}\n"
    )
    found = parse_scenario(inline + TRAFFIC)
    assert found.conditions("a", "c") == {"delay_ms": 7, "jitter_ms": 0, "loss": 0}
    assert json.loads(found.topology_text)["name"] == "t"
    assert problems("", head=inline.replace("{name: c}", "{nam: c}") + TRAFFIC) == [
        "4:54 topology.regions[1]: missing key 'name'",
        "4:55 topology.regions[1]: unknown key 'nam' (did you mean 'name'?)",
        "4:87 topology.links[0].between[1]: no region named 'c'",
    ]


def test_values_can_be_set_from_outside() -> None:
    text = "faults: [{kind: link-cut, between: [a, t1], at_s: 10}]\n"
    found = scenario(
        text,
        **{"duration_s": "50", "faults[0].at_s": "20", "settings.dead_after_ms": "300", "title": "'7'"},
    )
    assert (found.duration_s, found.faults[0].at_s, found.title) == (50, 20, "7")
    assert found.settings.controller() == {"dead_after_ms": 300}
    assert found.settings.node() == {}
    assert dict(found.overrides)["faults[0].at_s"] == "20"


def test_what_is_set_wrongly_is_told_as_such() -> None:
    found = problems(
        "",
        {"durations_s": "3", "settings.dead_after_ms": "1", "faults[0].at_s": "3", "a..b": "1", "seed": "["},
    )
    assert sorted(found) == [
        "--set a..b=1: not a path like faults[0].at_s",
        "--set durations_s=3: unknown key 'durations_s' (did you mean 'duration_s'?)",
        "--set faults[0].at_s=3: there is no faults[0]",
        "--set seed=[: not YAML: while parsing a flow node, did not find expected node content",
        "--set settings.dead_after_ms=1: dead_after_ms, 1, is less than two probe intervals of 50 ms",
        "--set settings.dead_after_ms=1: must be greater than or equal to 10, not 1",
    ]


def test_an_unreadable_file_is_a_problem_like_any_other(tmp_path: Path) -> None:
    for data in (None, b"\xff", b"", b"[" * 100, b"version: 1\n---\n", b"&a [*a]", b"\x00"):
        path = tmp_path / "x.yaml"
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ScenarioError):
            load_scenario(path)


@given(st.text(max_size=200))
def test_whatever_the_text_only_one_error_comes_out(text: str) -> None:
    with pytest.raises(ScenarioError):
        parse_scenario(text)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**6) | st.floats() | st.sampled_from(["a", "t1", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "between", "at_s", "for_s", "at", "name", "play", "publish", "metric", "scope"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(["traffic", "faults", "links", "expect", "settings", "topology", "access"]), _VALUES)
def test_whatever_a_part_is_only_one_error_comes_out(key: str, value: object) -> None:
    data = {
        "version": 1,
        "name": "x",
        "duration_s": 30,
        "topology": str(SQUARE),
        "traffic": {"rooms": [value, {"name": "r", "participants": value}]},
        "faults": [{"kind": "link-cut", "between": value}],
    }
    data[key] = value if key not in ("faults", "links", "expect") else [value]
    with suppress(ScenarioError):
        parse_scenario(json.dumps(data))
