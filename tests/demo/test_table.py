from __future__ import annotations

import io

import trio
from rich.console import Console

from relaymesh.demo.checks import Evidence, verdict
from relaymesh.demo.table import mesh_table, summary_table
from tests.demo.fake_mesh import FakeMesh


def shown(what: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_links_and_tracks_are_shown() -> None:
    text = shown(mesh_table(FakeMesh().state(), None, "Watch it at http://localhost:8080"))
    assert "31.8 ms" in text
    assert "dallas-1 → washington-dc-1 → london-1" in text
    assert "video VP8" in text
    assert "http://localhost:8080" in text
    assert "waiting for the first picture" in text


def test_a_cut_link_is_shown_as_cut() -> None:
    mesh = FakeMesh()
    trio.run(mesh.set_link, "dallas-1", "london-1", True)
    assert shown(mesh_table(mesh.state(), None, "")).count("cut") == 2


def test_a_mesh_without_controller_streams_or_nodes_is_shown() -> None:
    mesh = FakeMesh()
    mesh.controller = False
    state = mesh.state()
    state["nodes"] = dict.fromkeys(mesh.names)
    text = shown(mesh_table(state, {"frames_decoded": 0}, ""))
    assert "no controller" in text
    assert "nobody publishes yet" in text


def test_the_summary_names_what_failed() -> None:
    text = shown(summary_table(verdict(Evidence("Dallas", "London", 53.5), 1.0)))
    assert "✗" in text
    assert "Not passed." in text
