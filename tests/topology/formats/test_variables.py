"""The forms with a word are held against the table in POSIX.1-2017 § 2.6.2; the rest is containerlab's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.topology.formats.variables import VariableError, expand

ENVIRONMENT = {"SET": "value", "NULL": ""}


@pytest.mark.parametrize(
    ("form", "where_set", "where_null", "where_unset"),
    [
        ("${%s:-word}", "value", "word", "word"),
        ("${%s-word}", "value", "", "word"),
        ("${%s:=word}", "value", "word", "word"),
        ("${%s=word}", "value", "", "word"),
        ("${%s:+word}", "word", "", ""),
        ("${%s+word}", "word", "word", ""),
    ],
)
def test_forms_with_a_word(form: str, where_set: str, where_null: str, where_unset: str) -> None:
    text = "a " + " | ".join(form % name for name in ("SET", "NULL", "UNSET")) + " b"
    assert expand(text, ENVIRONMENT, 1000).text == f"a {where_set} | {where_null} | {where_unset} b"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$SET,${SET}", "value,value"),
        ("$UNSET,${UNSET}", "$UNSET,${UNSET}"),
        ("$$SET $$$SET", "$SET $value"),
        ("$1 $ ${1} ${} $", "$1 $ ${1} ${} $"),
        ("${UNSET:=${SET}-${OTHER:-x}}y", "value-xy"),
        ("${UNSET:=}", ""),
        ("${SET?message}", "${SET?message}"),
        ("{a: ${UNSET:=1}}", "{a: 1}"),
        ("${UNSET:=a:b=c}", "a:b=c"),
    ],
)
def test_the_rest(text: str, expanded: str) -> None:
    assert expand(text, ENVIRONMENT, 1000).text == expanded


def test_what_was_used_and_what_is_not_set_is_told() -> None:
    found = expand("${UNSET} ${SET:-x} ${NULL:-x} $SET $LEFT ${UNSET}", ENVIRONMENT, 1000)
    assert (found.used, found.unset) == ({"SET": 9}, {"UNSET": 0})


@pytest.mark.parametrize(
    ("text", "offset", "said"),
    [
        ("a ${SET:=b", 2, "has no end"),
        ("${A:=" * 20 + "}" * 20, 45, "nested more than 8 deep"),
        ("$SET" * 30, 80, "more than 100 characters"),
        ("${UNSET:+" + "$SET" * 30 + "}", 89, "more than 100 characters"),
        ("a" * 101, 0, "more than 100 characters"),
    ],
)
def test_what_cannot_be_expanded(text: str, offset: int, said: str) -> None:
    with pytest.raises(VariableError, match=said) as caught:
        expand(text, ENVIRONMENT, 100)
    assert caught.value.offset == offset


@given(st.text("ab${}:=-+ ", max_size=60))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        found = expand(text, {"a": "${b}", "ab": ""}, 200)
    except VariableError as error:
        offset = error.offset
    else:
        assert len(found.text) <= 200
        assert "$" in text or found.text == text
        offset = 0
    assert 0 <= offset <= len(text)
