"""The lines of a session description (RFC 8866 §5), and the words inside their values.

In: the text of a description, from anybody. Out: the attributes of the session and of each
section, in order, and readers for numbers and words that raise :class:`SdpError` for anything
else. It does not know what an attribute means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from relaymesh.webrtc.errors import SdpError

MAX_BYTES = 64 * 1024
MAX_SECTIONS = 32

TOKEN = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]{1,64}")  # RFC 8866 §9
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NUMBER = re.compile(r"[0-9]{1,10}")

Attributes = Sequence[tuple[str, str]]  # (name, value); the value of a flag is ""
SectionLines = tuple[str, tuple[tuple[str, str], ...]]  # an m= line, and its section's attributes


def split(text: str) -> tuple[tuple[tuple[str, str], ...], list[SectionLines]]:
    """The session's attributes, and each section's m= line with its attributes.

    Raises:
        SdpError: longer than `MAX_BYTES`, more than `MAX_SECTIONS` sections, or not SDP.
    """
    if len(text) > MAX_BYTES or len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise SdpError("longer than 64 KiB")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[0] != "v=0":
        raise SdpError("SDP begins with v=0")
    session: list[tuple[str, str]] = []
    sections: list[tuple[str, list[tuple[str, str]]]] = []
    for line in lines:
        if not line:
            continue  # some leave empty lines, at the end above all
        if len(line) < 2 or line[1] != "=" or _CONTROL.search(line):
            raise SdpError("a line that is not SDP")
        if line[0] == "m":
            if len(sections) == MAX_SECTIONS:
                raise SdpError(f"more than {MAX_SECTIONS} sections")
            sections.append((line[2:], []))
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            (sections[-1][1] if sections else session).append((name, value.strip()))
    return tuple(session), [(line, tuple(attributes)) for line, attributes in sections]


def values(attributes: Attributes, name: str) -> Iterator[str]:
    """The values of each attribute *name*, in order."""
    return (value for key, value in attributes if key == name)


def first(attributes: Attributes, name: str) -> str | None:
    """The value of the first attribute *name*; ``None`` without one."""
    return next(values(attributes, name), None)


def number(text: str, highest: int, what: str) -> int:
    """The decimal number *text*, at most *highest*; *what* stands in the error."""
    if not _NUMBER.fullmatch(text) or int(text) > highest:
        raise SdpError(f"{what} is a number up to {highest}")
    return int(text)


def words(value: str, at_least: int, what: str) -> list[str]:
    """The words of *value*, *at_least* so many."""
    found = value.split()
    if len(found) < at_least:
        raise SdpError(f"{what} is incomplete")
    return found
