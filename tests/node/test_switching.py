"""A sender that changes between encodings and layers: where it begins, and that its player sees no seam."""

from __future__ import annotations

from itertools import pairwise

import pytest

from relaymesh.node.egress import REPLAY_TICK_MS, START_PATIENCE, SWITCH_PATIENCE
from relaymesh.node.encodings import Encoding
from relaymesh.node.layer_options import layer_options
from relaymesh.node.publications import LocalPublication, RemotePublication
from relaymesh.node.selector import TOP, LayerChoice
from relaymesh.protocol.frames import EncodingLayers
from relaymesh.protocol.messages import EncodingInfo, TrackInfo
from relaymesh.webrtc import vp8
from relaymesh.webrtc.rtp import RtpPacket, rtx_unwrap
from tests.node.mesh import NAME, video_frame
from tests.node.test_egress import Player

CAMERA = TrackInfo(7, "video", "VP8", 90_000, encodings=(EncodingInfo(0, "l"), EncodingInfo(1, "h")))
# Each encoding has sequence numbers, timestamps and picture numbers of its own.
FIRST = {0: 100, 1: 60_000}
STAMPS = {0: 1_000_000, 1: 0xFFFFFF00}
PICTURES = {0: 5, 1: 0x7FF0}
BURST = 1_000_000


class Stage:
    """A camera of two encodings, 30 pictures a second each, and one player of it."""

    def __init__(self) -> None:
        self.publication = LocalPublication(NAME)
        self.publication.set_tracks((CAMERA,))
        self.track = self.publication.tracks[7]
        self.player = Player()
        self.sender = self.player.sender
        self.sender.attach(self.track)
        self.now = 0.0
        self.tick = 0

    def encoding(self, number: int) -> Encoding:
        return self.track.encodings[number]

    def film(self, pictures: int, *, keys: tuple[int, ...] = (), temporal: tuple[int, ...] = (0,)) -> None:
        """So many pictures of both; those of *keys* begin with a keyframe."""
        for k in range(pictures):
            layer = temporal[k % len(temporal)]
            for number in (0, 1):
                keyframe = k == 0 and number in keys
                picture = PICTURES[number] + self.tick & 0x7FFF
                payload = bytes(
                    (0x90, 0xE0, 0x80 | picture >> 8, picture & 0xFF, self.tick & 0xFF, layer << 6, 0)
                ) + bytes((0 if keyframe else 1,))
                frame = video_frame(
                    self.publication,
                    FIRST[number] + self.tick,
                    encoding=number,
                    keyframe=keyframe,
                    payload=payload + b"%d" % number,
                    temporal=layer,
                    timestamp=STAMPS[number] + self.tick * 3000,
                )
                self.encoding(number).deliver(frame, self.now)
            self.tick += 1
            self.now += 1 / 30

    def film_only(self, number: int, pictures: int, *, key: bool = False) -> None:
        """So many pictures of one encoding."""
        for k in range(pictures):
            picture = PICTURES[number] + self.tick & 0x7FFF
            payload = bytes((0x90, 0xE0, 0x80 | picture >> 8, picture & 0xFF, self.tick & 0xFF, 0, 0))
            frame = video_frame(
                self.publication,
                FIRST[number] + self.tick,
                encoding=number,
                keyframe=key and k == 0,
                payload=payload + bytes((0 if key and k == 0 else 1,)) + b"%d" % number,
                timestamp=STAMPS[number] + self.tick * 3000,
            )
            self.encoding(number).deliver(frame, self.now)
            self.tick += 1
            self.now += 1 / 30

    def choose(self, number: int | None, *, temporal: int = TOP, burst: int = 0, down: bool = False) -> None:
        choice = None if number is None else LayerChoice(number, TOP, temporal)
        self.sender.choose(choice, self.now, burst_bytes=burst, down=down)

    @property
    def packets(self) -> list[RtpPacket]:
        return self.player.packets

    def seen(self) -> list[int]:
        """The encoding of each packet."""
        return [packet.payload[-1] - ord("0") for packet in self.packets]

    def assert_no_seam(self) -> None:
        for one, other in pairwise(self.packets):
            assert (other.sequence - one.sequence) & 0xFFFF == 1, "no hole"
            assert 0 < (other.timestamp - one.timestamp) & 0xFFFFFFFF < 90_000, "time goes on, and no leap"
        pictures = [vp8.parse_descriptor(packet.payload).picture_id or 0 for packet in self.packets]
        assert all((b - a) & 0x7FFF == 1 for a, b in pairwise(pictures)), "one counter of pictures"


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_switch_waits_for_the_keyframe_of_the_new_encoding_and_leaves_no_seam(stage: Stage) -> None:
    stage.choose(0)
    stage.film(5, keys=(0,))
    stage.choose(1)
    assert stage.sender.choice == LayerChoice(1) and stage.sender.current is stage.encoding(0)
    assert stage.encoding(1).keyframe_wish.due(stage.now), "it is asked for at once"
    stage.film(5, keys=(0,))  # one of the old encoding says nothing
    assert stage.seen() == [0] * 10
    stage.film(5, keys=(1,))
    assert stage.seen() == [0] * 11 + [1] * 5
    assert stage.packets[11].payload[-2] == 0, "a keyframe"
    assert (stage.sender.current, stage.sender.switches) == (stage.encoding(1), 1)
    assert stage.encoding(0).takers == []
    stage.choose(0)
    stage.film(3)
    stage.film(3, keys=(0, 1))
    assert stage.seen()[16:] == [1] * 3 + [0] * 3, "0 comes first in each picture"
    stage.assert_no_seam()


