from __future__ import annotations

import json
from itertools import islice

import trio
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.parts import Parts, at_once, encode_json, in_turns
from tests.controller.fake_mesh import FakeMesh

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
leaves = values | st.lists(st.dictionaries(st.text(), values), max_size=300)
stages = leaves | st.dictionaries(st.text() | st.integers(), leaves | st.dictionaries(st.text(), leaves))
answers = st.dictionaries(st.text(), leaves | stages)


@given(answers)
def test_json_in_parts_is_json(answer: dict[str, object]) -> None:
    assert json.loads(at_once(encode_json(answer))) == json.loads(json.dumps(answer))


def test_long_lists_and_mappings_are_encoded_in_parts_wherever_they_stand() -> None:
    many = {f"{number}>1": {"up": True, "on": [number]} for number in range(1000)}
    answer: dict[str, object] = {"lsdb": {"links": many, "silent": list(range(1000))}}
    assert json.loads(at_once(encode_json(answer))) == answer
    assert len(list(encode_json(answer))) == 16


async def test_others_run_at_each_pause() -> None:
    seen: list[str] = []

    def count() -> Parts[int]:
        for number in range(3):
            seen.append(f"part {number}")
            yield
        return 3

    async def other() -> None:
        for _ in range(3):
            seen.append("other")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await in_turns(count()) == 3
    assert seen.index("other") < seen.index("part 2")


def test_a_mesh_that_changes_between_the_parts_of_its_state_is_shown_as_it_then_is() -> None:
    mesh = FakeMesh()
    for number in range(30):
        mesh.add(f"n{number}")
        mesh.wire("n0", f"n{number}", 20.0)
    mesh.run(3.0)
    parts = mesh.core.state_in_parts()
    assert len(list(islice(parts, 2))) == 2
    for number in range(27, 30):
        mesh.kill(f"n{number}")
        mesh.wire("n0", f"n{number}", None)
    mesh.run(40.0)
    shown = at_once(parts)
    assert len(mesh.core.state()["nodes"]) == 27  # type: ignore[arg-type]
    assert len(shown["nodes"]) == 30, "who was in when it began"  # type: ignore[arg-type]
    assert json.loads(at_once(encode_json(shown))) == shown
