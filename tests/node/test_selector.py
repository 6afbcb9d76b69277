"""Which layers of one encoding go on: dropped at a picture's boundary, taken up only where a decoder can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.node.selector import TOP, LayerFilter
from relaymesh.protocol.frames import MediaFrame
from relaymesh.protocol.ids import TrackId

TRACK = TrackId(1, 2, 7)


def packet(
    picture: int,
    *,
    spatial: int = 0,
    temporal: int = 0,
    keyframe: bool = False,
    entry: bool = False,
    start: bool = True,
    end: bool = True,
    marker: bool = True,
) -> MediaFrame:
    return MediaFrame(
        TRACK, 0, 0, picture * 3000, b"", keyframe=keyframe, marker=marker, spatial=spatial,
        temporal=temporal, entry=entry, layer_start=start, layer_end=end,
    )  # fmt: skip


def picture(number: int, layers: int, *, temporal: int = 0, keyframe: bool = False, entry: int | None = None):  # type: ignore[no-untyped-def]
    """One picture of so many spatial layers, each of two packets; *entry*: the layer that can be taken up."""
    return [
        packet(
            number,
            spatial=spatial,
            temporal=temporal,
            keyframe=keyframe and spatial == 0 and start,
            entry=entry == spatial,
            start=start,
            end=not start,
            marker=spatial == layers - 1 and not start,
        )
        for spatial in range(layers)
        for start in (True, False)
    ]


def passed(layers: LayerFilter, packets) -> list[int]:  # type: ignore[no-untyped-def]
    """Spatial layers of those that go on."""
    return [frame.spatial for frame in packets if layers.passes(frame)]


def test_everything_passes_where_everything_is_wanted() -> None:
    layers = LayerFilter()
    layers.begin()
    assert passed(layers, picture(1, 3, keyframe=True)) == [0, 0, 1, 1, 2, 2]
    assert layers.passes(packet(2, temporal=TOP, spatial=TOP))
    assert not layers.wants_keyframe


def test_a_spatial_layer_is_dropped_with_the_next_picture_and_not_in_one() -> None:
    layers = LayerFilter(2, TOP)
    layers.begin()
    first = picture(1, 3, keyframe=True)
    assert passed(layers, first[:3]) == [0, 0, 1]
    layers.want(0, TOP)
    assert passed(layers, first[3:]) == [1, 2, 2], "a picture is finished as it began"
    assert passed(layers, picture(2, 3)) == [0, 0]
    assert layers.at[0] == 0


def test_a_spatial_layer_is_taken_up_with_a_keyframe_only() -> None:
    layers = LayerFilter(0, TOP)
    layers.begin()
    assert passed(layers, picture(1, 3, keyframe=True)) == [0, 0]
    layers.want(2, TOP)
    assert layers.wants_keyframe
    assert passed(layers, picture(2, 3)) == [0, 0]
    assert passed(layers, picture(3, 3, keyframe=True)) == [0, 0, 1, 1, 2, 2]
    assert not layers.wants_keyframe


def test_a_spatial_layer_is_taken_up_by_its_entry_one_above_what_goes_on() -> None:
    """As AV1's dependency descriptor, or a VP9 picture that is predicted from below only, says."""
    layers = LayerFilter(0, TOP)
    layers.begin()
    passed(layers, picture(1, 3, keyframe=True))
    layers.want(1, TOP)
    assert passed(layers, picture(2, 3, entry=2)) == [0, 0], "that layer is not wanted"
    assert passed(layers, picture(3, 3, entry=1)) == [0, 0, 1, 1]
    assert passed(layers, picture(4, 3)) == [0, 0, 1, 1]


def test_no_layer_is_skipped_on_the_way_up() -> None:
    """An entry is one for whom has the lower layers: those of the picture, or the lower temporal ones."""
    layers = LayerFilter(0, 0)
    layers.begin()
    passed(layers, picture(1, 3, keyframe=True))
    layers.want(2, 2)
    assert passed(layers, picture(2, 3, entry=2)) == [0, 0]
    assert passed(layers, picture(3, 3, temporal=2, entry=0)) == []
    assert passed(layers, picture(4, 3, temporal=1, entry=0)) == [0, 0]
    assert layers.at == (0, 1)


