from __future__ import annotations

import pytest

from relaymesh.topology import Pin, parse_topology
from relaymesh.topology.describe import describe
from relaymesh.topology.formats import topology_text
from tests.topology.test_loader import problems

HEAD = """version: 1
name: mesh
regions: [{name: a}, {name: b}, {name: c}, {name: d}]
nodes: [{name: a1, region: a}, {name: b, region: b}, {name: c, region: c}, {name: d, region: d}]
links:
  - {between: [a, b], delay_ms: 1}
  - {between: [b, c], delay_ms: 1}
  - {between: [c, d], delay_ms: 1}
  - {between: [a, c], peering: never}
  - {between: [b, d], delay_ms: 1}
"""


def test_pins_are_read_written_and_shown() -> None:
    topology = parse_topology(
        HEAD + "pins:\n  - {from: a1, to: d, via: [b, c]}\n  - {from: b, to: d, via: [c]}\n"
    )
    assert topology.pins == (Pin("a1", "d", ("b", "c")), Pin("b", "d", ("c",)))
    assert topology.pins[0].stations == ("a1", "b", "c", "d") and not topology.warnings
    assert parse_topology(topology_text(topology)).pins == topology.pins
    assert describe(topology)["pins"] == [
        {"from": "a1", "to": "d", "via": ["b", "c"]},
        {"from": "b", "to": "d", "via": ["c"]},
    ]


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        ("[{from: a, to: x, via: [y]}]", ["pins[0].via[0]: no region or node named 'y'",
                                         "pins[0].to: no region or node named 'x'"]),
        ("[{from: a, to: d, via: [b, a]}]", ["pins[0].via[1]: 'a' is on the way already"]),
        ("[{from: a, to: a, via: []}]", ["pins[0].to: 'a' is on the way already"]),
        ("[{from: a, to: d, via: [b]}, {from: b, to: d, via: [c]}]",
         ["pins[1]: from 'b' to 'd' by 'c', but pins[0] says by 'd'"]),
        ("[{from: a, too: d, via: []}]", ["pins[0]: missing key 'to'",
                                          "pins[0]: unknown key 'too' (did you mean 'to'?)"]),
        ("[{from: a, to: d}]", ["pins[0]: missing key 'via'"]),
        ("[7, {from: 3, to: d, via: []}]", ["pins[0]: must be a mapping, not 7",
                                           "pins[1].from: must be text, not 3 (write it in quotes)"]),
    ],
)  # fmt: skip
def test_mistakes_have_their_place(pins: str, expected: list[str]) -> None:
    found = [text.split(" ", 1)[1] for text in problems(HEAD + f"pins: {pins}\n")]
    assert sorted(found) == sorted(expected)


def test_a_pin_over_a_forbidden_pair_is_a_warning() -> None:
    topology = parse_topology(HEAD + "pins: [{from: a, to: d, via: [c]}]\n")
    assert [warning.message for warning in topology.warnings] == ["never used: 'a' and 'c' may not peer"]
