"""What one part of a scenario file says about another, and about its topology.

In: the file's values as plain data, as they were written, perhaps wrong in
other ways, and the topology if there is one. Out: problems by path. These
checks look only at what is well formed, so that they and the schema's can be
reported together: a misspelt key in one place does not hide an impossible
time in another.
"""

from __future__ import annotations

from collections.abc import Iterator

from relaymesh.netsim.scenario.checks.expectations import check_expectations, check_settings
from relaymesh.netsim.scenario.checks.faults import check_faults
from relaymesh.netsim.scenario.checks.names import check_names
from relaymesh.netsim.scenario.checks.reading import Finding
from relaymesh.netsim.scenario.checks.times import check_times
from relaymesh.netsim.scenario.checks.traffic import check_traffic
from relaymesh.topology import Topology


def cross_check(data: object, topology: Topology | None) -> Iterator[Finding]:
    """Everything that is wrong between the entries of *data*; names only where there is a topology."""
    if not isinstance(data, dict):
        return
    yield from check_times(data)
    yield from check_traffic(data, topology)
    yield from check_faults(data, topology)
    yield from check_expectations(data)
    yield from check_settings(data)
    if topology is not None:
        yield from check_names(data, topology)


__all__ = ["cross_check"]
