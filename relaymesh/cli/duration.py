"""Durations on the command line."""

from __future__ import annotations

import re

import click

from relaymesh.cli.param_type import ParamType

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(ParamType[float]):
    """``90s``, ``30m``, ``24h``, ``7d`` → seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r} is not a duration such as 90s, 30m, 24h or 7d", param, ctx)
        return float(int(match[1]) * _UNIT_SECONDS[match[2]])
