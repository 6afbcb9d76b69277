from __future__ import annotations

import itertools

import msgspec
import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.controller.core import CoreOptions
from relaymesh.controller.policy import OpenMesh
from relaymesh.controller.tokens import make_join_token
from relaymesh.protocol.messages import (
    Activate,
    Delta,
    LinkReport,
    Links,
    ParticipantName,
    PublicationEnded,
    PublicationInfo,
    PublicationMoved,
    Publish,
    PublishReply,
    Refused,
    Report,
    Snapshot,
    Subscribe,
    SubscribeReply,
    TablesHeld,
    TrackInfo,
    Unsubscribe,
    Welcome,
)
from tests.controller.fake_mesh import SECRET, FakeMesh
from tests.controller.reports import up

ALICE = PublicationInfo("demo", "alice", (TrackInfo(0, "video", "VP8", 90_000),))
ALICE_NAME = ParticipantName("demo", "alice")


def line(*, shortcut_ms: float | None = None) -> FakeMesh:
    """a - b - c, 20 ms each; between a and c directly *shortcut_ms*, or nothing."""
    mesh = FakeMesh()
    for name in "abc":
        mesh.add(name)
    mesh.wire("a", "b", 20.0)
    mesh.wire("b", "c", 20.0)
    if shortcut_ms is not None:
        mesh.wire("a", "c", shortcut_ms)
    mesh.run(3.0)
    return mesh


def refusal(mesh: FakeMesh, name: str) -> Refused:
    node = mesh.nodes[name]
    assert node.conn_id is None, "a refused channel is closed"
    refused = node.heard[-1]
    assert isinstance(refused, Refused)
    return refused


# --- joining and routing ---------------------------------------------------------------------------


def test_nodes_join_report_and_get_tables_by_measured_latency() -> None:
    mesh = line(shortcut_ms=100.0)
    assert mesh.route("a", "c") == ["a", "b", "c"]
    assert mesh.route("c", "a") == ["c", "b", "a"]
    assert {node.active for node in mesh.nodes.values()} == {mesh.nodes["a"].active}
    welcome = mesh.nodes["b"].heard[0]
    assert welcome == Welcome(1, 50.0, 200.0, 1000.0, leader_epoch=1)


def test_a_late_node_gets_its_links_and_routes_by_joining() -> None:
    mesh = line()
    mesh.add("d")
    mesh.wire("c", "d", 10.0)
    mesh.run(3.0)
    assert mesh.route("a", "d") == ["a", "b", "c", "d"]
    assert mesh.route("d", "a") == ["d", "c", "b", "a"]
    kinds = [type(message) for message in mesh.nodes["d"].heard[:4]]
    assert kinds == [Welcome, Links, Snapshot, Activate]
    # The others were told what differs, not everything.
    assert len(mesh.nodes["a"].said(Snapshot)) == 1 and mesh.nodes["a"].said(Delta)


def test_a_cut_link_is_routed_around() -> None:
    mesh = line(shortcut_ms=100.0)
    mesh.wire("a", "b", None)
    mesh.run(2.0)
    assert mesh.route("a", "b") == ["a", "c", "b"]
    mesh.wire("a", "b", 20.0)
    mesh.run(2.0)
    assert mesh.route("a", "c") == ["a", "c"], "it is on probation"
    mesh.run(4.0)
    assert mesh.route("a", "c") == ["a", "b", "c"]


def test_a_link_that_turns_slow_is_left_and_noise_changes_nothing() -> None:
    mesh = line(shortcut_ms=100.0)
    before = mesh.nodes["a"].active
    for step in range(40):
        mesh.wire("a", "b", 20.0 + (step % 3 - 1))
        mesh.run(0.5)
    assert mesh.nodes["a"].active == before
    mesh.wire("a", "b", 200.0)
    mesh.run(4.0)  # a report, and the time it takes to be believed
    assert mesh.route("a", "c") == ["a", "c"]


def test_the_death_of_a_transit_node_is_routed_around() -> None:
    mesh = line(shortcut_ms=100.0)
    mesh.kill("b")
    mesh.run(2.0)
    assert mesh.route("a", "c") == ["a", "c"]


def test_losing_the_control_channel_alone_moves_nothing() -> None:
    mesh = line(shortcut_ms=100.0)
    before = mesh.nodes["a"].active
    mesh.disconnect("b")
    mesh.run(120.0)
    assert mesh.route("a", "c") == ["a", "b", "c"]
    assert mesh.nodes["a"].active == before
    links, messages = dict(mesh.nodes["b"].links), len(mesh.nodes["a"].heard)
    mesh.connect("b")
    mesh.run(5.0)
    assert mesh.nodes["b"].links == links  # the same keys
    assert len(mesh.nodes["a"].heard) == messages  # nothing new for anybody else
    assert mesh.nodes["b"].index == 1


