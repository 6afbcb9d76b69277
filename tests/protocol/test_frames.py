import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from relaymesh.protocol import frames
from relaymesh.protocol.bitstring import MAX_INDEX
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import (
    MAX_WISHES,
    SKIP,
    ClockFrame,
    DemandFrame,
    Echo,
    EncodingLayers,
    Fragment,
    KeyframeRequest,
    LayersFrame,
    MediaFrame,
    Probe,
    SkipFrame,
    Wish,
    decode_clock,
    decode_demand,
    decode_echo,
    decode_fragment,
    decode_keyframe_request,
    decode_layers,
    decode_media,
    decode_probe,
    decode_skip,
    encode_clock,
    encode_demand,
    encode_echo,
    encode_fragment,
    encode_keyframe_request,
    encode_layers,
    encode_media,
    encode_probe,
    encode_skip,
    is_enhancement,
    kinds,
    read_route,
    read_stream,
    read_tag,
    reroute,
    skip_like,
    split_frames,
    with_marker,
)
from relaymesh.protocol.ids import ParticipantId, TrackId

u8, u16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
u32, u64 = st.integers(0, 0xFFFFFFFF), st.integers(0, (1 << 64) - 1)
track_ids = st.builds(TrackId, u64, u64, u16)
node_sets = st.sets(st.integers(0, MAX_INDEX), min_size=1, max_size=8).map(lambda s: sum(1 << i for i in s))
extension = st.one_of(
    st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=1)),
    st.tuples(st.just(3), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just(4), st.binary(min_size=1, max_size=1)),
    st.tuples(st.integers(5, 255), st.binary(max_size=40)),
)
media_frames = st.builds(
    MediaFrame,
    track_ids,
    u8,
    u32,
    u32,
    st.binary(max_size=900),
    keyframe=st.booleans(),
    marker=st.booleans(),
    audio=st.booleans(),
    discardable=st.booleans(),
    priority=st.integers(0, 3),
    spatial=st.integers(0, 7),
    temporal=st.integers(0, 7),
    extensions=st.lists(extension, max_size=5).map(tuple),
    hop_limit=u8,
    generation=u32,
    destinations=node_sets,
    copy=st.booleans(),
    entry=st.booleans(),
    layer_start=st.booleans(),
    layer_end=st.booleans(),
)
clocks = st.builds(ClockFrame, track_ids, u8, u64, u32, u8, u32, node_sets)
requests = st.builds(KeyframeRequest, track_ids, u8, u8, u32, node_sets)
skips = (
    st.tuples(st.integers(1, 0xFFFF), u8)
    .map(sorted)
    .flatmap(
        lambda pair: st.builds(
            SkipFrame,
            track_ids,
            u8,
            u32,
            st.just(max(pair)),
            st.just(min(min(pair), 255)),
            u8,
            u32,
            node_sets,
            st.booleans(),
        )
    )
)
wishes = st.builds(Wish, u16, u8, st.integers(0, 7), st.integers(0, 7))
demands = st.builds(
    DemandFrame,
    st.builds(ParticipantId, u64, u64),
    st.integers(0, MAX_INDEX),
    u32,
    st.lists(wishes, max_size=MAX_WISHES, unique_by=lambda wish: (wish.track, wish.encoding)).map(tuple),
    u8,
    u32,
    node_sets,
)
encodings = st.tuples(u8, st.booleans(), st.integers(1, 8), st.integers(1, 3)).flatmap(
    lambda e: st.lists(u32, min_size=e[2] * e[3], max_size=e[2] * e[3]).map(
        lambda rates: EncodingLayers(*e, tuple(rates))
    )
)
layer_frames = st.builds(
    LayersFrame,
    track_ids,
    u32,
    st.booleans(),
    st.lists(encodings, max_size=8, unique_by=lambda encoding: encoding.number).map(tuple),
    u8,
    u32,
    node_sets,
)
CODECS = {
    frames.MEDIA: (encode_media, decode_media, media_frames),
    frames.CLOCK: (encode_clock, decode_clock, clocks),
    frames.KEYFRAME_REQUEST: (encode_keyframe_request, decode_keyframe_request, requests),
    SKIP: (encode_skip, decode_skip, skips),
    frames.DEMAND: (encode_demand, decode_demand, demands),
    frames.LAYERS: (encode_layers, decode_layers, layer_frames),
    frames.FRAGMENT: (
        encode_fragment,
        decode_fragment,
        st.builds(Fragment, st.booleans(), st.integers(0, 3), st.binary(min_size=1, max_size=900)),
    ),
    frames.PROBE: (encode_probe, decode_probe, st.builds(Probe, u32, u64, st.booleans())),
    frames.ECHO: (encode_echo, decode_echo, st.builds(Echo, u32, u64, u32, u32)),
}

