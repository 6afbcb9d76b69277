from __future__ import annotations

import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology.source import MAX_DEPTH, Parser, SourceError, read_source

PARSERS: list[Parser] = [yaml.SafeLoader]
if yaml.__with_libyaml__:
    PARSERS.append(yaml.CSafeLoader)
parsers = pytest.mark.parametrize("parser", PARSERS)


def value(text: str, parser: Parser) -> object:
    root, findings = read_source(text, parser)
    assert not findings
    return root.plain()


@parsers
@pytest.mark.parametrize(
    ("text", "expected"),
    # YAML 1.2.2 § 10.3.2, and what YAML 1.1 would have made of some.
    [
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("22:22", "22:22"),
        ("2024-09-15", "2024-09-15"),
        ("1_000", "1_000"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        ("+12.", 12.0),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("'null'", "null"),
        ('"1"', "1"),
        ("-.inf", -math.inf),
        ("<<", "<<"),
        ("|\n  7", "7"),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
        ('{"a":1,"b":[true,null,"\\u00e9\\/"]}', {"a": 1, "b": [True, None, "é/"]}),
    ],
)
def test_scalars_are_read_by_the_core_schema(text: str, expected: object, parser: Parser) -> None:
    read = value(text, parser)
    assert read == expected and type(read) is type(expected)


@parsers
def test_nan_is_a_number(parser: Parser) -> None:
    assert math.isnan(value(".nan", parser))  # type: ignore[arg-type]


@parsers
@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", (1, 1), "the file is empty"),
        ("# only a comment\n", (1, 1), "the file is empty"),
        ("a: 1\n---\nb: 2\n", (2, 1), "second document"),
        ("a: &x 1\nb: *x\n", (2, 4), "aliases"),
        ("a: !!python/object:os.system x", (1, 4), "tags"),
        ("a:\n  b: [1, 2\n", (3, 1), "not YAML"),
        ("? [a]\n: 1\n", (1, 3), "a key must be a word"),
        ("a: 1\nb: \x07", (2, 4), "U+0007"),
        ("a: \ud800", (1, 4), "U+D800"),
        ("a: " + "9" * 5000, (1, 4), "a number of 5000 characters"),
        ("[" * (MAX_DEPTH + 1), (1, MAX_DEPTH + 1), "nested"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    text: str, place: tuple[int, int], message: str, parser: Parser
) -> None:
    with pytest.raises(SourceError, match=message.replace("+", r"\+")) as caught:
        read_source(text, parser)
    assert caught.value.place == place


@parsers
@pytest.mark.parametrize("text", [r'"\U99999999"', "%YAML 1." + "9" * 5000 + "\n--- a", "!<tag:%FF> x", "%A"])
def test_the_parsers_own_failures_do_not_escape(text: str, parser: Parser) -> None:
    outcome(text, parser)


@parsers
def test_duplicate_keys_are_found_and_the_reading_goes_on(parser: Parser) -> None:
    root, findings = read_source("a: 1\nb: {c: 1, c: 2}\na: [3]\n", parser)
    assert root.plain() == {"a": 1, "b": {"c": 1}}
    assert [(path, place) for path, place, _ in findings] == [(("b", "c"), (2, 11)), (("a",), (3, 1))]


@parsers
def test_every_value_knows_its_place(parser: Parser) -> None:
    root, _ = read_source("a: 1\nb:\n  - c: x\n    d:   [1, 22]\n", parser)
    assert root.locate(()) == (1, 1)
    assert root.locate(("b", 0, "d", 1)) == (4, 14)
    assert root.locate(("b", 0, "d"), key=True) == (4, 5)
    assert root.locate(("b", 0, "nothing", 7)) == (3, 5)  # the nearest thing around it


def outcome(text: str, parser: Parser) -> tuple[str, object]:
    try:
        root, findings = read_source(text, parser)
    except SourceError:
        return "refused", None
    return "read", (repr(root.plain()), [path for path, _, _ in findings])


@given(st.text(alphabet="ab01 .-:,[]{}'\"#\n\t&*!|>%?~\\é\ud800\x00", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parser in PARSERS:
        outcome(text, parser)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text("aé'\"{}:#, \\", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab: ", max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_json_is_read_as_json(data: object) -> None:
    for indent in (None, 2):
        for parser in PARSERS:
            assert value(json.dumps(data, ensure_ascii=False, indent=indent), parser) == data
