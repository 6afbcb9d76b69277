from __future__ import annotations

import msgspec
import pytest

from relaymesh.controller.policy import OpenMesh
from relaymesh.controller.refusal import JoinRefused
from relaymesh.controller.registry import Registry
from relaymesh.protocol.messages import CONTROL_VERSION, Address, Join


class TwoRegions(OpenMesh):
    def regions(self) -> tuple[str, ...]:
        return ("fra", "ams")


def join(name: str, **changes: object) -> Join:
    plain = Join(CONTROL_VERSION, name, "fra", "token", f"boot-of-{name}", Address("10.0.0.1", 5000), "")
    return msgspec.structs.replace(plain, **changes)


def test_indexes_are_small_and_belong_to_names() -> None:
    registry = Registry(OpenMesh())
    assert [registry.join(join(name), conn, 0.0).member.index for conn, name in enumerate("abc")] == [0, 1, 2]
    registry.leave(0, 1.0)
    registry.forget(0)
    assert registry.join(join("d"), 4, 2.0).member.index == 3
    back = registry.join(join("a", boot_id="another-boot"), 5, 3.0)
    assert (back.member.index, back.kind) == (0, "new")


def test_a_proposed_index_is_honoured_when_it_is_free() -> None:
    registry = Registry(OpenMesh())
    assert registry.join(join("a", index=7), 1, 0.0).member.index == 7
    assert registry.join(join("b", index=7), 2, 0.0).member.index == 0
    assert registry.join(join("c", index=2039), 3, 0.0).member.index == 2039


def test_a_second_node_of_the_same_name_is_refused_and_the_first_untouched() -> None:
    registry = Registry(OpenMesh())
    first = registry.join(join("a"), 1, 0.0).member
    with pytest.raises(JoinRefused) as caught:
        registry.join(join("a", boot_id="impostor-boot", relay=Address("10.6.6.6", 6)), 2, 1.0)
    assert caught.value.code == "name-taken"
    assert registry.by_conn(1) is first and registry.by_conn(2) is None
    assert (first.boot_id, first.address.host, first.connected) == ("boot-of-a", "10.0.0.1", True)


def test_the_same_boot_on_a_new_channel_replaces_its_own() -> None:
    registry = Registry(OpenMesh())
    registry.join(join("a"), 1, 0.0)
    again = registry.join(join("a"), 2, 1.0)
    assert (again.kind, again.replaced_conn, again.moved) == ("resumed", 1, False)
    assert registry.by_conn(1) is None
    assert registry.leave(1, 2.0) is None
    assert again.member.connected


def test_another_boot_takes_the_name_once_the_channel_closed() -> None:
    registry = Registry(OpenMesh())
    registry.join(join("a"), 1, 0.0)
    left = registry.leave(1, 1.0)
    assert left is not None and not left.connected and left.lost_at == 1.0
    again = registry.join(join("a", boot_id="another-boot", relay=Address("10.0.0.2", 1)), 2, 2.0)
    assert (again.kind, again.member.index, again.moved) == ("rebooted", 0, True)
    assert again.member.lost_at is None


def test_an_unknown_region_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(JoinRefused, match="ams, fra") as caught:
        Registry(TwoRegions()).join(join("a", region="mars"), 1, 0.0)
    assert caught.value.code == "region"


@pytest.mark.parametrize(
    "changes",
    [
        {"relay": Address("0.0.0.0", 1)},
        {"relay": Address("fe80::1%\0", 1)},
        {"http_url": "javascript:alert(1)"},
    ],
)
def test_addresses_nobody_can_use_are_refused(changes: dict[str, object]) -> None:
    registry = Registry(OpenMesh())
    with pytest.raises(JoinRefused) as caught:
        registry.join(join("a", **changes), 1, 0.0)
    assert caught.value.code == "malformed"
    assert registry.members() == []


def test_a_full_mesh_gives_up_the_index_longest_gone_and_then_refuses() -> None:
    registry = Registry(OpenMesh(), max_nodes=2)
    registry.join(join("a"), 1, 0.0)
    registry.join(join("b"), 2, 0.0)
    with pytest.raises(JoinRefused) as caught:
        registry.join(join("c"), 3, 0.0)
    assert caught.value.code == "full"
    registry.leave(1, 1.0)
    registry.forget(0)
    assert registry.departed() == [0]
    assert registry.join(join("c"), 3, 2.0).member.index == 0
    assert registry.departed() == []
