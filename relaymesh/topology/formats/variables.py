"""Shell-style variables in the text of a file, replaced by what a mapping gives.

In: text with `$NAME`, `${NAME}` and the forms with a word (`${NAME:=word}`), and the
environment as a mapping. Out: the text, and a note for each variable that somebody should know of.
This module reads no environment itself and knows no format.

The forms are those of the envsubst that containerlab uses, after POSIX.1-2017 § 2.6.2:

    ${NAME-word} ${NAME=word}     word where NAME is not set
    ${NAME:-word} ${NAME:=word}   word where NAME is not set or empty
    ${NAME+word}                  word where NAME is set, else nothing
    ${NAME:+word}                 word where NAME is set and not empty, else nothing
    $$                            a dollar

What is not set and has no word stays as it is written, as it does there. Nothing is assigned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_NESTED = 8  # words in words

_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_DOLLAR, _DOLLAR_OR_END = re.compile(r"\$"), re.compile(r"[$}]")
_FORM = re.compile(":?[-=+]")


class VariableError(Exception):
    """The text cannot be expanded; ``offset`` is the place in it."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


@dataclass(slots=True)
class Expanded:
    """Text whose variables are replaced."""

    text: str
    used: dict[str, int] = field(default_factory=dict)  # taken from the environment → first offset
    unset: dict[str, int] = field(default_factory=dict)  # `${NAME}` left as it is → first offset


def expand(text: str, environment: Mapping[str, str], most: int) -> Expanded:
    """Replace the variables of *text*; what is put in has at most *most* characters, and so has the result.

    Raises:
        VariableError: a `${` without its end, words nested too deep, or a result that is too long.
    """
    result = Expanded("")
    result.text, _ = _Expander(text, environment, most, result).run(0, 0)
    if len(result.text) > most:
        raise VariableError(0, f"more than {most} characters, variables replaced")
    return result


class _Expander:
    """One pass over the text, left to right; recursion is bounded by ``MAX_NESTED``."""

    def __init__(self, text: str, environment: Mapping[str, str], most: int, result: Expanded) -> None:
        self._text = text
        self._environment = environment
        self._most = most
        self._put_in = 0  # characters of values, also of those in words that are thrown away
        self._result = result

    def run(self, start: int, depth: int) -> tuple[str, int]:
        """Expand from *start* to the end of the text (of the word, inside of one) and say where that is."""
        if depth > MAX_NESTED:
            raise VariableError(start, f"variables nested more than {MAX_NESTED} deep")
        text, parts, position = self._text, list[str](), start
        special = _DOLLAR_OR_END if depth else _DOLLAR
        while (found := special.search(text, position)) is not None:
            parts.append(text[position : found.start()])
            position = found.start()
            if found[0] == "}":
                return "".join(parts), position
            part, position = self._variable(position, depth)
            parts.append(part)
        parts.append(text[position:])
        return "".join(parts), len(text)

    def _variable(self, at: int, depth: int) -> tuple[str, int]:
        """Expand what the dollar at *at* begins; the value, and where it ends."""
        text = self._text
        if text.startswith("$$", at):
            return "$", at + 2
        braced = text.startswith("${", at)
        name = _NAME.match(text, at + 1 + braced)
        if name is None:
            return "$", at + 1
        value = self._environment.get(name[0])
        if not braced:
            return self._known(name[0], value, at, name[0]), name.end()
        if text.startswith("}", name.end()):
            if value is None:
                self._result.unset.setdefault(name[0], at)
            return self._known(name[0], value, at, f"{{{name[0]}}}"), name.end() + 1
        form = _FORM.match(text, name.end())
        if form is None:  # some other language's braces
            return "$", at + 1
        word, end = self.run(form.end(), depth + 1)
        if end == len(text):
            raise VariableError(at, f"${{{name[0]} has no end")
        there = bool(value) if form[0][0] == ":" else value is not None
        if form[0][-1] == "+":
            return (word if there else ""), end + 1
        return (self._known(name[0], value, at, "") if there else word), end + 1

    def _known(self, name: str, value: str | None, at: int, written: str) -> str:
        """The *value* of a variable, or the variable as it is *written* where it has none."""
        if value is None:
            return f"${written}"
        self._put_in += len(value)
        if self._put_in > self._most:
            raise VariableError(at, f"more than {self._most} characters, variables replaced")
        self._result.used.setdefault(name, at)
        return value
