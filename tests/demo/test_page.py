from __future__ import annotations

import re

import httpx
import pytest

from relaymesh.demo.page import LinkError, make_page
from relaymesh.web import DEMO_PAGES, NODE_PAGES, load_pages
from tests.demo.fake_mesh import FakeMesh


@pytest.fixture
def mesh() -> FakeMesh:
    return FakeMesh()


@pytest.fixture
def browser(mesh: FakeMesh) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(make_page(mesh))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://demo")


async def test_the_page_and_all_it_asks_for(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    for name in re.findall(r'(?:src|href)="([\w.-]+\.\w+)"', page.text):
        assert (await browser.get(f"/{name}")).status_code == 200, name


@pytest.mark.parametrize("path", ["/nothing.html", "/__init__.py", "/..%2fdemo%2fplan.py", "/api/nothing"])
async def test_nothing_else_is_served(browser: httpx.AsyncClient, path: str) -> None:
    assert (await browser.get(path)).status_code == 404


async def test_a_link_is_cut_and_restored(browser: httpx.AsyncClient, mesh: FakeMesh) -> None:
    answer = await browser.post("/api/links/dallas-1/london-1", json={"down": True})
    assert (answer.status_code, answer.json()) == (200, {"down": True})
    assert mesh.down == {("dallas-1", "london-1")}
    state = (await browser.get("/api/state")).json()
    assert [link["down"] for link in state["links"]] == [False, False, True]
    assert (await browser.post("/api/links/london-1/dallas-1", json={"down": False})).status_code == 200
    assert mesh.down == set()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"down": 1}', b'{"down": true' + b" " * 2000])
async def test_a_malformed_wish_changes_nothing(
    browser: httpx.AsyncClient, mesh: FakeMesh, body: bytes
) -> None:
    json_type = {"content-type": "application/json"}
    answer = await browser.post("/api/links/dallas-1/london-1", content=body, headers=json_type)
    assert answer.status_code == 400
    assert mesh.down == set()


async def test_another_sites_form_cuts_nothing(browser: httpx.AsyncClient, mesh: FakeMesh) -> None:
    answer = await browser.post("/api/links/dallas-1/london-1", content=b'{"down": true}')
    assert answer.status_code == 415
    assert mesh.down == set()


async def test_why_a_link_was_not_cut(browser: httpx.AsyncClient, mesh: FakeMesh) -> None:
    missing = await browser.post("/api/links/dallas-1/paris-1", json={"down": True})
    assert (missing.status_code, missing.text) == (404, "there is no link between dallas-1 and paris-1\n")
    mesh.refuse = LinkError("london-1 does not answer", 502)
    assert (await browser.post("/api/links/dallas-1/london-1", json={"down": True})).status_code == 502


def test_pages_need_nothing_from_elsewhere() -> None:
    for name, page in load_pages(DEMO_PAGES).items():
        text = page.body.decode()
        assert not re.findall(r"""(?:src|href)=["']https?://|@import|url\(""", text), name
        assert not re.findall(r"from '(?!\./)", text), name


def test_a_nodes_pages_use_only_what_a_node_serves() -> None:
    for page in load_pages(NODE_PAGES).values():
        text = page.body.decode()
        used = re.findall(r"""(?:src|href)="([\w-]+\.\w+)"|from '\./([\w.-]+)'""", text)
        assert {a or b for a, b in used} <= set(NODE_PAGES)
