"""The kernels to run a test over: the references always, the native ones where they are built."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from relaymesh import __version__
from relaymesh.kernels import choice

_CHOICE, _NATIVE = choice.choose("auto", import_module, __version__)


def reference(kernel: str) -> Any:
    """The reference of *kernel*, as a module."""
    return import_module(f"relaymesh.kernels.{kernel}_reference")


def native(kernel: str) -> Any:
    """The native module of *kernel*; the test that asks is skipped where it is not built."""
    if _NATIVE is None:
        pytest.skip(_CHOICE.note)
    return getattr(_NATIVE, kernel)


def over_both(kernel: str) -> Any:
    """A fixture that gives a test the reference of *kernel*, then the native one."""

    @pytest.fixture(params=[reference, native], ids=["reference", "native"])
    def module(request: pytest.FixtureRequest) -> Any:
        return request.param(kernel)

    return module
