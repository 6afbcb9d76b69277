"""The import rules of the house, read from the source itself.

cli → demo | site → node | controller | client | netsim → runtime → access | topology → protocol | webrtc
→ kernels.
An import under ``if TYPE_CHECKING:`` does not count: it never happens.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "relaymesh"
PURE = {"access", "protocol", "webrtc", "topology", "kernels"}
# The one module of a pure package that speaks to the world; no other pure package imports it.
SOCKET_KERNEL = PACKAGE / "kernels" / "udp_reference.py"
SPEAKS_TO_THE_WORLD = ("relaymesh.kernels.udp", "relaymesh.kernels.udp_reference")
# Nothing here tells the time, draws a number, or speaks to the world.
FORBIDDEN_IN_PURE = {
    "aiortc", "anyio", "asyncio", "http", "httpx", "hypercorn", "logging", "multiprocessing", "random",
    "secrets", "select", "selectors", "signal", "socket", "starlette", "structlog", "subprocess",
    "threading", "time", "trio", "trio_websocket", "uuid",
}  # fmt: skip
CALLS_FORBIDDEN_IN_PURE = {
    ("os", "urandom"),
    ("os", "getrandom"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
}
NO_ASYNCIO = {"node", "runtime", "controller"} | PURE
# What each subpackage may import of the others. "" is relaymesh/__init__.py and __main__.py.
ALLOWED: dict[str, set[str]] = {
    "": {"cli"},
    "cli": {"bench", "demo", "site", "node", "controller", "client", "netsim", "runtime", "web"} | PURE,
    "bench": {"netsim", "controller", "runtime"} | PURE,
    "demo": {"node", "controller", "client", "runtime", "web"} | PURE,
    "site": {"node", "runtime"} | PURE,
    "node": {"kernels", "runtime", "web"} | PURE,
    "controller": {"runtime"} | PURE,
    "client": {"runtime"} | PURE,
    "netsim": {"kernels", "node", "controller", "client", "runtime"} | PURE,
    "runtime": {"kernels"} | PURE,
    "kernels": set(),
    "protocol": {"kernels"},
    "webrtc": {"kernels"},
    "topology": {"protocol"},  # names
    "access": {"protocol"},  # names
    "web": set(),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def subpackage(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of *tree* but what only a type checker sees."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from run_time_nodes(other)
        else:
            yield child
            yield from run_time_nodes(child)


def imports(source: str, package: str) -> set[str]:
    """Dotted names that *source*, a module of *package*, imports at run time, lazily or not."""
    found: set[str] = set()
    for node in run_time_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts)
    return imports(path.read_text(), package)


def violations(name: str, imported: set[str]) -> list[str]:
    """What a module of the subpackage *name* imports and must not."""
    wrong = []
    for dotted in sorted(imported):
        parts = dotted.split(".")
        if parts[0] == "relaymesh":
            other = parts[1] if len(parts) > 1 else ""
            not_allowed = other in ALLOWED and other != name and other not in ALLOWED[name]
            if not_allowed or (name in PURE - {"kernels"} and dotted.startswith(SPEAKS_TO_THE_WORLD)):
                wrong.append(dotted)
        elif (name in PURE and parts[0] in FORBIDDEN_IN_PURE) or (
            name in NO_ASYNCIO and parts[0] in {"asyncio", "aiortc"}
        ):
            wrong.append(dotted)
    return wrong


def named_calls(source: str) -> set[tuple[str, str]]:
    return {
        (node.value.id, node.attr)
        for node in run_time_nodes(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    } | {tuple(name.rsplit(".", 1)) for name in imports(source, "relaymesh") if "." in name}  # type: ignore[misc]


def test_every_subpackage_has_a_rule() -> None:
    assert {subpackage(path) for path in FILES} <= set(ALLOWED)
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    excused = {"socket"} if path == SOCKET_KERNEL else set()
    assert violations(subpackage(path), imports_of(path) - excused) == []


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if subpackage(path) in PURE],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_pure_packages_fetch_neither_time_nor_randomness(path: Path) -> None:
    assert named_calls(path.read_text()) & CALLS_FORBIDDEN_IN_PURE == set()


@pytest.mark.parametrize(
    ("name", "source", "caught"),
    [
        ("protocol", "import time", ["time"]),
        ("protocol", "def f():\n    from random import Random", ["random.Random"]),
        ("webrtc", "import asyncio.events", ["asyncio.events"]),
        ("protocol", "from relaymesh.webrtc import stun", ["relaymesh.webrtc.stun"]),
        ("protocol", "from ..runtime import udp", ["relaymesh.runtime.udp"]),
        ("access", "import secrets", ["secrets"]),
        ("access", "from relaymesh.node import whip", ["relaymesh.node.whip"]),
        ("node", "import relaymesh.controller.app", ["relaymesh.controller.app"]),
        ("controller", "from relaymesh import node", ["relaymesh.node"]),
        ("node", "from relaymesh.netsim.world import World", ["relaymesh.netsim.world.World"]),
        ("runtime", "import asyncio", ["asyncio"]),
        ("node", "import aiortc", ["aiortc"]),
        ("cli", "from relaymesh.netsim import world", []),
        ("protocol", "from relaymesh.kernels import gf256", []),
        ("protocol", "from relaymesh.kernels import udp", ["relaymesh.kernels.udp"]),
        ("kernels", "from relaymesh.protocol import ids", ["relaymesh.protocol.ids"]),
        ("kernels", "import socket", ["socket"]),
        ("protocol", "if TYPE_CHECKING:\n    from random import Random\nelse:\n    import json", []),
        ("protocol", "if TYPE_CHECKING:\n    pass\nelse:\n    import time", ["time"]),
    ],
)
def test_the_rules_can_fail(name: str, source: str, caught: list[str]) -> None:
    assert violations(name, imports(source, f"relaymesh.{name}")) == caught


def test_the_call_rule_can_fail() -> None:
    assert ("os", "urandom") in named_calls("import os\nx = os.urandom(4)")
    assert ("os", "urandom") in named_calls("from os import urandom")
