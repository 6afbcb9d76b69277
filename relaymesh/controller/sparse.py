"""Choice of neighbours in a big mesh, where not everybody can probe everybody.

In: a member, and all that it may peer with. Out: indexes of neighbours. Up to
:data:`FULL_MESH` possible ones a node gets all, and also where the operator lists
pairs of nodes. Beyond, it gets those nearest to it, by region and place where
known, and a few spread over the whole mesh, at index distances that grow by
four, so that any node is a few hops from any other. Workers of one site are always neighbours.
A newcomer links to at least two who are in already, which keeps a 2-connected
mesh 2-connected. Links are chosen when a node comes; later ones do not displace them, so
that nobody's links move because somebody joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import asin, cos, inf, radians, sin, sqrt
from typing import Protocol

from relaymesh.controller.policy import MeshPolicy, Place, Placed
from relaymesh.controller.sites import same_site

FULL_MESH = 16  # possible neighbours
NEAREST = 4
MAX_DEGREE = 32  # who has as many is chosen only by those with no one else
LEAST = 3  # who has fewer after somebody left gets new ones
_STRIDES = (1, 4, 16, 64, 256, 1024)
_EARTH_KM = 6371.0


class Indexed(Placed, Protocol):
    """A node with an index."""

    @property
    def index(self) -> int: ...


def choose_neighbours(
    member: Indexed, allowed: Mapping[int, Indexed], degree: Callable[[int], int], policy: MeshPolicy
) -> set[int]:
    """Neighbours for *member* of the *allowed*; *degree* is the present number of neighbours of a node."""
    if len(allowed) <= FULL_MESH or policy.lists_pairs():
        return set(allowed)
    free = [index for index in allowed if degree(index) < MAX_DEGREE] or list(allowed)
    distances = _distances_km(member.region, {allowed[index].region for index in free}, policy)

    def nearness(index: int) -> tuple[float, int, int]:
        return distances[allowed[index].region], abs(index - member.index), index

    chosen = {index for index in allowed if same_site(member, allowed[index])}
    chosen |= set(sorted(free, key=nearness)[:NEAREST])
    room = set(free)
    for stride in _STRIDES:
        chosen |= room & {member.index - stride, member.index + stride}
    return chosen


def _distances_km(region: str, others: set[str], policy: MeshPolicy) -> dict[str, float]:
    """Distance of the *others* from *region*; itself is nearest, those without a place farthest."""
    here = policy.place(region)
    distances: dict[str, float] = {}
    for other in others:
        there = None if here is None else policy.place(other)
        distances[other] = inf if here is None or there is None else _distance_km(here, there)
    distances[region] = -1.0
    return distances


def _distance_km(one: Place, other: Place) -> float:
    """Along the great circle (haversine)."""
    north, south = radians(one.latitude), radians(other.latitude)
    east = radians(one.longitude - other.longitude)
    chord = sin((north - south) / 2) ** 2 + cos(north) * cos(south) * sin(east / 2) ** 2
    return 2 * _EARTH_KM * asin(min(1.0, sqrt(chord)))
