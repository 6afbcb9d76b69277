"""The published JSON schema of scenario files, made from :mod:`relaymesh.netsim.scenario.model`."""

from __future__ import annotations

from typing import Any

from relaymesh.netsim.metrics import metric_names
from relaymesh.netsim.scenario.model import ScenarioFile


def json_schema() -> dict[str, object]:
    """The published JSON schema (draft 2020-12) of format version 1."""
    schema = _tidied(ScenarioFile.model_json_schema())
    # Editors complete the names; a metric of a later version is refused by the loader anyway.
    schema["$defs"]["Expectation"]["properties"]["metric"]["enum"] = metric_names()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "RelayMesh scenario",
        **schema,
    }


def _tidied(schema: Any) -> Any:
    """*schema* without generated titles, and without null: an absent key is left out, not empty."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _tidied(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    choices = kept.get("anyOf")
    if isinstance(choices, list):
        choices = [choice for choice in choices if choice != {"type": "null"}]
        if len(choices) == 1 and isinstance(choices[0], dict):
            del kept["anyOf"]
            return {**choices[0], **kept}
        kept["anyOf"] = choices
    return kept
