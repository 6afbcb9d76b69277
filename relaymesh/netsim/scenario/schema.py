"""The published JSON schema of scenario files, made from :mod:`relaymesh.netsim.scenario.file`."""

from __future__ import annotations

from typing import Any

from relaymesh.netsim.metrics import metric_names
from relaymesh.netsim.scenario.file import ScenarioFile
from relaymesh.topology.schema import tidied_schema


def json_schema() -> dict[str, object]:
    """The published JSON schema (draft 2020-12) of format version 1."""
    schema: Any = tidied_schema(ScenarioFile.model_json_schema())
    # Editors complete the names; a metric of a later version is refused by the loader anyway.
    schema["$defs"]["Expectation"]["properties"]["metric"]["enum"] = metric_names()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "RelayMesh scenario",
        **schema,
    }
