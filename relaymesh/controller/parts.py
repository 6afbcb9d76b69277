"""Long answers, worked out in parts: between two of them everything else goes on.

In: a generator that yields where it may pause, and returns the answer. Out: the
answer, either in one go or with a checkpoint at each pause. The mesh may change
meanwhile: each part tells what holds when it is worked out.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from typing import Generic, TypeAlias, TypeVar

import trio

Answer = TypeVar("Answer")
Parts: TypeAlias = Generator[None, None, Answer]
_ITEMS = 128  # of a list, encoded in one part


class _Work(Generic[Answer]):
    """To be iterated once, a pause each time; then there is the answer."""

    answer: Answer

    def __init__(self, parts: Parts[Answer]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[None]:
        self.answer = yield from self._parts


def at_once(parts: Parts[Answer]) -> Answer:
    """The answer, without a pause."""
    work = _Work(parts)
    for _ in work:
        pass
    return work.answer


async def in_turns(parts: Parts[Answer]) -> Answer:
    """The answer; others run at each pause."""
    work = _Work(parts)
    for _ in work:
        await trio.lowlevel.checkpoint()
    return work.answer


def encode_json(answer: Mapping[str, object]) -> Parts[bytes]:
    """*answer* as JSON. One call of the encoder would hold the interpreter until a long list is through."""
    fields: list[str] = []
    for key, value in answer.items():
        if not isinstance(value, list):
            fields.append(f"{json.dumps(key)}:{json.dumps(value)}")
            continue
        items: list[str] = []
        for start in range(0, len(value), _ITEMS):
            items.append(json.dumps(value[start : start + _ITEMS])[1:-1])
            yield
        fields.append(f"{json.dumps(key)}:[{','.join(items)}]")
    return f"{{{','.join(fields)}}}".encode()
