"""Sites: the workers of one host, which are nodes of their own, and what that means for links and costs.

In: two nodes. Out: whether they stand on one host, where one reaches the other there, and what is
added to the cost of a link that leaves a site. Costs alone would let each worker of a site fetch its
own copy of a track over the same line from afar, as all ways there cost the same. So each pair
of sites has one worker at either end that crossing at is free, and one after the other that are
dearer by a step: one copy crosses, workers share it at next to no cost, and when that worker is
away the next one takes its place. Which one it is differs from pair to pair, so that no worker
carries everything. Pure functions of what nodes said when they joined.
"""

from __future__ import annotations

from typing import Protocol

from relaymesh.protocol.ids import name_hash
from relaymesh.protocol.messages import Address, SiteInfo

# More than a hop between workers (0.25 ms) and what two workers of a busy host measure differently of one
# line (1 to 3 ms, half of the jitter among it); less than ways between regions differ by where it matters.
CROSSING_STEP_MS = 4.0


class Sited(Protocol):
    """A node that says where it is."""

    @property
    def name(self) -> str: ...

    @property
    def region(self) -> str: ...

    @property
    def site(self) -> SiteInfo | None: ...


class Reached(Sited, Protocol):
    """A node with a relay port."""

    @property
    def address(self) -> Address: ...


def same_site(one: Sited, other: Sited) -> bool:
    """Check that both are workers of one site."""
    return (
        one.site is not None
        and other.site is not None
        and one.site.name == other.site.name
        and one.region == other.region
    )


def host_of(node: Sited) -> tuple[str, ...]:
    """Identity of the host *node* is on, as far as it is known: its site, or itself."""
    return (node.name,) if node.site is None else (node.site.name, node.region)


def own_names(node: Sited) -> tuple[str, ...]:
    """Names an operator may mean *node* by: its own, then its site's."""
    return (node.name,) if node.site is None else (node.name, node.site.name)


def address_for(node: Reached, peer: Reached) -> Address:
    """Address at which *node* reaches *peer*: within a site the one that does not leave the host."""
    return peer.site.relay if peer.site is not None and same_site(node, peer) else peer.address


def crossing_ms(source: Sited, target: Sited) -> float:
    """Cost added to a link that leaves a site, milliseconds; 0 between nodes without one."""
    if same_site(source, target):
        return 0.0
    return CROSSING_STEP_MS * (_rank(source, target) + _rank(target, source))


def _rank(node: Sited, far: Sited) -> int:
    """Number of workers of its site that are to cross to *far*'s site before *node*."""
    if node.site is None:
        return 0
    first = name_hash(own_names(far)[-1]) % node.site.workers
    return (node.site.number - 1 - first) % node.site.workers
