"""The same links in the words of the kernel's netem: pure text, as ``ip`` and ``tc`` take it.

In: hosts, wires and link conditions. Out: lines for ``ip -batch`` and ``tc -batch``,
and tables of delays. It runs nothing.

Every host has one veth, whose other end is in a router's namespace. What the
router sends to a host is sorted by source and destination address: for each
wire an HTB class with a netem queue of its own. What no wire takes goes into a
class that loses everything.

How the link model is said to netem:

* Jitter is the same exponential distribution, from a table of ours. netem
  alone would let packets overtake each other; with a ``rate`` it keeps their
  order, so jitter that keeps the order has a rate so high that it limits nothing.
* Packets held back (``reorder``) are part of the delay table. netem's own
  ``reorder`` is something else: it sends packets on without any delay.
* ``loss`` and ``burst`` together are one Gilbert–Elliott model, exactly.
* The queue of a rate is counted in packets, those under way among them; here
  for packets of ``QUEUE_PACKET_BYTES``. With jitter and a rate together, the rate comes last.
* Some conditions cannot be said (:class:`NotInNetem`): a size limit, a delivery trace, and
  duplication, which kernels refuse in a queue beside other netem queues of the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log

from relaymesh.netsim.link_model import P90_MINUS_MEDIAN, LinkConditions

HOST_DEVICE = "rmnet0"
ETHERNET_BYTES = 14  # around each IP packet; the link model does not count them
# Both ends of each veth have it: so no ARP is needed, which the queues would delay or lose.
MAC = "02:00:00:00:00:01"
ORDER_RATE = "10gbit"
CLASS_RATE = "10gbit"
MOST_PACKETS_PER_SECOND = 20_000  # on one link without a rate
LEAST_LIMIT = 1000  # packets; netem's default
QUEUE_PACKET_BYTES = 1000
TABLE_ENTRIES = 4096
LARGEST_ENTRY = 3.9  # standard deviations, of the 4 that 16 bits hold
UNIT = 8192  # a standard deviation, in a table
NOWHERE = 1  # the class of what no wire takes
FIRST_CLASS = 2


class NotInNetem(Exception):
    """netem cannot do that; the text names the condition."""


@dataclass(frozen=True, slots=True)
class DelayTable:
    """Values of a delay, all as likely, as tc reads them from ``NAME.dist``."""

    name: str
    scale_ms: float  # what tc is told as jitter
    entries: tuple[int, ...]

    def text(self) -> str:
        """The file's content."""
        return "\n".join(map(str, self.entries)) + "\n"


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where a wire's queue is: the router's device towards the destination, and the class on it."""

    device: str
    number: int

    @property
    def parent(self) -> str:
        return f"1:{self.number:x}"


def delay_table(conditions: LinkConditions) -> DelayTable | None:
    """What varies of the delay, jitter and held back packets; None: nothing does."""
    mean_ms = conditions.jitter_ms / P90_MINUS_MEDIAN
    held_ms = conditions.reorder_ms if conditions.reorder else 0.0
    if not mean_ms and not held_ms:
        return None
    held = max(1, round(conditions.reorder * TABLE_ENTRIES)) if held_ms else 0
    values = []
    for index in range(TABLE_ENTRIES):
        more = -log(1 - (index + 0.5) / TABLE_ENTRIES) * mean_ms
        # Those held back are spread evenly over the table, that is over all amounts of jitter.
        is_held = (index + 1) * held // TABLE_ENTRIES > index * held // TABLE_ENTRIES
        values.append(more + held_ms * is_held)
    scale_ms = max(values) / LARGEST_ENTRY
    entries = tuple(round(value / scale_ms * UNIT) for value in values)
    name = f"relaymesh-{held}-{held_ms / mean_ms:.4f}" if mean_ms else f"relaymesh-{held}"
    return DelayTable(name, scale_ms, entries)


def check(conditions: LinkConditions) -> None:
    """Raises :class:`NotInNetem` when netem has no words for *conditions*."""
    if conditions.down:
        return
    if conditions.mtu_bytes is not None:
        raise NotInNetem("mtu_bytes: netem has no limit of a packet's size")
    if conditions.trace is not None:
        raise NotInNetem("trace: netem cannot follow a delivery trace")
    if conditions.duplicate:
        raise NotInNetem("duplicate: kernels refuse a netem queue that duplicates beside others")
    if conditions.rate_bps is not None and conditions.reorder:
        raise NotInNetem("reorder: netem keeps the order of packets where there is a rate_bps")
    if conditions.rate_bps is not None and conditions.jitter_ms and conditions.jitter_order == "free":
        raise NotInNetem("jitter_order free: netem keeps the order of packets where there is a rate_bps")
    if conditions.reorder and conditions.jitter_ms and conditions.jitter_order == "keep":
        raise NotInNetem("reorder: netem cannot hold back some packets and keep the others' order in jitter")


def netem_arguments(conditions: LinkConditions) -> str:
    """What follows ``netem`` for *conditions*.

    Raises:
        NotInNetem: it has no words for them.
    """
    check(conditions)
    if conditions.down:
        return f"limit {LEAST_LIMIT} loss 100%"
    table = delay_table(conditions)
    words = [f"limit {_limit(conditions)}"]
    if conditions.delay_ms or table:
        words.append(f"delay {_time(conditions.delay_ms)}")
    if table:
        words.append(f"{_time(table.scale_ms)} distribution {table.name}")
    words += _loss(conditions)
    if conditions.rate_bps is not None:
        words.append(f"rate {round(conditions.rate_bps)}bit -{ETHERNET_BYTES}")
    elif conditions.jitter_ms and conditions.jitter_order == "keep":
        words.append(f"rate {ORDER_RATE}")
    return " ".join(words)


def _loss(conditions: LinkConditions) -> list[str]:
    burst, alone = conditions.burst, conditions.loss
    if burst is None:
        return [f"loss {_percent(alone)}"] if alone else []
    bad, good = (1 - (1 - alone) * (1 - loss) for loss in (burst.loss_bad, burst.loss_good))
    return ["loss gemodel", *(_percent(value) for value in (burst.p, burst.r, bad, good))]


def _limit(conditions: LinkConditions) -> int:
    """Packets: as many as wait and are under way at once, and never fewer by default than netem's own."""
    mean_ms = conditions.jitter_ms / P90_MINUS_MEDIAN
    if conditions.rate_bps is not None:
        per_ms = conditions.rate_bps / 8000 / QUEUE_PACKET_BYTES
        return max(2, ceil(per_ms * (conditions.delay_ms + mean_ms + conditions.queue_ms)))
    longest_ms = conditions.delay_ms + 4 * mean_ms + (conditions.reorder_ms if conditions.reorder else 0)
    return max(LEAST_LIMIT, ceil(2 * MOST_PACKETS_PER_SECOND * longest_ms / 1000))


