"""docs/protocol.md says what the code does: its tables are compared, its numbers looked for."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relaymesh.protocol import (
    acks,
    arrivals,
    bitstring,
    bundles,
    contexts,
    control,
    datagram,
    errors,
    fec,
    fragments,
    frames,
    keyring,
    link,
    lossiness,
    messages,
    path_estimate,
    probe,
    recovery,
    repair,
    replay,
    silence,
)
from relaymesh.protocol.frames import compact

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "protocol.md").read_text()
VECTORS = ROOT / "tests" / "vectors" / "relay"
MESSAGES = typing.get_args(messages.NodeMessage) + typing.get_args(messages.ControllerMessage)
STRUCTURES = (
    messages.Address,
    messages.SiteInfo,
    messages.TrackInfo,
    messages.PublicationInfo,
    messages.ParticipantName,
    messages.LinkConfig,
    messages.LinkReport,
    messages.Route,
    messages.Detour,
    messages.Way,
)


def fields_of(cls: type) -> tuple[Any, ...]:
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    return info.fields


def listed(cls: type) -> str:
    """The fields of *cls* as the tables write them."""
    names = (f"`{f.encode_name}`" if f.required else f"[`{f.encode_name}`]" for f in fields_of(cls))
    return ", ".join(names) or "—"


def described(kind: Any) -> str:
    """A field's type and range as the table of keys writes it."""
    name = type(kind).__name__
    if name == "UnionType":
        return " or ".join(described(member) for member in kind.types)
    if name == "VarTupleType":
        limit = f", at most {kind.max_length}" if kind.max_length is not None else ""
        return f"array of {described(kind.item_type)}{limit}"
    if name == "StructType":
        return str(kind.cls.__name__)
    if name == "LiteralType":
        return "one of " + ", ".join(f"`{value}`" for value in kind.values)
    if name in ("IntType", "FloatType"):
        word = {"IntType": "integer", "FloatType": "number"}[name]
        return (
            word
            if kind.ge is None
            else f"{word} {kind.ge:.16g} … {kind.le:.16g}"
            if kind.le < 1e16
            else f"{word} 0 … 2^62"
        )
    if name in ("StrType", "BytesType"):
        word = {"StrType": "text", "BytesType": "binary"}[name]
        if name == "StrType" and kind.pattern is not None:
            return "name"
        unit = "characters" if name == "StrType" else "bytes"
        low, high = kind.min_length or 0, kind.max_length
        return f"{word}, {low} … {high} {unit}" if low != high else f"{word}, {low} {unit}"
    return {"BoolType": "boolean", "NoneType": "nil"}[name]


def rows_of_keys() -> list[str]:
    """One row for each key and type, with the messages and structures that have it."""
    users: dict[tuple[str, str], list[str]] = {}
    for cls in MESSAGES + STRUCTURES:
        config: Any = cls.__struct_config__  # type: ignore[attr-defined]
        for field in fields_of(cls):
            users.setdefault((field.encode_name, described(field.type)), []).append(
                config.tag or cls.__name__
            )
    return [f"| `{key}` | {text} | {', '.join(used)} |" for (key, text), used in sorted(users.items())]


@pytest.mark.parametrize("cls", MESSAGES)
def test_every_message_has_its_row_under_its_direction(cls: Any) -> None:
    _, _, after = DOCUMENT.partition("**Node → controller**")
    node, _, rest = after.partition("**Controller → node**")
    controller, _, _ = rest.partition("**Structures**")
    part = node if cls in typing.get_args(messages.NodeMessage) else controller
    assert f"| `{cls.__struct_config__.tag}` | {listed(cls)} | " in part


@pytest.mark.parametrize("cls", STRUCTURES)
def test_every_structure_has_its_row(cls: type) -> None:
    assert f"| {cls.__name__} | {listed(cls)} | " in DOCUMENT


def test_every_key_has_its_row_and_no_other_is_there() -> None:
    _, _, part = DOCUMENT.partition("**Keys**")
    assert re.findall(r"^\| `.*$", part.partition("## 7")[0], re.MULTILINE) == rows_of_keys()


def test_every_frame_type_is_in_the_registry() -> None:
    for name in (
        "PROBE",
        "ECHO",
        "ACK",
        "REPAIR",
        "RETRANSMISSION",
        "CONTROL",
        "CONTROL_ACK",
        "CONTROL_RESET",
        "MEDIA",
        "CLOCK",
        "KEYFRAME_REQUEST",
        "DETOUR",
        "SKIP",
        "DEMAND",
        "LAYERS",
        "FRAGMENT",
        "ANNOUNCE",
        "CONTEXT_UNKNOWN",
    ):
        assert f"| `{getattr(frames, name):#04x}` | {name} | " in DOCUMENT


def test_every_reason_is_told() -> None:
    for reason in typing.get_args(errors.Reason):
        assert f"`{reason}`" in DOCUMENT