def test_a_switch_right_after_something_was_left_out_upstream_leaves_no_seam(stage: Stage) -> None:
    stage.choose(0)
    stage.film(5, keys=(0,))
    stage.choose(1)
    stage.encoding(0).skip(FIRST[0] + stage.tick, 1, 1)
    stage.tick += 1
    stage.now += 1 / 30
    # Of the new one alone: the last packet of the old one is the one before what was left out.
    stage.film_only(1, 3, key=True)
    assert stage.seen() == [0] * 5 + [1] * 3
    stage.assert_no_seam()


def test_a_pause_while_the_filter_holds_something_back_leaves_no_seam(stage: Stage) -> None:
    stage.choose(0, temporal=0)
    stage.film(6, keys=(0,), temporal=(0, 2, 1, 2))
    stage.choose(None)
    stage.film(6)
    stage.choose(1)
    stage.film(5, keys=(1,))
    assert stage.seen() == [0] * 2 + [1] * 5
    stage.assert_no_seam()


def test_what_was_sent_before_a_switch_can_still_be_asked_for(stage: Stage) -> None:
    stage.choose(0)
    stage.film(5, keys=(0,))
    stage.choose(1)
    stage.film(5, keys=(1,))
    asked = stage.packets.copy()
    stage.sender.handle_nack([packet.sequence for packet in asked], stage.now)
    again = [rtx_unwrap(packet.payload) for packet in stage.packets[len(asked) :]]
    assert again == [(packet.sequence, packet.payload) for packet in asked]


def test_a_switch_back_before_the_keyframe_came_changes_nothing(stage: Stage) -> None:
    stage.choose(0)
    stage.film(5, keys=(0,))
    stage.choose(1)
    stage.film(2)
    stage.choose(0)
    assert stage.encoding(1).takers == [] and stage.sender.pending is None
    stage.film(5, keys=(1,))
    assert set(stage.seen()) == {0} and stage.sender.switches == 0
    stage.assert_no_seam()


def test_both_encodings_are_wanted_while_a_switch_is_under_way(stage: Stage) -> None:
    stage.choose(0)
    stage.film(1, keys=(0,))
    stage.choose(1)
    assert [stage.encoding(number).takers for number in (0, 1)] == [[stage.sender], [stage.sender]]
    stage.film(1, keys=(1,))
    assert [stage.encoding(number).takers for number in (0, 1)] == [[], [stage.sender]]


