"""The published JSON schema of scenario files, made from :mod:`relaymesh.netsim.scenario.file`."""

from __future__ import annotations

from typing import Any

from relaymesh.netsim.metrics import metric_names
from relaymesh.netsim.scenario.file import ScenarioFile
from relaymesh.topology.schema import published_schema


def json_schema() -> dict[str, Any]:
    """The published JSON schema (draft 2020-12) of format version 1."""
    schema = published_schema(ScenarioFile, "RelayMesh scenario")
    # Editors complete the names; a metric of a later version is refused by the loader anyway.
    schema["$defs"]["Expectation"]["properties"]["metric"]["enum"] = metric_names()
    return schema
