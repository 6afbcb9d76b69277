"""The registry of members: names, indexes, boots and channels.

In: joins that passed the token, and closed channels. Out: members, or
:class:`~relaymesh.controller.refusal.JoinRefused`. An index is a bit position
in every packet's destination set, so it belongs to a name for as long as there
is room, also while its node is away. A node's *boot* is one run of its process:
the same boot on a new channel is the same node, come back; another boot under
the same name is a restart, or an impostor if the first is still connected.
This module knows no keys, links or streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from relaymesh.controller.policy import MeshPolicy
from relaymesh.controller.refusal import JoinRefused
from relaymesh.controller.sites import own_names
from relaymesh.protocol.messages import Address, Join, SiteInfo

MAX_NODES = 2040  # bits of the longest destination set
_NOT_AN_ADDRESS = ("0.0.0.0", "::")
_SHOWN_REGIONS = 20

JoinKind = Literal["new", "rebooted", "resumed"]


@dataclass(slots=True)
class Member:
    """One node that is in: connected, or away and not yet given up."""

    index: int
    name: str
    region: str
    boot_id: str
    address: Address
    http_url: str
    conn_id: int | None  # None: its channel is closed
    joined_at: float  # of this boot
    last_seen: float
    lost_at: float | None = None  # when its channel closed
    dead_since: float | None = None  # since when neither channel nor neighbours speak for it
    sessions: int = 0
    max_sessions: int = 0  # 0: it did not say
    newcomer: bool = False  # it forwarded nothing yet when it joined
    site: SiteInfo | None = None  # where it is a worker of one

    @property
    def connected(self) -> bool:
        return self.conn_id is not None


@dataclass(frozen=True, slots=True)
class Admission:
    """Outcome of a join."""

    member: Member
    kind: JoinKind
    replaced_conn: int | None  # the same boot's own older channel, to be closed
    moved: bool  # its relay address differs from the one its neighbours were told
    absent_since: float | None  # from when on it may have missed messages; None: it was no member


class Registry:
    """The members, by name, index and channel. Bounded by *max_nodes*."""

    def __init__(
        self,
        policy: MeshPolicy,
        max_nodes: int = MAX_NODES,
        reserved: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """*reserved*: indexes of names that were in under an earlier controller, and may be coming back."""
        self._policy = policy
        self._max_nodes = min(max_nodes, MAX_NODES)
        self._by_name: dict[str, Member] = {}
        self._by_index: dict[int, Member] = {}
        self._by_conn: dict[int, Member] = {}
        self._departed: dict[str, int] = {}  # name → index, longest gone first
        # Not among the departed, whom neighbours are told to forget: these may only be late.
        self._reserved = {name: index for name, index in reserved.items() if 0 <= index < self._max_nodes}

    def join(self, join: Join, conn_id: int, now: float) -> Admission:
        """Let *join* in on *conn_id*.

        Raises:
            JoinRefused: region, name-taken, full or malformed; nothing was changed.
        """
        self._check(join)
        member = self._by_name.get(join.name)
        if member is None:
            return self._join_new(join, conn_id, now)
        resumed = member.boot_id == join.boot_id and member.region == join.region
        if member.connected and not resumed:
            raise JoinRefused("name-taken", f"a node named {join.name!r} is connected")
        replaced = member.conn_id
        if replaced is not None:
            del self._by_conn[replaced]
        moved = (member.address, member.site) != (join.relay, join.site)
        # Its old channel may have been dead for as long as nothing was heard on it.
        absent_since = member.last_seen
        if not resumed:
            member.joined_at = now
        member.boot_id, member.region = join.boot_id, join.region
        member.address, member.http_url, member.site = join.relay, join.http_url, join.site
        member.max_sessions = join.max_sessions
        member.conn_id, member.last_seen = conn_id, now
        member.lost_at = member.dead_since = None
        self._by_conn[conn_id] = member
        return Admission(member, "resumed" if resumed else "rebooted", replaced, moved, absent_since)

    def leave(self, conn_id: int, now: float) -> Member | None:
        """The channel closed; its member stays, as away. None: no member has this channel."""
        member = self._by_conn.pop(conn_id, None)
        if member is not None:
            member.conn_id = None
            member.lost_at = now
        return member

    def usurper(self, join: Join) -> Member | None:
        """The newcomer that holds the index under which *join*'s node still forwards.

        After a restart of the controller a node that just started may come before those that were in.
        """
        if join.index is None or join.generation == 0 or join.name in self._by_name:
            return None
        holder = self._by_index.get(join.index)
        return holder if holder is not None and holder.newcomer else None

    def forget(self, index: int, *, reserve: bool = True) -> None:
        """The member is gone for good; with *reserve* its index stays its name's while there is room."""
        member = self._by_index.pop(index)
        del self._by_name[member.name]
        if member.conn_id is not None:
            del self._by_conn[member.conn_id]
        if reserve:
            self._departed[member.name] = index

    def members(self) -> list[Member]:
        """All members, by index."""
        return [self._by_index[index] for index in sorted(self._by_index)]

    def by_index(self, index: int) -> Member | None:
        return self._by_index.get(index)

    def member(self, index: int) -> Member:
        """The member with *index*, which is in."""
        return self._by_index[index]

    def by_name(self, name: str) -> Member | None:
        return self._by_name.get(name)

    def by_conn(self, conn_id: int) -> Member | None:
        return self._by_conn.get(conn_id)

    def connected_count(self) -> int:
        return len(self._by_conn)

    def departed(self) -> list[int]:
        """The indexes of nodes that were in once and are not now."""
        return list(self._departed.values())

    def indexes(self) -> dict[str, int]:
        """All names that have an index, in or not."""
        own = {name: member.index for name, member in self._by_name.items()}
        return {**self._reserved, **self._departed, **own}

    def debug_state(self) -> dict[str, object]:
        return {
            "members": len(self._by_index),
            "connected": len(self._by_conn),
            "departed": dict(self._departed),
        }

    def _check(self, join: Join) -> None:
        regions = self._policy.regions()
        if regions is not None and join.region not in regions:
            shown = ", ".join(sorted(regions)[:_SHOWN_REGIONS])
            more = ", …" if len(regions) > _SHOWN_REGIONS else ""
            raise JoinRefused(
                "region", f"{join.region!r} is not a region of the topology; it has {shown}{more}"
            )
        for name in own_names(join):
            listed = self._policy.listed_region(name)
            if listed is not None and listed != join.region:
                raise JoinRefused("region", f"the topology has the node {name!r} in region {listed!r}")
        for relay in (join.relay,) if join.site is None else (join.relay, join.site.relay):
            if relay.host in _NOT_AN_ADDRESS or "%" in relay.host:
                raise JoinRefused("malformed", f"nobody can send to the relay address {relay.host!r}")
        if join.site is not None:
            _check_site(join.name, join.site)
        if join.http_url and not join.http_url.startswith(("http://", "https://")):
            raise JoinRefused("malformed", "http_url is not an http or https URL")

    def _join_new(self, join: Join, conn_id: int, now: float) -> Admission:
        index = self._assign_index(join.name, join.index, forwards=join.generation > 0)
        self._departed.pop(join.name, None)
        self._reserved = {name: other for name, other in self._reserved.items() if other != index}
        self._reserved.pop(join.name, None)
        member = Member(
            index=index,
            name=join.name,
            region=join.region,
            boot_id=join.boot_id,
            address=join.relay,
            http_url=join.http_url,
            conn_id=conn_id,
            joined_at=now,
            last_seen=now,
            newcomer=join.generation == 0,
            max_sessions=join.max_sessions,
            site=join.site,
        )
        self._by_name[join.name] = self._by_index[index] = self._by_conn[conn_id] = member
        return Admission(member, "new", None, moved=True, absent_since=None)

    def _assign_index(self, name: str, proposed: int | None, *, forwards: bool) -> int:
        taken = self._by_index.keys() | self._departed.values()
        own = self._departed.get(name)
        if own is not None:
            return own
        if forwards and proposed is not None and proposed < self._max_nodes and proposed not in taken:
            return proposed  # whatever was remembered: its neighbours send to it there
        own = self._reserved.get(name)
        if own is not None and own not in taken:
            return own
        taken |= set(self._reserved.values())
        if proposed is not None and proposed < self._max_nodes and proposed not in taken:
            return proposed
        free = next((index for index in range(self._max_nodes) if index not in taken), None)
        if free is not None:
            return free
        if self._departed:
            longest_gone = next(iter(self._departed))
            return self._departed.pop(longest_gone)
        if self._reserved:
            return self._reserved.pop(next(iter(self._reserved)))
        raise JoinRefused("full", f"the mesh holds {self._max_nodes} nodes and no more")


def _check_site(name: str, site: SiteInfo) -> None:
    """The name tells the site, as tokens and the topology hold for names."""
    if site.number > site.workers or name != f"{site.name}.{site.number}":
        raise JoinRefused(
            "malformed",
            f"{name!r} is not the name of worker {site.number} of {site.workers} of the site {site.name!r}",
        )
