"""Long answers, worked out in parts: between two of them everything else goes on.

In: a generator that yields where it may pause, and returns the answer. Out: the
answer, either in one go or with a checkpoint at each pause. The mesh may change
meanwhile: each part tells what holds when it is worked out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

import trio

Answer = TypeVar("Answer")
Parts: TypeAlias = Generator[None, None, Answer]
_ITEMS = 128  # of a list or a mapping, made or encoded in one part
Item = TypeVar("Item")


class _Work(Generic[Answer]):
    """One run of *parts*: iterated once, a pause each time; then ``answer`` is set."""

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


def gathered(items: Iterable[Item]) -> Parts[list[Item]]:
    """All *items*, made a part at a time."""
    rest, found = iter(items), list[Item]()
    while part := list(islice(rest, _ITEMS)):
        found += part
        yield
    return found


def encode_json(answer: Mapping[str, object]) -> Parts[bytes]:
    """*answer* as JSON. One call of the encoder would hold the interpreter until a long list is through.

    Long may be lists and mappings in *answer*, and those in mappings in it.
    """
    return (yield from _encoded(answer, 2)).encode()


def _encoded(value: object, depth: int) -> Parts[str]:
    """*value*; so *deep* are mappings whose values may be long."""
    if isinstance(value, list):
        return f"[{(yield from _encoded_items(value, json.dumps))}]"
    if not isinstance(value, Mapping):
        return json.dumps(value)
    if not depth:
        return f"{{{(yield from _encoded_items(list(value.items()), lambda part: json.dumps(dict(part))))}}}"
    fields: list[str] = []
    for key, inner in value.items():
        fields.append(f"{_key(key)}:{(yield from _encoded(inner, depth - 1))}")
    return f"{{{','.join(fields)}}}"


def _encoded_items(items: list[Item], encode: Callable[[list[Item]], str]) -> Parts[str]:
    parts: list[str] = []
    for start in range(0, len(items), _ITEMS):
        parts.append(encode(items[start : start + _ITEMS])[1:-1])
        yield
    return ",".join(parts)


def _key(key: object) -> str:
    """The key as the JSON encoder writes it: numbers become text."""
    return json.dumps({key: 0})[1:-4]
