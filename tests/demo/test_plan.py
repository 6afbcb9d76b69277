from __future__ import annotations

import itertools
from importlib.resources import files
from pathlib import Path

import pytest

from relaymesh.demo.plan import (
    Plan,
    controller_command,
    demo_topology,
    emulation_file,
    make_plan,
    node_command,
    player_command,
    publisher_command,
)
from relaymesh.runtime.ports import free_ports

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def plan() -> Plan:
    return make_plan(demo_topology(), itertools.count(10_000))


def test_the_packages_topology_is_the_published_one() -> None:
    published = (REPOSITORY / "topologies" / "three-regions.yaml").read_bytes()
    assert (files("relaymesh.demo") / "three-regions.yaml").read_bytes() == published


def test_the_best_path_has_two_hops(plan: Plan) -> None:
    assert plan.path == ("dallas-1", "washington-dc-1", "london-1")
    assert plan.transit == ("washington-dc-1",)
    assert plan.path_delay_ms == 15.5 + 38
    assert plan.links == [
        ("dallas-1", "washington-dc-1", 31.5),
        ("dallas-1", "london-1", 113.0),
        ("washington-dc-1", "london-1", 75.5),
    ]


def test_every_port_is_used_once(plan: Plan) -> None:
    ports = [plan.controller_port, plan.api_port]
    for node in plan.nodes:
        ports += [node.relay_port, node.media_port, node.http_port]
    assert len(set(ports)) == len(ports) == 11


def test_each_node_delays_what_it_sends(plan: Plan) -> None:
    london = plan.node("london-1")
    assert emulation_file(plan, london) == {
        "links": {
            "dallas-1": {"address": f"127.0.0.1:{plan.node('dallas-1').relay_port}", "delay_ms": 56.5},
            "washington-dc-1": {
                "address": f"127.0.0.1:{plan.node('washington-dc-1').relay_port}",
                "delay_ms": 37.5,
            },
        }
    }


def test_commands_keep_secrets_off_the_process_list(plan: Plan) -> None:
    node = node_command(plan, plan.nodes[0], Path("links.json"), "the-token")
    controller = controller_command(plan, Path("t.yaml"), "the-secret")
    assert node.environment == {"RELAYMESH_NODE_TOKEN": "the-token"}
    assert "the-token" not in " ".join(node.arguments) + repr(node)
    assert "the-secret" not in " ".join(controller.arguments) + repr(controller)
    assert node.arguments[:5] == ("node", "--name", "dallas-1", "--region", "dallas")
    assert plan.publish_url in publisher_command(plan).arguments
    assert plan.publish_url == f"http://127.0.0.1:{plan.nodes[0].http_port}/whip/demo/clock"
    assert plan.play_url in player_command(plan).arguments
    assert plan.play_url.startswith(plan.node("london-1").http_url + "/whep/")


def test_free_ports_differ() -> None:
    ports = list(free_ports(10))
    assert len(set(ports)) == 10
    assert all(1024 <= port <= 65535 for port in ports)