TRACK = TrackId(1, 2, 3)


def body_of(frame: bytes, kind: int) -> bytes:
    (whole,) = split_frames(frame)
    assert whole[0] == kind
    return whole[3:]


@given(st.builds(Probe, u32, u64), st.builds(Echo, u32, u64, u32, u32))
def test_probe_and_echo_share_a_datagram(probe: Probe, echo: Echo) -> None:
    first, second = split_frames(encode_probe(probe) + encode_echo(echo))
    assert (first[0], second[0]) == (frames.PROBE, frames.ECHO)
    assert decode_probe(first[3:]) == probe
    assert decode_echo(second[3:]) == echo


def refused_or_understood(kind: int, body: bytes) -> bool:
    """Whether *body* is decoded; then it says the same when it is encoded again."""
    encode, decode, _ = CODECS[kind]
    try:
        frame = decode(body)  # type: ignore[operator]
    except ProtocolError:
        return False
    assert decode(body_of(encode(frame), kind)) == frame  # type: ignore[operator]
    return True


# A routed header and so many bytes that every decoder reads them.
bodies = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda rest: b"\x10\x01\x00\x00\x00\x07\x02" + rest),
)


@pytest.mark.parametrize("kind", CODECS)
@given(data=bodies)
def test_any_bytes_are_refused_or_understood(kind: int, data: bytes) -> None:
    refused_or_understood(kind, data)


@pytest.mark.parametrize("kind", CODECS)
def test_zero_bytes_are_understood(kind: int) -> None:
    """The property above would hold of a decoder that refuses all; this shows that none does."""
    route = b"\x10\x01\x00\x00\x00\x07\x02" if kind >= frames.ROUTED_FIRST else b""
    skips_nothing = kind == SKIP
    assert refused_or_understood(kind, route + bytes(60)) is not skips_nothing


@pytest.mark.parametrize("kind", CODECS)
@given(data=st.data(), cut=st.integers(0, 400), at=st.integers(0, 60), value=u8)
def test_a_broken_frame_is_refused_or_understood(
    kind: int, data: st.DataObject, cut: int, at: int, value: int
) -> None:
    encode, _, values = CODECS[kind]
    body = bytearray(body_of(encode(data.draw(values)), kind))  # type: ignore[operator]
    body[at % len(body)] = value
    refused_or_understood(kind, bytes(body[: max(0, len(body) - cut)]))


@given(st.binary(max_size=200))
def test_any_route_is_refused_or_kept(data: bytes) -> None:
    try:
        *route, end = read_route(data)
    except ProtocolError:
        return
    frame = kinds.FRAME.pack(frames.MEDIA, len(data)) + data
    assert read_route(frame, 3) == (*route, end + 3)
    kept = frames.readdress(frame, read_route(frame, 3), route[2])
    body = body_of(kept, frames.MEDIA)
    *again, kept_end = read_route(body)
    assert again == route
    assert body[kept_end:] == data[end:]


@given(st.binary(max_size=200))
def test_any_plaintext_is_refused_or_split_without_a_rest(data: bytes) -> None:
    try:
        found = split_frames(data)
    except ProtocolError:
        return
    assert b"".join(found) == data
    ends = kinds.TO_END_FIRST <= found[-1][0] <= kinds.TO_END_LAST
    with_length = found[:-1] if ends else found
    assert all(kinds.FRAME.unpack_from(frame)[1] == len(frame) - 3 for frame in with_length)
    routed = frames.ROUTED_FIRST <= found[0][0] <= frames.ROUTED_LAST
    assert frames.is_routed_alone(data) == (routed and len(found) == 1)


@pytest.mark.parametrize("kind", CODECS)
@given(data=st.data())
def test_a_frame_survives(kind: int, data: st.DataObject) -> None:
    encode, decode, values = CODECS[kind]
    frame = data.draw(values)
    assert decode(body_of(encode(frame), kind)) == frame  # type: ignore[operator]


@given(media_frames, node_sets)
def test_reroute_touches_the_routed_header_only(frame: MediaFrame, towards: int) -> None:
    frame.hop_limit = max(frame.hop_limit, 2)
    whole = encode_media(frame)
    sent_on = decode_media(reroute(whole, read_route(whole, 3), towards), 3)
    assert sent_on == structs.replace(frame, hop_limit=frame.hop_limit - 1, destinations=towards)


