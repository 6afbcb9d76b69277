"""The implementation against tests/vectors/relay, and those against docs/protocol.md."""

from __future__ import annotations

import json
import random
import runpy
from pathlib import Path
from typing import Any

import pytest

from relaymesh.protocol import acks, arq, control, fec, frames
from relaymesh.protocol import datagram as sealed
from relaymesh.protocol.bitstring import set_of
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.ids import ParticipantId, TrackId
from relaymesh.protocol.link import Link
from tests.sealing import seal, unseal

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "relay"
FRAMES = json.loads((VECTORS / "frames.json").read_text())
DATAGRAMS = json.loads((VECTORS / "datagrams.json").read_text())
CONTEXTS = json.loads((VECTORS / "contexts.json").read_text())["contexts"]
REROUTES = json.loads((VECTORS / "reroutes.json").read_text())["reroutes"]
CODECS: dict[str, tuple[int, Any, Any, Any]] = {
    "media": (frames.MEDIA, frames.MediaFrame, frames.encode_media, frames.decode_media),
    "clock": (frames.CLOCK, frames.ClockFrame, frames.encode_clock, frames.decode_clock),
    "keyframe-request": (
        frames.KEYFRAME_REQUEST,
        frames.KeyframeRequest,
        frames.encode_keyframe_request,
        frames.decode_keyframe_request,
    ),
    "skip": (frames.SKIP, frames.SkipFrame, frames.encode_skip, frames.decode_skip),
    "demand": (frames.DEMAND, frames.DemandFrame, frames.encode_demand, frames.decode_demand),
    "layers": (frames.LAYERS, frames.LayersFrame, frames.encode_layers, frames.decode_layers),
    "fragment": (frames.FRAGMENT, frames.Fragment, frames.encode_fragment, frames.decode_fragment),
    "probe": (frames.PROBE, frames.Probe, frames.encode_probe, frames.decode_probe),
    "control": (frames.CONTROL, control.Control, control.encode_control, control.decode_control),
    "control-ack": (
        frames.CONTROL_ACK,
        control.ControlAck,
        control.encode_control_ack,
        control.decode_control_ack,
    ),
    "control-reset": (
        frames.CONTROL_RESET,
        control.ControlResetFrame,
        control.encode_control_reset,
        control.decode_control_reset,
    ),
    "echo": (frames.ECHO, frames.Echo, frames.encode_echo, frames.decode_echo),
}


def by_name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def build(cls: Any, fields: dict[str, Any]) -> Any:
    values = dict(fields)
    if "destinations" in values:
        values["destinations"] = set_of(values["destinations"])
    if "track" in values:
        values["track_id"] = TrackId(values.pop("room"), values.pop("participant"), values.pop("track"))
    if "wishes" in values:
        values["participant_id"] = ParticipantId(values.pop("room"), values.pop("participant"))
        values["wishes"] = tuple(frames.Wish(*wish) for wish in values["wishes"])
    if "encodings" in values:
        values["encodings"] = tuple(
            frames.EncodingLayers(*rest, tuple(rates)) for *rest, rates in values["encodings"]
        )
    if "data" in values:
        values["data"] = bytes.fromhex(values["data"])
    if "payload" in values:
        values["payload"] = bytes.fromhex(values["payload"])
        values["extensions"] = tuple((kind, bytes.fromhex(value)) for kind, value in values["extensions"])
    return cls(**values)


@pytest.mark.parametrize("vector", FRAMES["media"] + FRAMES["others"], ids=by_name)
def test_frames(vector: dict[str, Any]) -> None:
    kind, cls, encode, decode = CODECS[vector["name"].split(",")[0]]
    frame, data = build(cls, vector["fields"]), bytes.fromhex(vector["frame"])
    assert encode(frame) == data
    (whole,) = frames.split_frames(data)
    assert whole[0] == kind
    assert decode(whole[3:]) == frame


def test_ack() -> None:
    vector = FRAMES["repair"][0]
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in vector["fields"].items()}
    assert acks.encode_ack(acks.Ack(**fields)).hex() == vector["frame"]
    assert acks.decode_ack(bytes.fromhex(vector["frame"])[3:]) == acks.Ack(**fields)


