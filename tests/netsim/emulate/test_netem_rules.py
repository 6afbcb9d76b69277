"""Link conditions in the words of netem."""

from __future__ import annotations

from math import log
from typing import Any

import pytest

from relaymesh.netsim.emulate.netem_rules import (
    TABLE_ENTRIES,
    UNIT,
    Leaf,
    NotInNetem,
    change_lines,
    delay_table,
    host_links,
    netem_arguments,
    root_lines,
    router_links,
    wire_lines,
)
from relaymesh.netsim.link_model import P90_MINUS_MEDIAN, GilbertElliott, LinkConditions
from relaymesh.netsim.mahimahi import DeliveryTrace

A, B = "10.77.1.0", "10.77.1.1"
JITTER_MS = 10 * P90_MINUS_MEDIAN  # an exponential distribution of 10 ms on average
JITTER = "delay 5000us 23105us distribution relaymesh-0-0.0000"
END = "address 02:00:00:00:00:01 gso_max_segs 1"
BURST = GilbertElliott(p=0.01, r=0.2, loss_bad=0.7, loss_good=0.001)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "limit 1000"),
        ({"delay_ms": 20}, "limit 1000 delay 20000us"),
        ({"delay_ms": 0.05}, "limit 1000 delay 50us"),
        ({"delay_ms": 200}, "limit 8000 delay 200000us"),
        ({"delay_ms": 5, "jitter_ms": JITTER_MS}, f"limit 1800 {JITTER} rate 10gbit"),
        ({"delay_ms": 5, "jitter_ms": JITTER_MS, "jitter_order": "free"}, f"limit 1800 {JITTER}"),
        ({"loss": 0.015}, "limit 1000 loss 1.5%"),
        ({"loss": 1}, "limit 1000 loss 100%"),
        ({"burst": BURST}, "limit 1000 loss gemodel 1% 20% 70% 0.1%"),
        ({"burst": BURST, "loss": 0.1}, "limit 1000 loss gemodel 1% 20% 73% 10.09%"),
        (
            {"delay_ms": 5, "reorder": 0.1, "reorder_ms": 39},
            "limit 1760 delay 5000us 10000us distribution relaymesh-410",
        ),
        ({"rate_bps": 8e6, "delay_ms": 20}, "limit 120 delay 20000us rate 8000000bit -14"),
        ({"rate_bps": 8e6, "queue_ms": 50, "loss": 0.5}, "limit 50 loss 50% rate 8000000bit -14"),
        (
            {"rate_bps": 8e6, "delay_ms": 5, "jitter_ms": JITTER_MS},
            f"limit 115 {JITTER} rate 8000000bit -14",
        ),
        ({"rate_bps": 1000}, "limit 2 rate 1000bit -14"),
        ({"down": True, "delay_ms": 5, "mtu_bytes": 500}, "limit 1000 loss 100%"),
    ],
)
def test_conditions_in_words(given: dict[str, Any], words: str) -> None:
    assert netem_arguments(LinkConditions(**given)) == words


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"mtu_bytes": 1200}, "mtu_bytes"),
        ({"trace": DeliveryTrace((1, 2, 3))}, "trace"),
        ({"duplicate": 0.1}, "duplicate"),
        ({"reorder": 0.1, "rate_bps": 1e6}, "reorder: .* rate_bps"),
        ({"reorder": 0.1, "jitter_ms": 1}, "reorder: .* jitter"),
        ({"jitter_ms": 1, "jitter_order": "free", "rate_bps": 1e6}, "jitter_order free: .* rate_bps"),
    ],
)
def test_what_netem_has_no_words_for_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(NotInNetem, match=f"^{named}"):
        netem_arguments(LinkConditions(**given))


def test_nothing_varies_without_jitter() -> None:
    assert delay_table(LinkConditions(delay_ms=5, loss=0.1, reorder_ms=5)) is None


