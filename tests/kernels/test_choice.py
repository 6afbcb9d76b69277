"""Which kernels serve: the setting, a module that is missing, broken, or of another version."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from relaymesh.kernels import chosen
from relaymesh.kernels.choice import MODULE, VARIABLE, choose

MINE = SimpleNamespace(__version__="1.2.3")
OTHER = SimpleNamespace(__version__="1.2.4")
NAMELESS = SimpleNamespace()


def installed(module: Any) -> Any:
    return lambda name: {MODULE: module}[name]


def missing(name: str) -> Any:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def broken(name: str) -> Any:
    raise ImportError("undefined symbol: PyObject_New")


def never(name: str) -> Any:
    raise AssertionError("the reference was asked for; nothing is to be loaded")


@pytest.mark.parametrize("wanted", ["", "auto", "native"])
def test_native_kernels_of_the_same_version_serve(wanted: str) -> None:
    choice, module = choose(wanted, installed(MINE), "1.2.3")
    assert module is MINE
    assert (choice.name, choice.refused) == ("native", False)
    assert "1.2.3" in choice.note


@pytest.mark.parametrize(
    ("wanted", "load", "refused", "words"),
    [
        ("reference", never, False, "RELAYMESH_KERNELS=reference"),
        ("auto", missing, False, "not installed; 'make kernels' builds it"),
        ("", missing, False, "not installed"),
        ("native", missing, True, "=native, but relaymesh-native is not installed; 'make kernels' builds it"),
        ("native", broken, True, "(undefined symbol: PyObject_New); build it again by 'make kernels'"),
        ("auto", broken, True, "does not load"),
        ("native", installed(OTHER), True, "is of version 1.2.4, relaymesh of 1.2.3; install"),
        ("auto", installed(OTHER), True, "is of version 1.2.4"),
        ("auto", installed(NAMELESS), True, "is of version unknown"),
        ("fast", never, True, "RELAYMESH_KERNELS is 'fast'; set it to reference, native or auto"),
    ],
)  # fmt: skip
def test_else_the_references_serve_and_the_note_says_why(
    wanted: str, load: Any, refused: bool, words: str
) -> None:
    choice, module = choose(wanted, load, "1.2.3")
    assert module is None
    assert (choice.name, choice.refused) == ("reference", refused)
    assert words in choice.note


@pytest.mark.parametrize("wanted", ["reference", "Reference ", "nonsense"])
def test_the_environment_is_read_at_import(wanted: str) -> None:
    program = "from relaymesh.kernels import chosen, srtp; print(chosen().name, srtp.SrtpSender.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, VARIABLE: wanted},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["reference", "relaymesh.kernels.srtp_reference"]


def test_what_serves_here_is_one_of_the_two() -> None:
    assert chosen().name in ("reference", "native")
    assert chosen().note