def test_repair() -> None:
    vector = FRAMES["repair"][1]
    fields = dict(vector["fields"])
    sources = [bytes.fromhex(source) for source in vector["sources"]]
    repair = fec.decode_repair(bytes.fromhex(vector["frame"])[3:])
    assert (repair.epoch, list(repair.numbers), repair.repairs, repair.index, repair.symbol.hex()) == (
        *(fields[k] for k in ("epoch", "numbers", "repairs", "index", "symbol")),
    )
    assert fec.encode_block(1, repair.numbers, sources, 2)[1].hex() == vector["frame"]
    assert fec.recover({0: sources[0]}, {1: repair.symbol}, 2, 2) == {1: sources[1]}


def test_retransmission() -> None:
    vector = FRAMES["repair"][2]
    fields = (1, vector["fields"]["number"], bytes.fromhex(vector["fields"]["frames"]))
    assert arq.encode_retransmission(*fields).hex() == vector["frame"]
    assert arq.decode_retransmission(bytes.fromhex(vector["frame"])[3:]) == fields


def test_fragments() -> None:
    first, second = (
        bytes.fromhex(vector["frame"]) for vector in FRAMES["others"] if vector["name"].startswith("fragment")
    )
    whole = frames.decode_fragment(first[3:]).data + frames.decode_fragment(second[3:]).data
    assert frames.halves(whole, 3) == (first, second)
    assert frames.is_routed_alone(whole)
    assert whole[0] == frames.KEYFRAME_REQUEST
    assert frames.decode_keyframe_request(whole[3:]).track_id.track == 3


def test_unknown_contexts() -> None:
    vector = FRAMES["repair"][3]
    unknown = frames.ContextUnknown(vector["fields"]["epoch"], tuple(vector["fields"]["numbers"]))
    whole = bytes.fromhex(vector["frame"])
    assert frames.decode_unknown(whole[3:]) == unknown
    assert frames.encode_unknown(unknown.epoch, unknown.numbers) == whole


@pytest.mark.parametrize("vector", FRAMES["bad_media_bodies"], ids=by_name)
def test_bad_media_bodies(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as caught:
        frames.decode_media(bytes.fromhex(vector["body"]))
    assert caught.value.reason == vector["reason"]


@pytest.mark.parametrize("vector", CONTEXTS, ids=by_name)
def test_contexts(vector: dict[str, Any]) -> None:
    announce, compact, whole = (bytes.fromhex(vector[name]) for name in ("announce", "compact", "frame"))
    number, context, announced = frames.decode_announce(announce[3:])
    assert number == vector["number"]
    assert announced.hex() == vector["announced"]
    assert frames.encode_announce(number, context.stride, announced) == announce
    assert frames.restore(compact, {number: context}) == (number, whole)
    assert frames.restore(compact, {}) == (number, None)
    sent = frames.encode_compact(whole, number, context)
    assert sent is not None
    assert compact in (sent, frames.with_length(sent))


@pytest.mark.parametrize("vector", REROUTES, ids=by_name)
def test_reroutes(vector: dict[str, Any]) -> None:
    frame = bytes.fromhex(vector["frame"])
    sent_on = frames.reroute(frame, frames.read_route(frame, 3), set_of(vector["destinations"]))
    assert sent_on.hex() == vector["rerouted"]


@pytest.mark.parametrize("vector", DATAGRAMS["datagrams"], ids=by_name)
def test_datagrams(vector: dict[str, Any]) -> None:
    key = bytes.fromhex(vector["key"])
    epoch, sender, number, short = (vector[name] for name in ("epoch", "sender", "number", "short"))
    datagram, plaintext = bytes.fromhex(vector["datagram"]), bytes.fromhex(vector["plaintext"])
    assert seal(key, epoch, sender, number, plaintext, short=short) == datagram
    assert sealed.read_header(datagram) == (epoch, sender, number & 0xFFFF if short else number, short)
    assert unseal(key, datagram, number) == plaintext


@pytest.mark.parametrize("vector", DATAGRAMS["bad_plaintexts"], ids=by_name)
def test_bad_plaintexts(vector: dict[str, Any]) -> None:
    key = bytes(range(16))
    link = Link(own_index=1, peer_index=2, probe_interval=1.0, dead_after=1.0, rng=random.Random(1))
    link.install_key(0, bytes(16), key, 0.0)
    before = link.debug_state()
    with pytest.raises(ProtocolError) as caught:
        link.handle_datagram(seal(key, 0, 2, 1, bytes.fromhex(vector["plaintext"])), 0.0)
    assert caught.value.reason == "malformed"
    assert link.debug_state() == before


def test_the_vectors_are_what_their_script_makes(tmp_path: Path) -> None:
    runpy.run_path(str(VECTORS / "make.py"))["main"](tmp_path)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_text() for path in VECTORS.glob("*.json")}
