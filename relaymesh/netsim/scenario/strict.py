"""The base of all scenario models, and the types that several of them use.

All times are seconds from the start of the run; all delays are one-way milliseconds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from relaymesh.protocol.ids import NAME_PATTERN

MAX_DURATION_S = 24 * 3600
CONTROLLER = "controller"  # how a partition names it


class Strict(BaseModel):
    """Unknown keys are errors, and text is not a number even if it looks like one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Line = Annotated[str, Field(max_length=128, pattern=r"^[^\u0000-\u001f\u007f-\u009f]*$")]
Lines = Annotated[str, Field(max_length=4096, pattern=r"^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$")]
FileName = Annotated[str, Field(min_length=1, max_length=1024)]
Seconds = Annotated[float, Field(ge=0, le=MAX_DURATION_S)]
Span = Annotated[float, Field(gt=0, le=MAX_DURATION_S)]
Milliseconds = Annotated[float, Field(ge=0, le=60_000)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Mbps = Annotated[float, Field(gt=0, le=1e6)]