def test_reroute_carries_types_it_does_not_know() -> None:
    body = b"\x05\x01\x00\x00\x00\x09\x06" + b"whatever comes here"
    head = b"\x1e" + len(body).to_bytes(2, "big")
    moved = reroute(head + body, read_route(head + body, 3), 0b10)
    assert moved == head + b"\x04\x01\x00\x00\x00\x09\x02whatever comes here"


@pytest.mark.parametrize("hop_limit", [0, 1])
def test_a_spent_hop_limit_is_not_sent_on(hop_limit: int) -> None:
    frame = encode_keyframe_request(KeyframeRequest(TRACK, 0, hop_limit, 1, 1))
    with pytest.raises(ProtocolError) as caught:
        reroute(frame, read_route(frame, 3), 1)
    assert caught.value.reason == "invalid"


def test_zero_bytes_at_the_end_of_a_bit_string_change_nothing() -> None:
    assert read_route(b"\x10\x03\x00\x00\x00\x07\x01\x00\x00") == (16, 7, 1, 9)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x10\x01\x00\x00\x00", "truncated"),
        (b"\x10\x02\x00\x00\x00\x01\x01", "truncated"),
        (b"\x10\x00\x00\x00\x00\x01", "invalid"),
        (b"\x10\x02\x00\x00\x00\x01\x00\x00", "invalid"),
    ],
)
def test_bad_routes(body: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read_route(body)
    assert caught.value.reason == reason
    with pytest.raises(ProtocolError) as caught:
        read_route(b"\x12\x00\x09" + body, 3)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("plaintext", "reason"),
    [
        (b"", "malformed"),
        (b"\x10\x00", "truncated"),
        (b"\x10\x00\x02x", "truncated"),
        (b"\x01\x00\x00\x02", "truncated"),
    ],
)
def test_bad_plaintexts(plaintext: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        split_frames(plaintext)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "block", [b"\x01", b"\x01\x02\x00", b"\x01\x02\x00\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00"]
)
def test_bad_extensions(block: bytes) -> None:
    body = body_of(encode_media(MediaFrame(TRACK, 0, 1, 1, b"", destinations=1)), frames.MEDIA)
    with pytest.raises(ProtocolError) as caught:
        decode_media(body[:-1] + bytes([len(block)]) + block)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"priority": 4},
        {"priority": -1},
        {"spatial": 8},
        {"temporal": 8},
        {"sequence": 1 << 32},
        {"generation": 1 << 32},
        {"encoding": 256},
        {"hop_limit": 256},
        {"destinations": 0},
        {"destinations": 1 << 2040},
        {"extensions": ((1, b""),)},
        {"extensions": ((3, b""),)},
        {"extensions": ((3, bytes(254)),)},
        {"extensions": ((256, b""),)},
        {"extensions": ((9, bytes(256)),)},
        {"extensions": ((9, bytes(200)), (9, bytes(200)))},
    ],
)
def test_our_own_mistakes_are_value_errors(change: dict[str, object]) -> None:
    frame = structs.replace(MediaFrame(TRACK, 0, 1, 1, b"x", destinations=1), **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        encode_media(frame)


def test_a_payload_that_fits_no_frame_is_oversized() -> None:
    largest = frames.MAX_FRAME_BYTES - len(encode_media(MediaFrame(TRACK, 0, 1, 1, b"", destinations=1)))
    assert (
        len(encode_media(MediaFrame(TRACK, 0, 1, 1, bytes(largest), destinations=1)))
        == frames.MAX_FRAME_BYTES
    )
    with pytest.raises(ProtocolError) as caught:
        encode_media(MediaFrame(TRACK, 0, 1, 1, bytes(largest + 1), destinations=1))
    assert caught.value.reason == "oversized"


# --- detours -------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2039), min_size=1, max_size=13))
def test_a_detour_visits_its_hops_and_ends_as_the_frame_inside(hops: list[int]) -> None:
    inner = encode_keyframe_request(KeyframeRequest(TrackId(1, 2, 3), 0, frames.HOP_LIMIT, 7, 0b1010))
    frame = frames.detour(inner, hops)
    for crossed, hop in enumerate(hops, 1):
        assert split_frames(frame) == [frame]
        assert frame[0] == frames.DETOUR
        route = read_route(frame, 3)
        assert route[:3] == (frames.HOP_LIMIT - crossed + 1, 7, 0b1010)
        there, frame = frames.follow_detour(frame, route)
        assert there == hop
    assert frame[0] == frames.KEYFRAME_REQUEST
    assert frame == inner[:3] + bytes([frames.HOP_LIMIT - len(hops)]) + inner[4:]


def test_no_hops_no_detour_and_what_does_not_fit_is_refused() -> None:
    inner = encode_keyframe_request(KeyframeRequest(TrackId(1, 2, 3), 0, 2, 7, 1))
    assert frames.detour(inner, ()) == inner
    with pytest.raises(ValueError, match="detour"):
        frames.detour(inner, (70_000,))
    largest = inner[:3] + inner[3:] + bytes(frames.MAX_FRAME_BYTES - len(inner))
    with pytest.raises(ProtocolError) as refusal:
        frames.detour(largest, (1,))
    assert refusal.value.reason == "oversized"


@given(st.binary(max_size=60))
def test_whatever_a_detour_holds_only_a_protocol_error_escapes(body: bytes) -> None:
    whole = kinds.FRAME.pack(frames.DETOUR, len(body)) + body
    try:
        hop, frame = frames.follow_detour(whole, read_route(whole, 3))
    except ProtocolError:
        return
    assert 0 <= hop <= 0xFFFF
    assert frames.is_routed_alone(frame)


@pytest.mark.parametrize("segments", ["00", "0000", "01000a13", "01000a02", "02000a"])
def test_detours_that_lead_nowhere_are_refused(segments: str) -> None:
    body = bytes.fromhex("100100000007" + "02" + segments)
    frame = kinds.FRAME.pack(frames.DETOUR, len(body)) + body
    with pytest.raises(ProtocolError):
        frames.follow_detour(frame, read_route(frame, 3))


def test_a_probe_says_that_its_sender_is_deaf() -> None:
    deaf = frames.Probe(5, 6, deaf=True)
    assert frames.decode_probe(encode_probe(deaf)[3:]) == deaf
    assert not frames.decode_probe(encode_probe(frames.Probe(5, 6))[3:] + b"\x02").deaf


@pytest.mark.parametrize(("packets", "pictures"), [(0, 0), (1, 2)])
def test_a_skip_that_skips_nothing_is_refused(packets: int, pictures: int) -> None:
    frame = encode_skip(SkipFrame(TRACK, 0, 1, packets, pictures, 16, 1, 2))
    with pytest.raises(ProtocolError, match="invalid"):
        decode_skip(body_of(frame, SKIP))


@given(media_frames)
def test_the_last_packet_that_goes_of_a_picture_says_so_and_is_else_as_it_was(frame: MediaFrame) -> None:
    last = with_marker(encode_media(frame))
    assert last == encode_media(structs.replace(frame, marker=True))


def test_a_skip_of_an_older_node_has_no_flags_and_of_a_newer_one_perhaps_more() -> None:
    body = body_of(encode_skip(SkipFrame(TRACK, 0, 1, 2, 1, 16, 1, 2)), SKIP)
    assert not decode_skip(body).keyframe
    assert decode_skip(body + b"\xff and more").keyframe
    assert not decode_skip(body + b"\xfe").keyframe


@given(media_frames)
def test_a_link_reads_what_it_must_know_of_a_frame_it_may_leave_out(frame: MediaFrame) -> None:
    data = encode_media(frame)
    assert is_enhancement(data) == (frame.priority == 3)
    tag = read_tag(data)
    assert (tag.sequence, tag.end) == (frame.sequence, frame.marker or frame.layer_end)
    assert tag.layers == frame.spatial * 8 + frame.temporal
    assert tag.enhancement == (frame.priority == 3)
    assert (tag.timestamp, tag.marker, tag.keyframe) == (frame.timestamp, frame.marker, frame.keyframe)
    assert tag.entry == (frame.entry or frame.keyframe or frame.discardable)
    assert read_stream(tag.stream) == (frame.track_id, frame.encoding)
    skip = decode_skip(body_of(skip_like(data, frame.sequence, 3, 1, keyframe=frame.marker), SKIP))
    assert skip.keyframe == frame.marker
    assert (skip.track_id, skip.encoding, skip.first) == (frame.track_id, frame.encoding, frame.sequence)
    assert (skip.packets, skip.pictures) == (3, 1)
    assert (skip.hop_limit, skip.generation) == (frame.hop_limit, frame.generation)
    assert skip.destinations == frame.destinations
