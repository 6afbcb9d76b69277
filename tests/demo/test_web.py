"""What the pages promise, as far as it can be seen without a browser."""

from __future__ import annotations

import re

from relaymesh.web import DEMO_PAGES, load_pages

PAGES = {name: page.body.decode() for name, page in load_pages(DEMO_PAGES).items()}


def test_automated_tests_find_their_functions() -> None:
    assert "Object.assign(window, { publish, leave, stats })" in PAGES["publish.html"]
    assert "Object.assign(window, { play, leave, stats })" in PAGES["play.html"]


def test_every_element_a_script_asks_for_exists() -> None:
    for page, script in (
        ("publish.html", "publish.html"),
        ("play.html", "play.html"),
        ("demo.html", "demo.js"),
    ):
        asked = set(re.findall(r"byId\('([\w-]+)'\)", PAGES[script]))
        present = set(re.findall(r"id=\"([\w-]+)\"", PAGES[page]))
        assert asked <= present, (page, asked - present)
        assert asked


def test_scripts_put_no_markup_together() -> None:
    # Names of streams come from the network: they are set as text, never as HTML.
    for name, text in PAGES.items():
        assert "innerHTML" not in text, name
        assert "insertAdjacentHTML" not in text, name
        assert "document.write" not in text, name
