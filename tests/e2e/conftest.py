from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.e2e.processes import square_mesh

# Two browsers would take both of a small machine's cores, and a node that gets none for 0.15 s is a dead one
# to its neighbours: what is tested is the mesh, so the browsers give way to it.
POLITE_BROWSER = Path(__file__).with_name("polite_browser.sh")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def find_chromium() -> str | None:
    """The first of those that are installed here."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def launch(playwright: Playwright, path: str | Path) -> Browser:
    """A headless browser with a camera, a microphone and sound."""
    return playwright.chromium.launch(
        executable_path=POLITE_BROWSER,
        env={**os.environ, "BROWSER": str(path)},
        args=BROWSER_FLAGS,
        ignore_default_args=["--mute-audio"],
    )


def pytest_runtest_makereport(item, call):
    # The logs of the mesh's processes go with a failure.
    if call.excinfo is not None and "mesh" in item.funcargs:
        item.add_report_section(call.when, "mesh", item.funcargs["mesh"].logs())


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """A running square mesh, one for each test module."""
    mesh = square_mesh(tmp_path_factory.mktemp("mesh"))
    try:
        mesh.start()
        yield mesh
    finally:
        mesh.stop()


@pytest.fixture(scope="session")
def browser_path() -> str:
    return find_chromium() or pytest.skip("no Chromium here")


@pytest.fixture
def browsers(browser_path):
    """Two headless browsers: one to publish, one to play."""
    with sync_playwright() as playwright:
        pair = [launch(playwright, browser_path) for _ in range(2)]
        yield pair
        for browser in pair:
            browser.close()