def test_a_step_down_stops_what_does_not_fit_at_once(stage: Stage) -> None:
    stage.choose(1)
    stage.film(4, keys=(1,), temporal=(0, 1))
    assert len(stage.packets) == 4
    stage.choose(0, down=True)
    assert stage.sender.is_stalled
    assert stage.encoding(1).takers == [], "nor is it asked of the ingress any more"
    stage.film(8, temporal=(0, 1))
    assert len(stage.packets) == 4, "the path carries none of the old one"
    stage.film(4, keys=(0,), temporal=(0, 1))
    assert stage.seen()[4:] == [0] * 4
    assert not stage.sender.is_stalled
    stage.assert_no_seam()
    stage.sender.handle_nack([packet.sequence for packet in stage.packets[:4]], stage.now)
    assert len(stage.packets) == 8, "what was taken back before the step is not sent again"


def test_an_encoding_that_does_not_get_through_is_let_be_for_a_while() -> None:
    publication = RemotePublication(NAME, 1, 0.0)
    publication.set_tracks((CAMERA,))
    track = publication.tracks[7]
    track.layers = {n: EncodingLayers(n, True, 1, 1, (100_000 * (n + 1),)) for n in (0, 1)}
    sender = Player().sender
    sender.attach(track)
    sender.choose(LayerChoice(1), 0.0)
    for tick in range(30):
        frame = video_frame(publication, tick, encoding=1, keyframe=tick == 0, timestamp=tick * 3000)
        track.encodings[1].deliver(frame, tick / 30)
    assert sender.starved(1.0) == set()
    assert [option.encoding for option in layer_options(track)] == [0, 1]
    assert sender.starved(1.8) == set(), "silence alone may be an outage, which no other encoding ends"
    for tick in range(30, 54):  # a link leaves it out, and says so
        track.encodings[1].skip(tick, 1, 1, tick / 30)
    assert sender.starved(1.8) == {1}
    assert [option.encoding for option in layer_options(track, sender.starved(1.8))] == [0]
    sender.choose(LayerChoice(0), 1.8)
    track.encodings[0].deliver(video_frame(publication, 7, encoding=0, keyframe=True), 1.9)
    assert 1 in sender.starved(4.7)
    assert 1 not in sender.starved(4.9), "tried again after three seconds"


def test_a_switch_without_a_keyframe_takes_what_is_kept_in_the_end(stage: Stage) -> None:
    stage.choose(0)
    stage.film(5, keys=(0, 1))
    stage.choose(1)
    stage.film(5)
    assert set(stage.seen()) == {0}
    at = stage.sender.next_timeout()
    assert at == pytest.approx(5 / 30 + SWITCH_PATIENCE)
    stage.now = at
    stage.sender.handle_timeout(stage.now - 0.01)
    assert set(stage.seen()) == {0}
    stage.sender.handle_timeout(stage.now)
    assert stage.seen() == [0] * 10 + [1] * 10
    assert (stage.sender.replays, stage.sender.switches) == (1, 1)
    stage.film(3)
    assert stage.seen()[20:] == [1] * 3
    stage.assert_no_seam()


# --- beginning with what is kept -------------------------------------------------------------------


def test_a_start_takes_what_is_kept_since_the_keyframe_squeezed_in_time(stage: Stage) -> None:
    stage.film(30, keys=(1,))
    stage.choose(1, burst=BURST)
    stamps = [packet.timestamp for packet in stage.packets]
    newest = STAMPS[1] + 29 * 3000 & 0xFFFFFFFF
    assert len(stamps) == 30 and stamps[-1] == newest, "the newest has its own time"
    steps = {(b - a) & 0xFFFFFFFF for a, b in pairwise(stamps)}
    assert steps == {90 * REPLAY_TICK_MS}, "what came before it is shown as it comes"
    assert not stage.encoding(1).keyframe_wish.wanted
    stage.film(3)
    assert [packet.timestamp for packet in stage.packets[30:]] == [
        newest + 3000 * k & 0xFFFFFFFF for k in (1, 2, 3)
    ]
    stage.assert_no_seam()


