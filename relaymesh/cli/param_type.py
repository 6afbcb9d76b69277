"""``click.ParamType`` with the type of what it makes, which older releases of click do not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    ParamType = click.ParamType
else:

    class ParamType(click.ParamType):
        """Written ``ParamType[float]``."""

        def __class_getitem__(cls, made: object) -> type[ParamType]:
            return cls
