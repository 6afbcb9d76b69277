"""The report of one or more runs: one HTML page that needs nothing else, for people to look at.

In: results. Out: a file with their data, the code that draws them and its styles; it opens from disk, without
a network, and its content security policy allows none. The drawing is in ``assets``: `chart.js` (plots over
time), `map.js` with `land.js` (the mesh on a map), `run.js` and `tables.js` (one run), `several.js` (runs
side by side), `report.js` (the page).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile

from relaymesh.netsim.metrics import METRICS, SERIES
from relaymesh.netsim.result import Result

_SCRIPTS = ("chart.js", "land.js", "map.js", "words.js", "run.js", "tables.js", "several.js", "report.js")


def write_report(results: Sequence[Result], path: Path | str) -> None:
    """Write the page for *results* (at least one) to *path*, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    text = render_report(results)
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.chmod(file.name, 0o644)  # a temporary file is its maker's only
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def render_report(results: Sequence[Result]) -> str:
    """The page for *results* as text."""
    if not results:
        raise ValueError("a report needs a result")
    first = results[0]
    title = first.title or first.scenario
    tables = {
        "metrics": {name: asdict(metric) for name, metric in METRICS.items()},
        "series": {name: asdict(series) for name, series in SERIES.items()},
    }
    parts = {
        "title": escape(f"{title} – RelayMesh"),
        "style": _asset("report.css"),
        "results": _in_script(f"[{','.join(result.to_json() for result in results)}]"),
        "tables": _in_script(json.dumps(tables, ensure_ascii=False)),
        "script": "\n".join(_asset(name) for name in _SCRIPTS),
    }
    before, *rest = _asset("report.html").split("{{")
    page = [before]
    for piece in rest:  # one pass, so that nothing that is put in is looked at for placeholders
        name, _, after = piece.partition("}}")
        page += [parts[name], after]
    return "".join(page)


def _asset(name: str) -> str:
    return (files("relaymesh.netsim") / "assets" / name).read_text(encoding="utf-8")


def _in_script(data: str) -> str:
    """JSON that cannot end the element it stands in."""
    return data.replace("<", "\\u003c")
