from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.controller.alternates import Alternates
from relaymesh.controller.moved import compare, hops_of
from relaymesh.controller.paths import follow
from relaymesh.controller.plan import Tables
from relaymesh.controller.routes import NO_HOP
from relaymesh.controller.tables import MatrixTables

SIZE = 9
# Whatever a table may hold: no hop, loops, hops to nodes that are gone.
tables = st.dictionaries(
    st.integers(0, SIZE - 1), st.dictionaries(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1))
)
nodes = st.sets(st.integers(0, SIZE - 1), min_size=1)


def usable(given: Tables, of: set[int]) -> dict[int, dict[int, int]]:
    return {node: {end: hop for end, hop in given.get(node, {}).items() if end != node} for node in of}


def as_matrix(given: Tables) -> MatrixTables:
    hops = np.full((SIZE, SIZE), NO_HOP, np.int16)
    for node, table in given.items():
        for end, hop in table.items():
            hops[end, node] = hop
    return MatrixTables(hops, Alternates(np.empty((SIZE, SIZE), np.int16), {}))


@settings(max_examples=300)
@given(tables, tables, nodes, st.booleans())
def test_what_differs_is_what_following_every_packet_finds(
    old: Tables, new: Tables, of: set[int], as_matrices: bool
) -> None:
    size = max(of) + 1
    names = dict.fromkeys(of)
    given = (as_matrix(old), as_matrix(new)) if as_matrices else (old, new)
    moved = compare(*(hops_of(one, names, size) for one in given))
    found = {
        (start, end): (had, has)
        for start, end, had, has in zip(
            *(column.tolist() for column in (moved.starts, moved.ends, moved.before, moved.after)),
            strict=True,
        )
    }
    before, after = usable(old, of), usable(new, of)
    expected = {}
    for end in of:
        for start in of - {end}:
            ways = follow(before, start, end), follow(after, start, end)
            if ways[0] != ways[1]:
                expected[start, end] = (ways[0] is not None, ways[1] is not None)
    assert found == expected


def test_of_nothing_nothing_differs() -> None:
    assert len(compare(hops_of({}, {}, 0), hops_of({}, {}, 0)).ends) == 0
