"""One packet in, one for each subscriber out, by the kernel that serves: see :mod:`.fan_out_reference`."""

from typing import TYPE_CHECKING

from .choice import NATIVE
from .fan_out_reference import DEBT_S

if TYPE_CHECKING or NATIVE is None:
    from .fan_out_reference import FanOut, Group, Path, Stream
else:
    FanOut, Group = NATIVE.fan_out.FanOut, NATIVE.fan_out.Group
    Path, Stream = NATIVE.fan_out.Path, NATIVE.fan_out.Stream

__all__ = ["DEBT_S", "FanOut", "Group", "Path", "Stream"]
