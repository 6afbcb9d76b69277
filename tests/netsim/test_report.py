from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from relaymesh.netsim.metrics import METRICS, SERIES
from relaymesh.netsim.report import render_report, write_report
from tests.netsim.synthetic_result import make_result


def data_of(page: str, name: str) -> object:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_a_report_holds_its_results_and_needs_nothing_else() -> None:
    results = [make_result(), make_result(seed=2)]
    page = render_report(results)
    assert data_of(page, "results") == [json.loads(result.to_json()) for result in results]
    assert "{{" not in page.partition("<script")[0]
    loaded = re.sub(r"http://www\.w3\.org/2000/svg", "", page)
    assert not re.search(r"""(?:src|href)=|@import|url\([^#]|https?:|import\s|fetch\(""", loaded)
    assert "default-src 'none'" in page


def test_nothing_in_a_result_ends_the_script_it_stands_in() -> None:
    result = make_result()
    result.title = "</script><b>{{script}} & ü"
    page = render_report([result])
    assert "</script><b>" not in page
    assert "<title>&lt;/script&gt;&lt;b&gt;{{script}} &amp; ü" in page
    assert data_of(page, "results")[0]["title"] == result.title  # type: ignore[index]


def test_every_series_the_page_draws_is_a_known_one() -> None:
    page = render_report([make_result()])
    drawn = set(re.findall(r"\['([a-z0-9_]+)', '[^']+', \d, '(?:line|area|stems|bars)'\]", page))
    assert drawn
    assert drawn <= SERIES.keys()


def test_every_metric_has_a_name_for_people() -> None:
    page = render_report([make_result()])
    names = re.search(r"const NAMES = \{(.*?)\n\};", page, re.DOTALL)
    assert names is not None
    assert set(re.findall(r"^  (\w+):", names[1], re.MULTILINE)) == set(METRICS)


def test_the_file_is_whole_or_not_there(tmp_path: Path) -> None:
    write_report([make_result()], tmp_path / "report.html")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(ValueError, match="needs a result"):
        write_report([], tmp_path / "none.html")
    with pytest.raises(FileNotFoundError):
        write_report([make_result()], tmp_path / "gone" / "report.html")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
