from __future__ import annotations

from relaymesh.controller.plan import MAX_BELIEVED_GENERATION, Plan, Planner, delta_for, snapshot_for
from relaymesh.protocol.messages import Delta, Route, Snapshot


def generation(plan: Plan | None) -> int:
    assert plan is not None
    return plan.generation


def test_a_generation_is_spent_only_on_a_change() -> None:
    planner = Planner()
    assert generation(planner.replan({})) == 1
    assert planner.replan({0: {}, 1: {}}) is None
    assert generation(planner.replan({0: {1: 1}, 1: {0: 0}})) == 2
    assert planner.replan({1: {0: 0}, 0: {1: 1}}) is None
    assert planner.plan is not None and planner.plan.table(0) == {1: 1} and planner.plan.table(5) == {}


def test_generations_count_on_from_what_the_nodes_have_seen() -> None:
    planner = Planner()
    planner.handle_seen(41)
    assert generation(planner.replan({})) == 42
    planner.handle_seen(40)
    assert not planner.is_outrun
    planner.handle_seen(100)
    assert planner.is_outrun
    assert generation(planner.replan({})) == 101
    assert not planner.is_outrun


def test_no_lie_about_generations_uses_the_numbers_up() -> None:
    planner = Planner()
    planner.handle_seen(0xFFFFFFFF)
    assert generation(planner.replan({})) == 1
    planner.handle_seen(MAX_BELIEVED_GENERATION)
    assert generation(planner.replan({})) == MAX_BELIEVED_GENERATION + 1


def test_tables_are_told_by_next_hop() -> None:
    plan = Plan(2, {0: {1: 1, 2: 1, 9: 9}})
    assert snapshot_for(plan, 0) == Snapshot(2, (Route(1, b"\x06"), Route(9, b"\x00\x02")))
    assert snapshot_for(plan, 1) == Snapshot(2, ())
    later = Plan(3, {0: {1: 1, 2: 9}})
    assert delta_for(plan, later, 0) == Delta(3, 2, (Route(9, b"\x04"),), b"\x00\x02")
    assert delta_for(plan, later, 1) == Delta(3, 2)