def test_a_node_that_cannot_say_it_holds_a_plan_does_not_hold_up_the_others() -> None:
    mesh = line(shortcut_ms=100.0)
    mesh.nodes["b"].answers = False
    mesh.wire("b", "c", None)
    mesh.run(2.0)
    assert mesh.route("a", "c") == ["a", "c"]


def test_a_node_that_lost_its_tables_gets_them_whole() -> None:
    mesh = line(shortcut_ms=100.0)
    mesh.nodes["a"].tables.clear()
    mesh.wire("b", "c", None)
    mesh.run(2.0)
    assert mesh.route("a", "c") == ["a", "c"]
    assert mesh.core.counters["snapshot-wanted"] == 1


def test_a_restarted_node_gets_its_index_new_keys_and_its_routes_again() -> None:
    mesh = line()
    keys = {peer: config.send_key for peer, config in mesh.nodes["b"].links.items()}
    mesh.kill("b")
    mesh.run(1.5)
    assert mesh.route("a", "c") is None
    mesh.restart("b")
    mesh.run(2.0)
    assert mesh.nodes["b"].index == 1
    assert mesh.route("a", "c") == ["a", "b", "c"]
    assert all(config.send_key != keys[peer] for peer, config in mesh.nodes["b"].links.items())


def test_keys_rotate_without_moving_a_route() -> None:
    mesh = FakeMesh(key_rotation_s=60.0)
    for name in "ab":
        mesh.add(name)
    mesh.wire("a", "b", 20.0)
    mesh.run(5.0)
    epoch, active = mesh.nodes["a"].links[1].epoch, mesh.nodes["a"].active
    mesh.run(60.0)
    assert mesh.nodes["a"].links[1].epoch == (epoch + 1) % 256
    assert mesh.route("a", "b") == ["a", "b"] and mesh.nodes["a"].active == active


# --- the controller may die ------------------------------------------------------------------------


def test_a_restarted_controller_learns_everything_again_and_stops_nothing() -> None:
    mesh = line()
    mesh.tell("a", Publish(1, ALICE))
    mesh.nodes["a"].published[ALICE_NAME] = ALICE
    mesh.tell("c", Subscribe(2, ALICE_NAME))
    mesh.nodes["c"].subscribed.add(ALICE_NAME)
    assert mesh.nodes["a"].forwards == {ALICE_NAME: [2]}
    indexes = {name: node.index for name, node in mesh.nodes.items()}
    active = mesh.nodes["a"].active

    mesh.restart_controller()
    for name in "cab":  # an edge before the ingress, the transit node last
        mesh.connect(name)
        mesh.run(0.8)
        # Nothing is taken away while some are still missing.
        assert mesh.route("a", "c") == ["a", "b", "c"]
        assert name == "b" or mesh.nodes["a"].active == active
    mesh.run(1.0)  # all are back: no need to wait any longer
    assert {name: node.index for name, node in mesh.nodes.items()} == indexes
    assert mesh.route("a", "c") == ["a", "b", "c"]
    assert mesh.nodes["a"].active > active
    assert [forward.edges for forward in mesh.nodes["a"].forward_log] == [b"\x04", b"\x04"]
    assert mesh.core.state()["publications"]


def test_when_all_channels_break_and_come_back_one_by_one_nothing_is_stopped() -> None:
    mesh = line()
    for name in "abc":
        mesh.disconnect(name)
    mesh.run(300.0)
    for name in "abc":
        mesh.connect(name)
        mesh.run(0.9)
        assert mesh.route("a", "c") == ["a", "b", "c"]
    mesh.run(10.0)
    assert mesh.route("a", "c") == ["a", "b", "c"]


def test_a_node_that_claims_new_generations_for_ever_cannot_stop_the_planning() -> None:
    mesh = line(shortcut_ms=100.0)
    mesh.wire("b", "c", None)
    for claimed in range(1000, 1020):
        mesh.disconnect("b")
        mesh.nodes["b"].active = claimed
        mesh.connect("b")
        mesh.nodes["b"].active = 0
        mesh.run(1.0)
    assert mesh.route("a", "c") == ["a", "c"]


def test_who_died_with_the_controller_is_not_waited_for() -> None:
    mesh = line(shortcut_ms=100.0)
    mesh.restart_controller()
    mesh.kill("b")
    mesh.connect("a")
    mesh.connect("c")
    mesh.run(3.0)
    assert mesh.route("a", "c") == ["a", "c"]


