"""A node obeys the newest leader it has heard of, and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relaymesh.node.fence import Fence
from relaymesh.protocol.messages import (
    Activate,
    ControllerMessage,
    Delta,
    Forward,
    Links,
    ParticipantName,
    Snapshot,
    Welcome,
)
from tests.node.mesh import make_core

WITH_EPOCH: list[Callable[[int], ControllerMessage]] = [
    lambda epoch: Welcome(1, 50.0, 200.0, 1000.0, epoch),
    lambda epoch: Links(leader_epoch=epoch),
    lambda epoch: Snapshot(9, (), leader_epoch=epoch),
    lambda epoch: Delta(9, 8, leader_epoch=epoch),
    lambda epoch: Activate(9, epoch),
]


@pytest.mark.parametrize("make", WITH_EPOCH)
def test_a_lower_epoch_is_refused_and_an_equal_or_higher_one_is_not(
    make: Callable[[int], ControllerMessage],
) -> None:
    fence = Fence()
    assert [fence.admits(make(epoch)) for epoch in (0, 5, 4, 5, 0, 6, 5)] == [
        True, True, False, True, False, True, False,
    ]  # fmt: skip
    assert fence.highest == 6


def test_what_carries_no_epoch_passes_and_moves_nothing() -> None:
    fence = Fence()
    fence.highest = 6
    assert fence.admits(Forward(ParticipantName("r", "p"), b""))
    assert fence.highest == 6


def test_a_node_acts_on_no_message_of_an_older_leader() -> None:
    core = make_core(1, now=0.0)
    core.handle_message(Welcome(1, 50.0, 200.0, 1000.0, 3), 0.0)
    core.handle_message(Snapshot(7, (), leader_epoch=3), 0.0)
    core.handle_message(Activate(7, 3), 0.0)
    core.handle_message(Snapshot(8, (), leader_epoch=2), 0.0)
    core.handle_message(Activate(8, 2), 0.0)
    core.handle_message(Welcome(5, 50.0, 200.0, 1000.0, 2), 0.0)
    assert (core.index, core.tables.active, core.tables.newest) == (1, 7, 7)
    assert core.outbox.refused["stale leader"] == 3
    assert core.join_state()["leader_epoch"] == 3