def _time(milliseconds: float) -> str:
    return f"{round(milliseconds * 1000)}us"


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.6f}".rstrip("0").rstrip(".") + "%"


# --- devices --------------------------------------------------------------------------------------


def router_device(host: int) -> str:
    """The router's end of the veth of host number *host*."""
    return f"rm{host}"


def router_links(hosts: Sequence[Sequence[str]], namespaces: Sequence[str]) -> list[str]:
    """``ip`` lines, in the router: a veth to each host; *hosts* are their addresses.

    *namespaces*: the path of each host's. One segment for each packet (``gso_max_segs``):
    netem would lose and delay a whole bundle as one.
    """
    lines = ["link set lo up"]
    for number, (addresses, path) in enumerate(zip(hosts, namespaces, strict=True)):
        end = f"address {MAC} gso_max_segs 1"
        device = router_device(number)
        lines.append(f"link add {device} {end} type veth peer name {HOST_DEVICE} {end} netns {path}")
        lines.append(f"link set {device} arp off up")
        lines += [f"route add {address}/32 dev {device}" for address in addresses]
    return lines


def host_links(addresses: Sequence[str], network: str) -> list[str]:
    """``ip`` lines, in a host with *addresses*; *network*: all hosts, as ``10.77.0.0/16``."""
    return [
        "link set lo up",
        *(f"address add {address}/32 dev {HOST_DEVICE}" for address in addresses),
        f"link set {HOST_DEVICE} arp off up",
        f"route add {network} dev {HOST_DEVICE} src {addresses[0]}",
    ]


# --- queues ---------------------------------------------------------------------------------------


def root_lines(device: str) -> list[str]:
    """``tc`` lines: the classes' root on *device*, and the class of what no wire takes."""
    return [
        f"qdisc add dev {device} root handle 1: htb default {NOWHERE:x}",
        *_class_lines(Leaf(device, NOWHERE)),
        f"qdisc add dev {device} parent 1:{NOWHERE:x} netem loss 100%",
    ]


def wire_lines(leaf: Leaf, source: str, target: str, conditions: LinkConditions) -> list[str]:
    """``tc`` lines: a wire from the address *source* to *target*.

    Raises:
        NotInNetem: see :func:`check`.
    """
    match = f"match ip src {source}/32 match ip dst {target}/32"
    return [
        *_class_lines(leaf),
        _add(leaf, conditions),
        f"filter add dev {leaf.device} parent 1: protocol ip prio 1 u32 {match} flowid {leaf.parent}",
    ]


def change_lines(leaf: Leaf, conditions: LinkConditions) -> list[str]:
    """``tc`` lines: from now on the wire at *leaf* is like this.

    Never by ``change`` or ``replace``: they keep what the new line does not say. What is under way is lost.
    """
    return [f"qdisc del dev {leaf.device} parent {leaf.parent}", _add(leaf, conditions)]


def _add(leaf: Leaf, conditions: LinkConditions) -> str:
    return f"qdisc add dev {leaf.device} parent {leaf.parent} netem {netem_arguments(conditions)}"


def _class_lines(leaf: Leaf) -> Iterator[str]:
    yield (
        f"class add dev {leaf.device} parent 1: classid {leaf.parent}"
        f" htb rate {CLASS_RATE} ceil {CLASS_RATE} quantum 1514"
    )