def test_what_was_replayed_is_sent_again_with_the_time_it_had(stage: Stage) -> None:
    stage.film(10, keys=(0,))
    stage.choose(0, burst=BURST)
    stage.film(2)
    asked = stage.packets.copy()
    stage.sender.handle_nack([packet.sequence for packet in asked], stage.now)
    again = stage.packets[len(asked) :]
    assert [(p.timestamp, rtx_unwrap(p.payload)) for p in again] == [
        (p.timestamp, (p.sequence, p.payload)) for p in asked
    ]


def test_more_than_the_path_takes_at_once_waits_for_a_keyframe(stage: Stage) -> None:
    stage.film(10, keys=(0,))
    kept = stage.encoding(0).since_keyframe.size_bytes
    stage.choose(0, burst=kept - 1)
    assert stage.packets == [] and stage.encoding(0).keyframe_wish.due(stage.now)
    stage.film(3, keys=(0,))
    assert len(stage.packets) == 3 and stage.sender.replays == 0


def test_a_start_without_an_answer_takes_what_is_kept_however_much(stage: Stage) -> None:
    stage.film(10, keys=(0,))
    stage.choose(0)
    began = stage.now
    stage.sender.handle_timeout(began + START_PATIENCE)
    assert len(stage.packets) == 10 and stage.sender.replays == 1
    assert stage.sender.next_timeout() is None


def test_a_start_takes_a_cheaper_encoding_that_is_kept_until_its_own_has_a_keyframe(stage: Stage) -> None:
    """As at an edge that carries only the lower one: the ingress does not send again what it keeps."""
    stage.film(10, keys=(0,))
    stage.choose(1, burst=BURST)
    assert stage.seen() == [0] * 10, "a picture at once"
    assert stage.sender.pending is stage.encoding(1) and stage.encoding(1).keyframe_wish.due(stage.now)
    stage.film(2)
    assert stage.seen() == [0] * 12
    stage.film(3, keys=(1,))
    assert stage.seen() == [0] * 13 + [1] * 3
    assert stage.encoding(0).takers == []
    stage.assert_no_seam()


def test_a_start_takes_no_dearer_encoding_for_the_time_being(stage: Stage) -> None:
    stage.film(10, keys=(1,))
    stage.choose(0, burst=BURST)
    stage.film(2)
    assert stage.packets == []
    stage.film(2, keys=(0,))
    assert stage.seen() == [0, 0]


def test_an_encoding_that_stopped_is_left_at_once_for_what_is_kept_of_the_other(stage: Stage) -> None:
    """A publisher that ignores requests would leave a frozen picture until its next keyframe."""
    stage.choose(1)
    stage.film(5, keys=(0, 1))
    stage.track.layers = {
        0: EncodingLayers(0, True, 1, 1, (100_000,)),
        1: EncodingLayers(1, False, 1, 1, (0,)),
    }
    for _ in range(25):  # it takes a while until that is known
        stage.film_only(0, 1)
    stage.choose(0, burst=BURST, down=True)
    assert stage.encoding(1).takers == []
    assert stage.seen() == [1] * 5 + [0] * 30
    assert [p.payload[-2] for p in stage.packets[5:7]] == [0, 1], "from its keyframe on"
    stage.film_only(0, 2)
    stage.assert_no_seam()


def test_what_is_too_much_at_once_is_begun_with_where_no_keyframe_is_to_be_had(stage: Stage) -> None:
    stage.film(30, keys=(0,))
    stage.choose(0, burst=10)
    assert stage.packets == [] and stage.encoding(0).keyframe_wish.due(stage.now)
    stage.choose(None)
    stage.now += 1.0
    stage.choose(0, burst=10)
    assert stage.seen() == [0] * 30, "it was asked, and did not answer"


