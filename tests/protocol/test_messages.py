import math
import typing
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import messages
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.ids import NAME_PATTERN
from relaymesh.protocol.messages import (
    Address,
    Join,
    LinkConfig,
    Links,
    Report,
    Welcome,
    decode_controller_message,
    decode_node_message,
    encode_message,
)

NODE_TYPES = typing.get_args(messages.NodeMessage)
CONTROLLER_TYPES = typing.get_args(messages.ControllerMessage)


def strategy(info: Any) -> st.SearchStrategy[Any]:
    """Values of a field, from the message's own declaration, so that no message can be left out."""
    kind = type(info).__name__
    if kind == "StrType":
        if info.pattern is not None:
            assert info.pattern == NAME_PATTERN.replace("$", r"\Z")
            return st.from_regex(info.pattern)
        return st.text(min_size=info.min_length or 0, max_size=min(info.max_length or 40, 40))
    if kind == "BytesType":
        return st.binary(min_size=info.min_length or 0, max_size=min(info.max_length or 40, 40))
    if kind == "IntType":
        low = -(1 << 62) if info.ge is None else info.ge
        return st.integers(low, (1 << 62) if info.le is None else info.le)
    if kind == "FloatType":
        return st.floats(info.ge, info.le)
    if kind == "BoolType":
        return st.booleans()
    if kind == "NoneType":
        return st.none()
    if kind == "LiteralType":
        return st.sampled_from(info.values)
    if kind == "UnionType":
        return st.one_of([strategy(member) for member in info.types])
    if kind == "VarTupleType":
        return st.lists(strategy(info.item_type), min_size=info.min_length or 0, max_size=3).map(tuple)
    assert kind == "StructType", kind
    return structs(info.cls)


def structs(cls: type) -> st.SearchStrategy[Any]:
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    return st.builds(cls, **{field.name: strategy(field.type) for field in info.fields})


@pytest.mark.parametrize("cls", NODE_TYPES)
@given(data=st.data())
def test_every_node_message_round_trips(cls: type, data: st.DataObject) -> None:
    message = data.draw(structs(cls))
    assert decode_node_message(encode_message(message)) == message


@pytest.mark.parametrize("cls", CONTROLLER_TYPES)
@given(data=st.data())
def test_every_controller_message_round_trips(cls: type, data: st.DataObject) -> None:
    message = data.draw(structs(cls))
    assert decode_controller_message(encode_message(message)) == message


DECODERS = pytest.mark.parametrize("decode", [decode_node_message, decode_controller_message])

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.binary(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
tags = [cls.__struct_config__.tag for cls in NODE_TYPES + CONTROLLER_TYPES]
field_names = sorted({name for cls in NODE_TYPES + CONTROLLER_TYPES for name in cls.__struct_fields__})


def refused_or_understood(decode: Any, data: bytes) -> None:
    """*data* is refused, or is a message that says the same when it is encoded again."""
    try:
        message = decode(data)
    except ProtocolError:
        return
    again = encode_message(message)
    assert encode_message(decode(again)) == again
    assert decode(again) == message


@DECODERS
@given(data=st.binary(max_size=120))
def test_random_bytes_are_refused_or_understood(decode: Any, data: bytes) -> None:
    refused_or_understood(decode, data)


@DECODERS
@given(fields=st.dictionaries(st.sampled_from(field_names), plain, max_size=8), tag=st.sampled_from(tags))
def test_wrong_fields_are_refused_or_understood(decode: Any, fields: dict[str, Any], tag: str) -> None:
    refused_or_understood(decode, msgpack.packb({**fields, "t": tag}))


@DECODERS
@given(data=st.data(), at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 3))
def test_broken_messages_are_refused_or_understood(
    decode: Any, data: st.DataObject, at: int, value: int, cut: int
) -> None:
    cls = data.draw(st.sampled_from(NODE_TYPES + CONTROLLER_TYPES))
    packed = bytearray(encode_message(data.draw(structs(cls))))
    packed[at % len(packed)] = value
    refused_or_understood(decode, bytes(packed[: len(packed) - cut]))


@DECODERS
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81\xa1t",
        b"\x81\x01\x02",  # a map with an integer key
        b"\x81\xa1t\xd4\x00\x00",  # an extension type
        b"\x81\xa1t\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\x81\xa1t\xa1\xff",  # text that is not UTF-8
        b"\x91" * 5000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
        b"\xc0\xc0",  # more after the message
    ],
)
def test_hostile_msgpack(decode: Any, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_each_end_hears_only_what_the_other_may_say() -> None:
    welcome = encode_message(Welcome(1, 50.0, 200.0, 500.0))
    with pytest.raises(ProtocolError) as caught:
        decode_node_message(welcome)
    assert caught.value.reason == "invalid"


def test_an_oversized_message_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_node_message(bytes(messages.MAX_MESSAGE_BYTES + 1))
    assert caught.value.reason == "oversized"


def test_unknown_keys_are_ignored() -> None:
    fields = msgpack.unpackb(encode_message(Welcome(1, 50.0, 200.0, 500.0)))
    assert decode_controller_message(msgpack.packb({**fields, "of_a_newer_one": [1]})) == Welcome(
        1, 50.0, 200.0, 500.0
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 60_000.1])
def test_a_measurement_is_a_number_in_its_range(value: float) -> None:
    fields = msgpack.unpackb(
        encode_message(Report((messages.LinkReport(1, True, 1.0, 1.0, 0.0, 0.0, 1, 1),)))
    )
    fields["links"][0]["rtt_ms"] = value
    with pytest.raises(ProtocolError) as caught:
        decode_node_message(msgpack.packb(fields))
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n", "a" * 65, "ä", "a/b"])
def test_a_name_is_a_name(name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_node_message(encode_message(messages.Subscribe(1, messages.ParticipantName("room", name))))
    assert caught.value.reason == "invalid"


def test_keys_and_tokens_are_never_shown() -> None:
    secret = b"0123456789abcdef"
    config = LinkConfig(1, "b", Address("h", 1), 1, secret, secret[::-1])
    join = Join(1, "a", "eu", "the-token", "boot-id-1", Address("h", 1), "http://h")
    for shown in (repr(config), repr(Links((config,))), str(config), repr(join), f"{join}"):
        assert "0123456789abcdef" not in shown
        assert "fedcba9876543210" not in shown
        assert "the-token" not in shown


def test_a_refusal_never_quotes_a_secret() -> None:
    fields = msgpack.unpackb(
        encode_message(Join(1, "a", "eu", "the-token", "boot-id-1", Address("h", 1), "u"))
    )
    with pytest.raises(ProtocolError) as caught:
        decode_node_message(msgpack.packb({**fields, "token": "the-token" * 1000}))
    assert "the-token" not in str(caught.value)