def values_ms(**given: Any) -> list[float]:
    """What the table adds to the delay, sorted."""
    table = delay_table(LinkConditions(**given))
    assert table is not None
    assert len(table.entries) == TABLE_ENTRIES
    assert all(0 <= entry < 4 * UNIT for entry in table.entries)
    assert table.text().split() == [str(entry) for entry in table.entries]
    return sorted(entry / UNIT * table.scale_ms for entry in table.entries)


def test_jitter_is_exponential() -> None:
    values = values_ms(jitter_ms=JITTER_MS)
    assert sum(values) / len(values) == pytest.approx(10, rel=0.001)
    assert values[len(values) // 2] == pytest.approx(10 * log(2), rel=0.001)
    assert values[round(len(values) * 0.9)] - values[len(values) // 2] == pytest.approx(JITTER_MS, rel=0.01)


def test_tables_of_all_amounts_of_jitter_are_the_same() -> None:
    small, large = (delay_table(LinkConditions(jitter_ms=jitter)) for jitter in (1, 50))
    assert small is not None
    assert large is not None
    assert (small.name, small.entries) == (large.name, large.entries)


def test_packets_are_held_back_as_often_and_as_long_as_asked() -> None:
    values = values_ms(reorder=0.25, reorder_ms=30)
    assert values.count(0) == TABLE_ENTRIES * 3 // 4
    assert values[-1] == pytest.approx(30, abs=0.001)
    assert values_ms(reorder=0.00001)[-2:] == pytest.approx([0, 10], abs=0.001)
    both = values_ms(reorder=0.25, reorder_ms=30, jitter_ms=JITTER_MS, jitter_order="free")
    assert sum(both) / len(both) == pytest.approx(10 + 0.25 * 30, rel=0.002)


def test_a_router_has_a_device_to_each_host() -> None:
    assert router_links([[A], [B, "10.77.16.1"]], ["/one", "/two"]) == [
        "link set lo up",
        f"link add rm0 {END} type veth peer name rmnet0 {END} netns /one",
        "link set rm0 arp off up",
        "route add 10.77.1.0/32 dev rm0",
        f"link add rm1 {END} type veth peer name rmnet0 {END} netns /two",
        "link set rm1 arp off up",
        "route add 10.77.1.1/32 dev rm1",
        "route add 10.77.16.1/32 dev rm1",
    ]


def test_a_host_sends_from_its_first_address() -> None:
    assert host_links([B, "10.77.16.1"], "10.77.0.0/16") == [
        "link set lo up",
        "address add 10.77.1.1/32 dev rmnet0",
        "address add 10.77.16.1/32 dev rmnet0",
        "link set rmnet0 arp off up",
        "route add 10.77.0.0/16 dev rmnet0 src 10.77.1.1",
    ]


def test_each_wire_has_a_class_a_queue_and_a_filter() -> None:
    assert root_lines("rm1") == [
        "qdisc add dev rm1 root handle 1: htb default 1",
        "class add dev rm1 parent 1: classid 1:1 htb rate 10gbit ceil 10gbit quantum 1514",
        "qdisc add dev rm1 parent 1:1 netem loss 100%",
    ]
    match = "match ip src 10.77.1.0/32 match ip dst 10.77.1.1/32"
    assert wire_lines(Leaf("rm1", 17), A, B, LinkConditions(delay_ms=3)) == [
        "class add dev rm1 parent 1: classid 1:11 htb rate 10gbit ceil 10gbit quantum 1514",
        "qdisc add dev rm1 parent 1:11 netem limit 1000 delay 3000us",
        f"filter add dev rm1 parent 1: protocol ip prio 1 u32 {match} flowid 1:11",
    ]


def test_a_change_is_a_new_queue() -> None:
    assert change_lines(Leaf("rm1", 2), LinkConditions(loss=0.1)) == [
        "qdisc del dev rm1 parent 1:2",
        "qdisc add dev rm1 parent 1:2 netem limit 1000 loss 10%",
    ]