def test_an_entry_above_the_lowest_temporal_layer_is_none_into_a_spatial_layer() -> None:
    layers = LayerFilter(0, TOP)
    layers.begin()
    passed(layers, picture(1, 2, keyframe=True))
    layers.want(1, TOP)
    assert passed(layers, picture(2, 2, temporal=1, entry=1)) == [0, 0]
    assert passed(layers, picture(3, 2, entry=1)) == [0, 0, 1, 1]


def test_the_entry_counts_only_at_the_start_of_a_layers_frame() -> None:
    layers = LayerFilter(0, TOP)
    layers.begin()
    layers.passes(packet(1, keyframe=True))
    layers.want(1, TOP)
    assert not layers.passes(packet(2, spatial=1, entry=True, start=False)), "its first packet is lost"
    assert layers.passes(packet(3, spatial=1, entry=True))


def test_a_temporal_layer_is_dropped_with_the_next_picture_and_taken_up_by_entries() -> None:
    layers = LayerFilter(TOP, 2)
    layers.begin()
    assert [layers.passes(packet(n, temporal=t)) for n, t in enumerate((0, 2, 1, 2))] == [True] * 4
    layers.want(TOP, 0)
    assert [layers.passes(packet(10 + n, temporal=t)) for n, t in enumerate((0, 2, 1, 2))] == [
        True, False, False, False,
    ]  # fmt: skip
    layers.want(TOP, 2)
    assert not layers.wants_keyframe, "a temporal layer comes by itself"
    said = [(0, False), (2, False), (1, True), (2, False), (0, False), (2, True), (1, False), (2, False)]
    assert [layers.passes(packet(20 + n, temporal=t, entry=e)) for n, (t, e) in enumerate(said)] == [
        True, False, True, False, True, True, True, True,
    ]  # fmt: skip


def test_a_keyframe_brings_every_temporal_layer_back() -> None:
    layers = LayerFilter(TOP, 0)
    layers.begin()
    assert not layers.passes(packet(1, temporal=1))
    layers.want(TOP, 2)
    assert layers.passes(packet(2, keyframe=True))
    assert layers.passes(packet(3, temporal=2))


def test_the_marker_moves_to_the_last_packet_that_goes_on() -> None:
    layers = LayerFilter(1, TOP)
    layers.begin()
    going_on = [frame for frame in picture(1, 3, keyframe=True) if layers.passes(frame)]
    assert [layers.ends_picture(frame) for frame in going_on] == [False, False, False, True]
    base = LayerFilter(0, TOP)
    base.begin()
    going_on = [frame for frame in picture(1, 3, keyframe=True) if base.passes(frame)]
    assert [base.ends_picture(frame) for frame in going_on] == [False, True]


def test_of_one_layer_only_the_publishers_marker_counts() -> None:
    """Slices of one H264 picture, or its packets, each may end a layer's frame of their own."""
    layers = LayerFilter()
    layers.begin()
    assert not layers.ends_picture(packet(1, marker=False, end=True))
    assert layers.ends_picture(packet(1, marker=True, end=False))


LAYERS = st.integers(0, 3)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("want"), LAYERS, LAYERS),
            st.tuples(st.just("picture"), LAYERS, st.booleans(), st.sets(LAYERS)),
        ),
        max_size=60,
    )
)
def test_layers_go_on_without_gaps_and_are_taken_up_only_where_a_decoder_can(steps) -> None:  # type: ignore[no-untyped-def]
    layers = LayerFilter(3, 3)
    layers.begin()
    for number, step in enumerate(steps):
        if step[0] == "want":
            layers.want(step[1], step[2])
            continue
        _, temporal, keyframe, entries = step
        temporal = 0 if keyframe else temporal
        before = layers.at
        going_on = [
            spatial
            for spatial in range(4)
            if layers.passes(
                packet(
                    number,
                    spatial=spatial,
                    temporal=temporal,
                    keyframe=keyframe and spatial == 0,
                    entry=spatial in entries,
                )
            )
        ]
        after = layers.at
        assert going_on == (list(range(after[0] + 1)) if temporal <= after[1] else [])
        assert after[0] <= layers.spatial and after[1] <= layers.temporal
        if keyframe:
            assert after == (layers.spatial, layers.temporal)
            continue
        taken_up = range(before[0] + 1, after[0] + 1)
        assert not taken_up or (temporal == 0 and set(taken_up) <= entries)
        if after[1] > before[1]:
            assert after[1] == temporal == before[1] + 1 and 0 in entries