def test_a_publisher_that_was_late_once_is_asked_again(stage: Stage) -> None:
    """Nobody asked it any more, so that it stayed one that does not answer: each join took half a second."""
    stage.film(30, keys=(0,))
    stage.track.keyframe_requests.ignored = True
    stage.choose(0, burst=10)
    assert stage.seen() == [0] * 30
    wish = stage.encoding(0).keyframe_wish
    assert wish.due(stage.now)
    wish.seen(stage.now + 0.1)
    assert not wish.is_ignored(stage.now + 1.0)


def test_a_path_can_be_probed_before_anything_was_sent_on_it(stage: Stage) -> None:
    """Else a video that does not fit the first estimate would wait for a better one for ever."""
    player = Player(transport_id=3)
    assert not player.sender.may_pad and player.sender.padding() is None
    player.sender.attach(stage.track)
    assert player.sender.may_pad and player.sender.padding() is not None


def test_a_start_with_what_is_kept_closes_up_what_was_left_out_upstream(stage: Stage) -> None:
    encoding = stage.encoding(0)
    stage.film(1, keys=(0,))
    for _ in range(10):
        encoding.skip(FIRST[0] + stage.tick, 1, 1)
        stage.tick += 1
        stage.film(2)
    stage.choose(0, burst=BURST)
    stage.film(2)
    assert len(stage.packets) == 1 + 2 * 10 + 2
    stage.assert_no_seam()


def test_nothing_kept_and_no_keyframe_means_going_on_waiting(stage: Stage) -> None:
    stage.film(10)
    stage.choose(0)
    stage.sender.handle_timeout(stage.now + START_PATIENCE)
    assert stage.packets == []
    assert stage.sender.next_timeout() == pytest.approx(stage.now + 2 * START_PATIENCE)


def test_what_was_replayed_has_its_time_after_a_switch_too(stage: Stage) -> None:
    stage.film(10, keys=(0,))
    stage.choose(0, burst=BURST)
    stage.choose(1)
    stage.film(3, keys=(1,))
    asked = stage.packets.copy()
    stage.sender.handle_nack([packet.sequence for packet in asked], stage.now)
    again = stage.packets[len(asked) :]
    assert [p.timestamp for p in again] == [p.timestamp for p in asked]


# --- layers ----------------------------------------------------------------------------------------


def test_temporal_layers_that_are_not_wanted_leave_no_hole(stage: Stage) -> None:
    stage.choose(0, temporal=0)
    stage.film(12, keys=(0,), temporal=(0, 2, 1, 2))
    assert len(stage.packets) == 3
    assert [p.timestamp - STAMPS[0] for p in stage.packets] == [0, 4 * 3000, 8 * 3000]
    stage.assert_no_seam()
    # Each is found again under the number it had.
    asked = stage.packets.copy()
    stage.sender.handle_nack([packet.sequence for packet in asked], stage.now)
    again = [rtx_unwrap(packet.payload) for packet in stage.packets[3:]]
    assert again == [(packet.sequence, packet.payload) for packet in asked]


def test_layers_come_and_go_without_a_seam(stage: Stage) -> None:
    stage.choose(0)
    stage.film(8, keys=(0,), temporal=(0, 2, 1, 2))
    stage.choose(0, temporal=1)
    stage.film(8, temporal=(0, 2, 1, 2))
    stage.choose(0)
    stage.film(4, temporal=(0, 2, 1, 2))
    assert len(stage.packets) == 8 + 4 + 2, "no layer is taken up in the middle"
    stage.film(4, keys=(0,), temporal=(0, 2, 1, 2))
    assert len(stage.packets) == 14 + 4
    stage.assert_no_seam()


def test_a_real_loss_beside_a_layer_left_out_stays_a_hole(stage: Stage) -> None:
    """What the player can ask for again must keep its number."""
    stage.choose(0, temporal=0)
    stage.film(4, keys=(0,), temporal=(0, 1))
    stage.tick += 1  # a picture of the lowest layer does not come
    stage.film(1, temporal=(1,))
    stage.film(1)
    sequences = [packet.sequence for packet in stage.packets]
    assert [(b - a) & 0xFFFF for a, b in pairwise(sequences)] == [1, 2]