def test_who_is_heard_and_does_not_come_back_is_waited_for_only_so_long() -> None:
    mesh = line(shortcut_ms=100.0)
    mesh.restart_controller()
    mesh.connect("a")
    mesh.connect("c")
    mesh.run(7.0)
    assert mesh.core.counters["plans"] == 0 and mesh.route("a", "c") == ["a", "b", "c"]
    mesh.run(2.0)
    assert mesh.core.counters["plans"] == 1 and mesh.route("a", "c") == ["a", "c"]


# --- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "cannot be read"),
        ("nonsense", "cannot be read"),
        (make_join_token("x" * 32, name="d"), "another secret"),
        (make_join_token(SECRET, name="c"), "not 'd'"),
        (make_join_token(SECRET, name="d", expires_at=1e9), "expired"),
    ],
)
def test_a_wrong_join_token_is_refused_and_changes_nothing(token: str, reason: str) -> None:
    mesh = line()
    before, heard = mesh.core.state(), len(mesh.nodes["a"].heard)
    mesh.add("d", connect=False)
    mesh.connect("d", token)
    assert refusal(mesh, "d").code == "token" and reason in refusal(mesh, "d").reason
    assert mesh.core.state() == before and len(mesh.nodes["a"].heard) == heard
    assert mesh.core.counters["refused-token"] == 1


def test_a_second_node_of_the_same_name_is_refused_and_the_first_goes_on() -> None:
    mesh = line()
    impostor = FakeMesh().add("b", connect=False)
    impostor.boot = 99
    conn_id, heard = mesh.channel(), len(mesh.nodes["b"].heard)
    mesh.say(conn_id, impostor.join(make_join_token(SECRET, name="b")))
    assert "is connected" in mesh.closed[conn_id]
    mesh.run(2.0)
    assert mesh.route("a", "c") == ["a", "b", "c"] and len(mesh.nodes["b"].heard) == heard


def test_the_same_boot_on_a_new_channel_takes_over_from_its_old_one() -> None:
    mesh = line()
    old = mesh.nodes["b"].conn_id
    mesh.connect("b")
    assert old is not None and "another channel" in mesh.closed[old]
    mesh.core.handle_disconnect(old, mesh.now)  # the old channel's end is no news
    mesh.run(2.0)
    assert mesh.route("a", "c") == ["a", "b", "c"]


def test_another_version_is_refused() -> None:
    mesh = FakeMesh()
    node = mesh.add("a", connect=False)
    node.conn_id = mesh.channel()
    mesh.say(node.conn_id, msgspec.structs.replace(node.join(make_join_token(SECRET)), version=1))
    assert refusal(mesh, "a").code == "version"


def test_a_channel_that_does_not_begin_with_a_join_or_joins_twice_is_closed() -> None:
    mesh = line()
    conn_id = mesh.channel()
    mesh.say(conn_id, TablesHeld(1))
    assert "first message" in mesh.closed[conn_id]
    mesh.tell("c", mesh.nodes["c"].join(make_join_token(SECRET)))
    assert refusal(mesh, "c").code == "malformed"
    mesh.connect("c")
    mesh.run(2.0)
    assert mesh.route("a", "c") == ["a", "b", "c"]


def test_malformed_bytes_close_that_channel_only() -> None:
    mesh = line()
    mesh.garble("c")
    assert refusal(mesh, "c").code == "malformed"
    assert mesh.core.counters["refused-malformed"] == 1
    assert mesh.nodes["a"].conn_id is not None


# --- hostile reports -------------------------------------------------------------------------------


def test_reports_about_links_of_others_move_nobodys_routes() -> None:
    mesh = line(shortcut_ms=100.0)
    before = mesh.core.state()["links"]
    lies = tuple(LinkReport(peer, False, 0.0, 0.0, 1.0, 1.0, 0, 0) for peer in range(3, 200))
    mesh.tell("c", Report((*lies, up(0, 100.0), up(1, 20.0), LinkReport(2, True, 0, 0, 0, 0, 0, 0))))
    mesh.run(1.0)
    assert mesh.core.state()["links"] == before
    assert mesh.route("a", "b") == ["a", "b"]


def test_one_end_alone_cannot_bring_a_link_up() -> None:
    mesh = line()
    mesh.nodes["c"].sends_reports = False
    mesh.tell("c", Report((up(0, 1.0), up(1, 1.0))))
    mesh.run(1.0)
    assert mesh.route("c", "a") == ["c", "b", "a"]


