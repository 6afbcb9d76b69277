from __future__ import annotations

from dataclasses import dataclass

import pytest

from relaymesh.controller.policy import OpenMesh, Place, TopologyPolicy
from relaymesh.controller.refusal import JoinRefused
from relaymesh.controller.registry import Registry
from relaymesh.protocol.messages import CONTROL_VERSION, Address, Join, SiteInfo
from relaymesh.topology import parse_topology

FILE = """
version: 1
name: two-and-a-half
regions:
  - {name: fra, latitude: 50.1, longitude: 8.7}
  - {name: ams}
  - {name: nyc}
nodes:
  - {name: fra-1, region: fra}
  - {name: fra-2, region: fra}
  - {name: ams-1, region: ams}
links:
  - {between: [fra, ams], delay_ms: 4, extra_cost_ms: 5}
  - {between: [fra, nyc], peering: never}
  - {between: [fra-1, ams-1], peering: never}
"""


@dataclass(frozen=True)
class At:
    name: str
    region: str
    site: SiteInfo | None = None


def test_the_file_decides_by_name_first_and_by_region_then() -> None:
    policy = TopologyPolicy(parse_topology(FILE))
    assert policy.name == "two-and-a-half" and policy.regions() == ("fra", "ams", "nyc")
    fra, ams = At("fra-1", "fra"), At("ams-1", "ams")
    assert not policy.may_peer(fra, ams)
    assert policy.may_peer(At("fra-2", "fra"), ams)
    assert policy.may_peer(At("unlisted", "fra"), ams)
    assert policy.extra_cost_ms(At("unlisted", "fra"), ams) == 5.0
    assert policy.may_peer(fra, At("fra-9", "fra"))
    assert not policy.may_peer(fra, At("x", "nyc")) and policy.extra_cost_ms(fra, At("x", "nyc")) == 0.0
    assert policy.place("fra") == Place(50.1, 8.7)
    assert policy.place("ams") is None and policy.place("mars") is None


def test_a_node_the_file_has_elsewhere_is_refused() -> None:
    registry = Registry(TopologyPolicy(parse_topology(FILE)))
    with pytest.raises(JoinRefused, match="'fra-1' in region 'fra'") as caught:
        registry.join(
            Join(CONTROL_VERSION, "fra-1", "ams", "t", "boot-boot", Address("10.0.0.1", 1), ""), 1, 0.0
        )
    assert caught.value.code == "region"


def test_without_a_file_everything_goes() -> None:
    policy = OpenMesh()
    assert policy.may_peer(At("a", "x"), At("b", "y"))
    assert policy.extra_cost_ms(At("a", "x"), At("b", "y")) == 0.0
    assert (policy.name, policy.regions(), policy.listed_region("a"), policy.place("x")) == (None,) * 4
