"""YAML text as a tree of values that know their line and column.

In: the text of one file. Out: a :class:`SourceNode`, or a :class:`SourceError`
with the place where reading had to stop; duplicate keys and the like do not
stop it and are handed out beside the tree.

Scalars are read by the core schema of YAML 1.2 (YAML 1.2.2 § 10.3), not by
PyYAML's rules of YAML 1.1, which take `no` for false and `22:22` for 1342.
Files come from strangers: the tree is built from parser events in a loop, its
depth is bounded, and aliases (the way ten lines become a billion values) and
tags are refused. This module does not know what a topology is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 16  # a topology needs five
MAX_NUMBER_LENGTH = 64  # characters; enough for any number meant as one

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]
Place = tuple[int, int]  # line and column, both from 1

Parser = type[yaml.CSafeLoader] | type[yaml.SafeLoader]
# libyaml where PyYAML was built with it (five times as fast), else PyYAML's own.
PARSER: Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED_INT = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_INFINITY = re.compile(r"([-+]?)\.(?:inf|Inf|INF)\Z")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)\Z")
# YAML 1.2.2 § 5.1, c-printable, turned round.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class SourceError(Exception):
    """The text cannot be read past this place."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


@dataclass(slots=True)
class SourceNode:
    """One value of the file: a scalar, a list or a mapping, and where it stands."""

    place: Place
    value: Scalar | list[SourceNode] | dict[str, SourceNode]
    key_places: dict[str, Place] = field(default_factory=dict)  # of a mapping's keys

    def plain(self) -> object:
        """The value without its places. Recursion is bounded by ``MAX_DEPTH``."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def empty_values(self, path: Path = ()) -> Iterator[Path]:
        """Paths of null values below this one, top down. Recursion is bounded by ``MAX_DEPTH``."""
        if self.value is None and path:
            yield path
        elif isinstance(self.value, dict):
            for key, child in self.value.items():
                yield from child.empty_values((*path, key))
        elif isinstance(self.value, list):
            for index, child in enumerate(self.value):
                yield from child.empty_values((*path, index))

    def locate(self, path: Path, *, key: bool = False) -> Place:
        """Where *path* stands, or the nearest thing around it that exists.

        With *key*, the place of the last step's key and not of its value.
        """
        node = self
        for position, step in enumerate(path):
            children = node.value
            if isinstance(children, dict) and isinstance(step, str) and step in children:
                if key and position == len(path) - 1:
                    return node.key_places[step]
                node = children[step]
            elif isinstance(children, list) and isinstance(step, int) and step < len(children):
                node = children[step]
            else:
                break
        return node.place


def read_source(text: str, parser: Parser = PARSER) -> tuple[SourceNode, list[tuple[Path, Place, str]]]:
    """The tree of *text*, and what is wrong with it that did not stop the reading.

    Raises:
        SourceError: the text is not one YAML document, or one that this reader refuses.
    """
    unprintable = _UNPRINTABLE.search(text)
    if unprintable is not None:
        place = _place_of(text, unprintable.start())
        raise SourceError(place, f"the character U+{ord(unprintable[0]):04X} may not stand in a text file")
    try:
        return _TreeBuilder().build(_events(text, parser))
    except yaml.MarkedYAMLError as error:
        message = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        raise SourceError(_place(mark) if mark else (1, 1), f"not YAML: {message}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML's own scanner lets chr() and int() speak for themselves.
        raise SourceError((1, 1), f"not YAML: {error}") from None


def _events(text: str, parser: Parser) -> Iterator[yaml.Event]:
    loader = parser(text)
    try:
        while loader.check_event():
            event = loader.get_event()
            assert event is not None, "check_event saw one"
            yield event
    finally:
        loader.dispose()


def _place(mark: Any) -> Place:  # the two parsers have a class each
    return mark.line + 1, mark.column + 1


def _place_of(text: str, offset: int) -> Place:
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - start + 1


@dataclass(slots=True)
class _Open:
    """A list or mapping that has not ended yet."""

    node: SourceNode
    path: Path
    key: str | None = None  # of a mapping: the key whose value comes next


class _TreeBuilder:
    """Parser events to a tree, without recursion."""

    def __init__(self) -> None:
        self._root: SourceNode | None = None
        self._stack: list[_Open] = []
        self._problems: list[tuple[Path, Place, str]] = []

    def build(self, events: Iterator[yaml.Event]) -> tuple[SourceNode, list[tuple[Path, Place, str]]]:
        place = (1, 1)
        for event in events:
            place = _place(event.start_mark) if event.start_mark else place
            if isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                raise SourceError(place, "a second document begins here; a topology file holds one")
            if isinstance(event, yaml.AliasEvent):
                raise SourceError(place, f"aliases (*{event.anchor}) are not allowed; use 'defaults'")
            if isinstance(event, yaml.NodeEvent):
                self._node(event, place)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._stack.pop()
        if self._root is None:
            raise SourceError((1, 1), "the file is empty")
        return self._root, self._problems

    def _node(self, event: yaml.NodeEvent, place: Place) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise SourceError(place, f"tags ({tag!a}) are not allowed")
        parent = self._stack[-1] if self._stack else None
        if parent is not None and isinstance(parent.node.value, dict) and parent.key is None:
            if not isinstance(event, yaml.ScalarEvent):
                raise SourceError(place, "a key must be a word, not a list or mapping")
            parent.key = event.value
            if event.value not in parent.node.key_places:
                parent.node.key_places[event.value] = place
            else:
                first = parent.node.key_places[event.value][0]
                self._problems.append(
                    ((*parent.path, event.value), place, f"the key is given twice, first in line {first}")
                )
            return
        if isinstance(event, yaml.ScalarEvent):
            self._attach(parent, SourceNode(place, _scalar(event, place)))
            return
        if len(self._stack) >= MAX_DEPTH:
            raise SourceError(place, f"nested more than {MAX_DEPTH} deep")
        node = SourceNode(place, {} if isinstance(event, yaml.MappingStartEvent) else [])
        self._stack.append(_Open(node, self._attach(parent, node)))

    def _attach(self, parent: _Open | None, node: SourceNode) -> Path:
        """Hang *node* where it belongs; returns its path."""
        if parent is None:
            self._root = node
            return ()
        children = parent.node.value
        if isinstance(children, list):
            children.append(node)
            return (*parent.path, len(children) - 1)
        assert isinstance(children, dict), "scalars have no children"
        assert parent.key is not None, "a value comes after its key"
        key, parent.key = parent.key, None
        children.setdefault(key, node)  # of a key given twice, the first value is judged further
        return (*parent.path, key)


def _scalar(event: yaml.ScalarEvent, place: Place) -> Scalar:
    """The value of a scalar by the YAML 1.2 core schema; only plain ones are more than text."""
    text: str = event.value
    if not event.implicit[0]:  # quoted, or a block
        return text
    if _NULL.match(text):
        return None
    if _TRUE.match(text) or _FALSE.match(text):
        return text[0] in "tT"
    if _NAN.match(text):
        return float("nan")
    infinity = _INFINITY.match(text)
    if infinity:
        return float(infinity[1] + "inf")
    number = _INT.match(text), _BASED_INT.match(text), _FLOAT.match(text)
    if any(number) and len(text) > MAX_NUMBER_LENGTH:
        raise SourceError(place, f"a number of {len(text)} characters")
    if number[0]:
        return int(text)
    if number[1]:
        return int(text, 0)
    return float(text) if number[2] else text
