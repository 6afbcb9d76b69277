"""The pages a node and the demo serve: package data, without dependencies, usable offline.

In: a file name. Out: its bytes and content type, or ``None``. Knows no HTTP server; only the listed names
exist, so that no path from the network ever reaches the file system.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

NODE_PAGES = ("publish.html", "play.html", "whip.js", "page.css")
DEMO_PAGES = (*NODE_PAGES, "demo.html", "demo.js", "map.js", "demo.css")

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One file as it goes out."""

    body: bytes
    content_type: str


def load_pages(names: tuple[str, ...] = NODE_PAGES) -> dict[str, Page]:
    """The named files, read once: file name → page."""
    folder = files(__name__)
    return {name: Page((folder / name).read_bytes(), _TYPES[name.rpartition(".")[2]]) for name in names}
