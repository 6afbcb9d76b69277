"""The report in a real browser: it draws itself from disk, without a network, at any width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from relaymesh.netsim.report import write_report
from tests.netsim.synthetic_result import make_result

pytestmark = pytest.mark.browser


@pytest.fixture
def open_report(browser_path: str, tmp_path: Path) -> Iterator[Any]:
    """A function: results, width → the page with their report, and what it complained of or asked for."""
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, headless=True, args=flags)

        def open_it(results: list[Any], width: int) -> tuple[Any, list[str]]:
            file = tmp_path / "report.html"
            write_report(results, file)
            page = browser.new_page(viewport={"width": width, "height": 900})
            seen: list[str] = []
            page.on("console", lambda message: seen.append(message.text))
            page.on("pageerror", lambda error: seen.append(str(error)))
            page.on(
                "request",
                lambda request: seen.append(request.url) if "report.html" not in request.url else None,
            )
            page.goto(file.as_uri())
            page.wait_for_selector(".map svg circle")
            return page, seen

        yield open_it
        browser.close()


@pytest.mark.parametrize("width", [1280, 420])
def test_one_run(open_report: Any, width: int) -> None:
    result = make_result()
    page, seen = open_report([result], width)
    assert page.inner_text("h1") == result.title
    assert page.inner_text(".verdict") == "Fails as expected"
    assert page.locator(".split tbody tr").count() == len(result.checks)
    assert page.locator(".charts .chart path").count() > 6
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".players tbody tr").first.wait_for()
    page.click(".players button:has-text('Show all')")
    assert page.locator(".players tbody tr").count() == len(result.players)
    assert seen == []


def test_the_map_follows_the_charts(open_report: Any) -> None:
    page, seen = open_report([make_result()], 1280)
    chart = page.locator(".charts .chart svg").first
    faulty = page.locator(".map path[style*=dasharray]")
    chart.hover(position={"x": 100, "y": 60})
    assert faulty.count() == 0
    chart.hover(position={"x": 400, "y": 60})
    assert faulty.count() == 1
    assert "link-cut" in page.inner_text(".split section:nth-child(2) .head")
    assert seen == []


@pytest.mark.parametrize("count", [3, 10])
def test_many_runs_stand_side_by_side(open_report: Any, count: int) -> None:
    results = [make_result(seed=seed) for seed in range(1, count + 1)]
    page, seen = open_report(results, 1280)
    assert page.locator(".runs tbody tr").count() == count
    assert page.locator(".multiples" if count == 3 else ".strips").count()
    page.click(".runs tbody tr:nth-child(2)")
    assert page.inner_text("tr.chosen td") == "seed 2"
    assert page.url.endswith("#run-2")
    assert seen == []


def test_nodes_without_coordinates_stand_on_a_circle(open_report: Any) -> None:
    result = make_result("two-hops")
    for node in result.topology["nodes"]:
        node["place"] = None
    page, seen = open_report([result], 1280)
    assert page.locator(".map text").count() == 4
    assert seen == []
