from __future__ import annotations

from pathlib import Path
from random import Random

from relaymesh.netsim.plan_changes import PlanChanges
from relaymesh.netsim.scenario import load_scenario
from relaymesh.netsim.scenario.timeline import EditTopology, timeline
from relaymesh.netsim.simulate import simulate
from relaymesh.topology import load_topology
from relaymesh.topology.diff import diff
from relaymesh.topology.edits import with_edits

ROOT = Path(__file__).parents[2]
SIMULATIONS = ROOT / "simulations"


def test_random_edits_are_topologies_of_the_same_nodes_all_connected() -> None:
    topology = load_topology(ROOT / "topologies" / "ibm-cloud.yaml")
    changes = PlanChanges(topology, Random(7))
    edits = [changes.next() for _ in range(60)]
    assert all(edit.regions == topology.regions and len(edit.components()) == 1 for edit in edits)
    kinds = {(change.what, change.kind) for edit in edits for change in diff(topology, edit)}
    assert kinds == {("pair", "changed"), ("pin", "added")}
    again = PlanChanges(topology, Random(7))
    assert [again.next() for _ in range(5)] == edits[:5], "the same seed, the same edits"


def test_an_edit_turns_values_with_the_pair() -> None:
    topology = load_topology(ROOT / "topologies" / "square.yaml")
    edited = with_edits(topology, [{"between": ["t1", "a"], "extra_cost_ms": {"forward": 1, "backward": 2}}])
    there, back = edited.link("t1", "a"), edited.link("a", "t1")
    assert there is not None and back is not None
    assert (there.extra_cost_ms, back.extra_cost_ms) == (1.0, 2.0)
    before = topology.link("t1", "a")
    assert before is not None and there.delay_ms == before.delay_ms


def test_the_edits_of_a_scenario_are_actions_in_time() -> None:
    edits = [
        action
        for action in timeline(load_scenario(SIMULATIONS / "topology-changes.yaml"))
        if isinstance(action, EditTopology)
    ]
    assert [edit.at_s for edit in edits] == [12, 18, 24, 30, 36, 42, 48, 54]
    assert edits[0].topology is not None and not edits[0].topology.may_peer("washington-dc", "london")
    assert edits[1].topology is not None and edits[1].topology.may_peer("washington-dc", "london")
    assert edits[0].what == "apply-topology washington-dc – london"


def test_thirty_random_plan_changes_cost_no_packet() -> None:
    """The beginning of simulations/plan-changes.yaml, which takes minutes."""
    scenario = load_scenario(
        SIMULATIONS / "plan-changes.yaml",
        {"faults[0].count": "30", "duration_s": "24"},
    )
    result = simulate(scenario, seed=3, trace=False)
    metrics = result.metrics
    assert metrics["plans"] >= 25 and metrics["route_changes"] >= 25
    for name in ("residual_loss", "duplicates", "loops", "link_loss"):
        assert metrics[name] == 0, name