def test_a_flood_of_reports_is_dropped_and_makes_no_flood_of_plans() -> None:
    mesh = line(shortcut_ms=100.0)
    plans = mesh.core.counters["plans"]
    for flip in range(2000):
        mesh.tell("c", Report((up(0, 1.0 if flip % 2 else 5000.0), up(1, 20.0))))
    assert mesh.core.counters["plans"] == plans
    mesh.nodes["c"].sends_reports = False
    mesh.run(1.0)
    assert mesh.core.counters["plans"] <= plans + 2
    assert mesh.route("a", "b") == ["a", "b"]


# --- presence --------------------------------------------------------------------------------------


def test_a_node_that_is_dead_for_long_is_gone_and_its_streams_end() -> None:
    mesh = line()
    mesh.tell("a", Publish(1, ALICE))
    mesh.tell("c", Subscribe(2, ALICE_NAME))
    mesh.kill("a")
    mesh.run(9.0)
    assert not mesh.nodes["c"].said(PublicationEnded)
    mesh.run(3.0)
    assert mesh.nodes["c"].heard[-2:] != [] and mesh.nodes["c"].said(PublicationEnded) == [
        PublicationEnded(ALICE_NAME)
    ]
    assert 0 not in mesh.nodes["b"].links
    assert [node["name"] for node in mesh.core.state()["nodes"]] == ["b", "c"]  # type: ignore[attr-defined]
    mesh.restart("a")
    mesh.run(2.0)
    assert mesh.nodes["a"].index == 0 and mesh.route("a", "c") == ["a", "b", "c"]


def test_a_publisher_whose_node_died_enters_elsewhere() -> None:
    mesh = line()
    mesh.tell("a", Publish(1, ALICE))
    mesh.tell("c", Subscribe(2, ALICE_NAME))
    mesh.kill("a")
    mesh.run(1.5)
    mesh.tell("b", Publish(3, ALICE))
    assert mesh.nodes["b"].said(PublishReply) == [PublishReply(3)]
    assert mesh.nodes["c"].said(PublicationMoved) == [PublicationMoved(ALICE, 1)]
    assert mesh.nodes["b"].forwards == {ALICE_NAME: [2]}
    mesh.run(20.0)
    assert not mesh.nodes["c"].said(PublicationEnded)


def test_a_channel_without_a_word_is_closed() -> None:
    mesh = line()
    mesh.nodes["c"].sends_reports = False
    conn_id = mesh.nodes["c"].conn_id
    mesh.run(11.0)
    assert conn_id is not None and "nothing was heard" in mesh.closed[conn_id]
    assert mesh.route("a", "c") == ["a", "b", "c"]  # its neighbours speak for it


def test_subscribing_to_what_does_not_exist_is_answered() -> None:
    mesh = line()
    mesh.tell("c", Subscribe(9, ALICE_NAME))
    assert mesh.nodes["c"].heard[-1] == SubscribeReply(9)
    mesh.tell("a", Publish(1, ALICE))
    mesh.tell("c", Subscribe(10, ALICE_NAME))
    assert mesh.nodes["c"].heard[-1] == SubscribeReply(10, ALICE, 0)
    mesh.tell("c", Unsubscribe(ALICE_NAME))
    assert mesh.nodes["a"].forwards == {ALICE_NAME: []}


# --- what one sees ---------------------------------------------------------------------------------


def test_the_state_shows_nodes_links_streams_and_paths() -> None:
    mesh = line()
    mesh.tell("a", Publish(1, ALICE))
    for name in "abc":
        mesh.tell(name, Subscribe(2, ALICE_NAME))
    state = mesh.core.state()
    assert state["topology"] is None and state["generation"] == state["active_generation"]
    assert state["nodes"][0] == {  # type: ignore[index]
        "index": 0,
        "name": "a",
        "region": "here",
        "connected": True,
        "http_url": "http://a.example:8000",
        "sessions": 0,
        "place": None,
    }
    links = {(link["from"], link["to"]): link for link in state["links"]}  # type: ignore[attr-defined]
    assert len(links) == 6
    assert links["a", "b"] == {
        "from": "a",
        "to": "b",
        "up": True,
        "rtt_ms": 20.0,
        "jitter_ms": 0.0,
        "loss": 0.0,
        "cost_ms": 10.25,
    }
    assert links["a", "c"]["up"] is False and links["a", "c"]["cost_ms"] is None
    assert state["publications"] == [
        {
            "room": "demo",
            "participant": "alice",
            "ingress": "a",
            "tracks": [{"track": 0, "kind": "video", "codec": "VP8"}],
            "edges": ["a", "b", "c"],
            "paths": {"a": ["a"], "b": ["a", "b"], "c": ["a", "b", "c"]},
        }
    ]
    assert mesh.core.path("a", "c") == {"path": ["a", "b", "c"], "cost_ms": 20.5}
    assert mesh.core.path("a", "nowhere") is None
    assert mesh.core.path("a", "a") == {"path": ["a"], "cost_ms": 0}


