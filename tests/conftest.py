"""What holds for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.skips import SkipBudget

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("relaymesh", deadline=None)
settings.load_profile("relaymesh")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a worker of xdist tells the one that started it
        config.pluginmanager.register(SkipBudget.of(os.environ), "relaymesh-skips")