# --- pause -----------------------------------------------------------------------------------------


def test_a_pause_takes_nothing_and_goes_on_with_the_next_number(stage: Stage) -> None:
    stage.choose(0)
    stage.film(5, keys=(0,))
    stage.choose(None)
    assert stage.encoding(0).takers == [] and stage.sender.choice is None
    stage.film(20, keys=(0,))
    assert len(stage.packets) == 5
    stage.choose(0)
    stage.film(5, keys=(0,))
    assert len(stage.packets) == 10
    stage.assert_no_seam()
    gap = stage.packets[5].timestamp - stage.packets[4].timestamp
    assert gap == pytest.approx(21 * 3000, abs=2), "media time went on"


def test_a_pause_ends_a_switch_under_way(stage: Stage) -> None:
    stage.choose(0)
    stage.film(5, keys=(0,))
    stage.choose(1)
    stage.choose(None)
    assert [stage.encoding(number).takers for number in (0, 1)] == [[], []]
    assert stage.sender.next_timeout() is None
    stage.film(5, keys=(0, 1))
    assert len(stage.packets) == 5


# --- a step down to what can only be begun in the past --------------------------------------------


def step_down(stage: Stage, *, temporal: tuple[int, ...] = (0,), bps: float = 40_000.0) -> None:
    """Its path falls short 5 s after the only keyframe of both, of a publisher that makes none when asked."""
    stage.choose(1)
    stage.film(150, keys=(0, 1), temporal=temporal)
    stage.track.keyframe_requests.ignored = True
    stage.player.packets.clear()
    stage.sender.pace(bps)
    stage.choose(0, down=True)


def run(stage: Stage, pictures: int, *, temporal: tuple[int, ...] = (0,), key: bool = False) -> None:
    for k in range(pictures):
        stage.film(1, keys=(0,) if key and k == 0 else (), temporal=temporal[k % len(temporal) :])
        stage.sender.handle_timeout(stage.now)


def test_a_step_down_into_the_past_goes_no_faster_than_the_path_and_catches_up(stage: Stage) -> None:
    step_down(stage)
    sent = [len(stage.packets)]
    while sent[-1] < 150 + len(sent) - 1 and len(sent) < 600:
        run(stage, 1)
        sent.append(len(stage.packets))
    # 9 bytes and 70 around them, 63 of them a second at 40 kbit/s; 30 a second are new.
    assert sent[0] == 1
    for begin in range(0, len(sent) - 30, 30):
        assert 45 <= sent[begin + 30] - sent[begin] <= 66
    assert 100 <= len(sent) <= 250, "some 150 pictures behind, at twice the speed"
    assert stage.seen() == [0] * len(stage.packets)
    stage.assert_no_seam()
    before = len(stage.packets)
    stage.film(10)
    assert len(stage.packets) == before + 10, "live again"


def test_while_it_catches_up_only_the_lowest_temporal_layer_goes(stage: Stage) -> None:
    layers = (0, 2, 1, 2)
    step_down(stage, temporal=layers)
    run(stage, 40, temporal=layers)
    seen = [packet.payload[5] >> 6 for packet in stage.packets]
    assert seen[: 150 // 4] == [0] * (150 // 4)
    stage.assert_no_seam()


def test_a_keyframe_ends_what_waits(stage: Stage) -> None:
    step_down(stage)
    run(stage, 10)
    before = len(stage.packets)
    assert before < 40
    run(stage, 10, key=True)
    assert len(stage.packets) == before + 10
    assert stage.packets[before].payload[-2] == 0, "a keyframe"
    assert stage.encoding(0).takers == [stage.sender]
    stage.assert_no_seam()


def test_what_waits_goes_with_the_encoding(stage: Stage) -> None:
    step_down(stage)
    run(stage, 5)
    before = len(stage.packets)
    stage.choose(None)
    assert stage.sender.next_timeout() is None
    run(stage, 30)
    assert len(stage.packets) == before
    assert stage.encoding(0).takers == []