def test_nothing_that_is_shown_holds_a_secret() -> None:
    mesh = line()
    keys = {key for config in mesh.nodes["b"].links.values() for key in (config.send_key, config.receive_key)}
    shown = repr(mesh.core.debug_state()) + repr(mesh.core.state()) + repr(mesh.options)
    assert SECRET not in shown
    assert not any(repr(key) in shown or key.hex() in shown for key in keys)


def test_the_same_seed_says_the_same_to_the_last_byte() -> None:
    traces = []
    for _ in range(2):
        mesh = line(shortcut_ms=100.0)
        mesh.tell("a", Publish(1, ALICE))
        mesh.tell("c", Subscribe(2, ALICE_NAME))
        mesh.kill("b")
        mesh.run(15.0)
        traces.append(mesh.trace)
    assert traces[0] == traces[1]


class Ring(OpenMesh):
    """Only nodes next to each other on a ring of five may peer."""

    def may_peer(self, one: object, other: object) -> bool:
        numbers = [int(getattr(node, "name")[1:]) for node in (one, other)]  # noqa: B009
        return abs(numbers[0] - numbers[1]) in (1, 4)


def test_only_pairs_the_policy_allows_become_links() -> None:
    mesh = FakeMesh(policy=Ring())
    names = [f"n{i}" for i in range(5)]
    for name in names:
        mesh.add(name)
    for one, other in itertools.combinations(names, 2):
        mesh.wire(one, other, 10.0)
    mesh.run(3.0)
    assert sorted(mesh.nodes["n0"].links) == [1, 4]
    assert mesh.route("n0", "n2") == ["n0", "n1", "n2"]
    assert mesh.route("n0", "n3") == ["n0", "n4", "n3"]


faults = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["cut", "mend"]), st.sampled_from(list(itertools.combinations("abcde", 2)))
        ),
        st.tuples(st.sampled_from(["kill", "restart", "drop", "connect"]), st.sampled_from(list("abcde"))),
        st.tuples(st.just("controller"), st.just("")),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 12.0])),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(faults)
def test_after_any_faults_packets_reach_whoever_can_be_reached(
    steps: list[tuple[str, object]],
) -> None:
    mesh = FakeMesh()
    wires = {pair: 10.0 + 7 * number for number, pair in enumerate(itertools.combinations("abcde", 2))}
    for name in "abcde":
        mesh.add(name)
    for (one, other), rtt_ms in wires.items():
        mesh.wire(one, other, rtt_ms)
    mesh.run(2.0)
    for action, target in steps:
        if isinstance(target, tuple):
            one, other = target
            mesh.wire(one, other, wires[one, other] if action == "mend" else None)
        elif isinstance(target, float):
            mesh.run(target)
        elif action == "controller":
            mesh.restart_controller()
        else:
            _trouble(mesh, action, str(target))
    for _ in range(3):  # a newcomer on another's index is closed, and joins again as its agent would
        for name, node in mesh.nodes.items():
            if node.running and node.conn_id is None:
                mesh.connect(name)
        mesh.run(0.3)
    mesh.run(20.0)
    graph = nx.Graph()
    running = [name for name, node in mesh.nodes.items() if node.running]
    graph.add_nodes_from(running)
    graph.add_edges_from((a, b) for a, b in itertools.combinations(running, 2) if mesh.has_wire(a, b))
    for one, other in itertools.permutations(running, 2):
        assert (mesh.route(one, other) is not None) == nx.has_path(graph, one, other)


def _trouble(mesh: FakeMesh, action: str, name: str) -> None:
    node = mesh.nodes[name]
    if action == "kill" and node.running:
        mesh.kill(name)
    elif action == "restart":
        if node.running:
            mesh.kill(name)
        mesh.restart(name)
    elif action == "drop" and node.conn_id is not None:
        mesh.disconnect(name)
    elif action == "connect" and node.running and node.conn_id is None:
        mesh.connect(name)


def test_the_defaults_are_those_of_the_node_protocol() -> None:
    options = CoreOptions(SECRET)
    assert (options.probe_interval_ms, options.dead_after_ms, options.report_interval_ms) == (50, 200, 1000)