@pytest.mark.parametrize(
    "sentence",
    [
        f"{datagram.MIN_DATAGRAM_BYTES} to {datagram.MAX_DATAGRAM_BYTES} bytes long",
        f"at most {datagram.MAX_PLAINTEXT_BYTES} bytes of frames",
        f"window of {replay.WINDOW} packet numbers",
        f"or {keyring.KEY_GRACE:.1f} s after it was installed",
        f"the first node sends {frames.HOP_LIMIT}",
        f"how many wishes follow, 0 … {frames.MAX_WISHES};",
        f"how many encodings follow, 0 … {frames.MAX_ENCODINGS} |",
        f"spatial layers, 1 … {frames.MAX_LAYERS_EACH} |",
        f"temporal layers, 1 … {frames.MAX_LAYERS_EACH} |",
        f"bytes of bit string, 1 … {bitstring.MAX_SET_BYTES}",
        f"0 … {bitstring.MAX_INDEX}",
        f"last {probe.RTT_SAMPLES} samples",
        f"At most {probe.MAX_OUTSTANDING} probes",
        f"a window of {probe.LOSS_WINDOW:.0f} s",
        f"more than {probe.RESTART_DISTANCE} away",
        f"At most {link.MAX_ECHOES} echoes",
        f"at most {acks.MAX_COVERED} packet numbers",
        f"ticks of {acks.TICK * 1e6:.0f} µs",
        f"within {arrivals.ACK_INTERVAL * 1e3:.0f} ms; within",
        f"within {arrivals.ACK_INTERVAL_LOSSY * 1e3:.0f} ms while",
        f"{arrivals.ACK_INTERVAL_MIN * 1e3:.0f} ms after the last at the earliest",
        f"{arrivals.REORDERING_MIN * 1e3:.0f} to {arrivals.REORDERING_MAX * 1e3:.0f} ms; it is forgotten",
        f"forgotten over {arrivals.REORDERING_MEMORY:.0f} s",
        f"the last {arrivals.OVERLAP_ACKS} ACKs",
        f"more than {arrivals.MAX_JUMP} packet numbers",
        f"about {path_estimate.PathEstimate.MEMORY:.0f} packets",
        f"given up (after {arrivals.HOLE_KEPT:.0f} s)",
        f"sources, 1 … {fec.MAX_SOURCES}",
        f"repair packets, 1 … {fec.MAX_REPAIRS}",
        f"{fec.MAX_SPAN} from the first to the last",
        f"until {recovery.BLOCKS_MEMORY:.0f} s after the last (at most {recovery.KEPT_SOURCES})",
        f"at most {fec.MAX_OPEN_BLOCKS} blocks, for {fec.BLOCK_KEPT:.0f} s",
        f"{recovery.BUCKET_BYTES:,.0f} bytes at once",
        f"links of {repair.Adaptive.LONG_RTT * 1e3:.0f} ms RTT or more",
        f"than {repair.Adaptive.LATE * 1e2:.1f} % of all packets",
        f"at most {messages.MAX_MESSAGE_BYTES:,} bytes",
        f"k | hops left after the node that gets this frame, 1 … {messages.MAX_DETOUR_HOPS - 1}",
        f"a frame is at most {frames.MAX_FRAME_BYTES} bytes long",
        f"longer than {fragments.MAX_WHOLE_BYTES} bytes",
        f"at most {fragments.MAX_WAITING} fragments, for {arrivals.HOLE_KEPT:.0f} s",
        f"| channel | 0 … {control.CHANNELS - 1} |",
        f"| message | at most {control.MAX_MESSAGE_BYTES} bytes |",
        f"At most {control.WINDOW} messages of a stream, and {control.FLYING_BYTES:,} bytes on all channels",
        f"more than {control.QUEUE} that wait on a channel",
        f"1.25 × RTT + {control.RETRY_MARGIN * 1e3:.0f} ms (then twice that,",
        f"and so on up to {control.RETRY_LONGEST:.0f} s)",
        f"the last {control.ENDED_KEPT} streams that ended",
        f"A path has at most {messages.MAX_DETOUR_HOPS} nodes",
        f"and {silence.PROBES_MISSED} probe intervals (left out",
        f"{silence.PROBES_LOST} probe intervals more for each unit of loss",
        f"{silence.USUAL_PAUSES} times the mean pause",
        f"{silence.LONGEST_PAUSES} times the longest pause",
        f"at least {silence.LEAST * 1000:.0f} ms",
        f"sent nothing for {silence.FILLED * 1000:.0f} ms sends a probe",
        f"each pause is {silence.FILLED_GROWTH} times as long",
        f"until {silence.FILLED_FOR} s after the last such",
        f"{probe.STEP_SAMPLES} samples in a row",
        f"the last {lossiness.MEMORY:.0f} datagrams",
        f"at most {keyring.SHORT_WITHIN} above one",
        f"{datagram.OVERHEAD_BYTES} bytes, with a long header",
        f"when {contexts.HELD} others were given",
        f"remainder of numbers by {contexts.HELD},",
        f"(here: every {contexts.REFRESH:.0f} s)",
        f"at most {contexts.MAX_STREAMS} of a link at once, and one that is idle for {contexts.IDLE:.0f} s",
        f"then 1 to {compact.MAX_UNKNOWN} numbers of 2 bytes;",
        f"at most once in {contexts.UNKNOWN_INTERVAL * 1e3:.0f} ms",
        f"of at most {bundles.MAX_BUNDLED_BYTES} bytes that are ready in one",
        f"up to {fragments.MAX_WHOLE_BYTES} bytes. Nothing waits",
        f"# The relay protocol, version {datagram.VERSION}",
        f"the version is not {datagram.VERSION} |",
        f"`join`, version {messages.CONTROL_VERSION}",
    ],
)
def test_numbers(sentence: str) -> None:
    assert sentence in " ".join(DOCUMENT.split())


def test_the_vectors_are_quoted() -> None:
    quoted = set(re.findall(r"`([0-9a-f]{16,})`", DOCUMENT))
    for name, keys in (
        ("frames", ["frame"]),
        ("contexts", ["announce", "compact", "frame"]),
        ("reroutes", ["frame", "rerouted"]),
        ("datagrams", ["plaintext", "datagram"]),
    ):
        content = json.loads((VECTORS / f"{name}.json").read_text())
        for group, vectors in content.items():
            if not group.startswith("bad"):
                assert {vector[key] for vector in vectors for key in keys} <= quoted
