"""Which kernels serve, the references or the native ones: settled once, at import.

``RELAYMESH_KERNELS`` says what is wanted: `reference`, `native`, or `auto` (the
default: native where it is installed and of the package's own version). Whatever
is wrong, the references serve, and :func:`chosen` says what to do about it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from relaymesh import __version__

VARIABLE = "RELAYMESH_KERNELS"
MODULE = "relaymesh_native"


class Choice(NamedTuple):
    """Which kernels serve, and why."""

    name: str  # "reference" or "native"
    note: str  # why, in words for the operator
    refused: bool  # something else was asked for, or is installed and cannot serve


def choose(wanted: str, load: Callable[[str], Any], version: str) -> tuple[Choice, Any]:
    """The choice for the setting *wanted*, and the native module, or None where the references serve.

    Args:
        wanted: the value of ``RELAYMESH_KERNELS``; empty as `auto`.
        load: imports a module by name, or raises ImportError.
        version: of this package; a native module of another one is refused.
    """
    if wanted == "reference":
        return Choice("reference", f"{VARIABLE}=reference", False), None
    if wanted not in ("", "auto", "native"):
        note = f"{VARIABLE} is {wanted!r}; set it to reference, native or auto"
        return Choice("reference", note, True), None
    try:
        module = load(MODULE)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == MODULE:
            note = "relaymesh-native is not installed; 'make kernels' builds it"
            if wanted == "native":
                return Choice("reference", f"{VARIABLE}=native, but {note}", True), None
            return Choice("reference", note, False), None
        note = f"relaymesh-native does not load ({error}); build it again by 'make kernels'"
        return Choice("reference", note, True), None
    found = getattr(module, "__version__", "unknown")
    if found != version:
        note = (
            f"relaymesh-native is of version {found}, relaymesh of {version}; "
            "install the same version, or build it by 'make kernels'"
        )
        return Choice("reference", note, True), None
    return Choice("native", f"relaymesh-native {found}", False), module


_CHOICE, NATIVE = choose(os.environ.get(VARIABLE, "").strip().lower(), import_module, __version__)


def chosen() -> Choice:
    """Which kernels serve in this process, and why."""
    return _CHOICE
