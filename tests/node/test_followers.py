"""Senders that follow an encoding: their players get the same bytes as if each packet were handed over."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from relaymesh.kernels.fan_out import FanOut, Path
from relaymesh.node.egress import Sender
from relaymesh.node.egress_rows import EgressNumbers, EgressRow
from relaymesh.node.selector import TOP, LayerChoice
from relaymesh.protocol.frames import (
    EXTENSION_AUDIO_LEVEL,
    EXTENSION_DEPENDENCY_DESCRIPTOR,
    EXTENSION_VIDEO_ORIENTATION,
    MediaFrame,
)
from tests.node.mesh import VIDEO, video_frame, video_of
from tests.node.test_egress import VP8, make_publication

ADDRESS = ("192.0.2.7", 5000)
KNOWN = {EXTENSION_VIDEO_ORIENTATION: 13, EXTENSION_AUDIO_LEVEL: 15, EXTENSION_DEPENDENCY_DESCRIPTOR: 2}
NUMBERS = EgressNumbers(1, 2, 0x7FFF, 5, 3, KNOWN)


class Player:
    """A sender whose packets are told in the order of leaving; it follows where it may."""

    def __init__(self, fan_out: FanOut | None, numbers: EgressNumbers = NUMBERS) -> None:
        self.fan_out = fan_out
        self.path = Path()
        self.path.address, self.path.is_open = ADDRESS, True
        self.packets: list[bytes] = []
        self.sender = Sender("0", VP8, numbers, cname="c", send=self._send)
        if fan_out is not None:
            self.sender.use_path(fan_out, self.path)

    def _send(self, row: EgressRow, now: float) -> None:
        number: int | None = None
        if row.transport_id is not None:
            number = self.path.number = (self.path.number + 1) & 0xFFFF
        packet = row.build(number, now)
        if self.fan_out is None:
            self.packets.append(packet)
        else:
            self.fan_out.put(self.path, packet)

    def sent(self) -> list[bytes]:
        if self.fan_out is not None:
            popped = self.fan_out.pop()
            assert {address for _, address in popped} <= {ADDRESS}
            self.packets += [packet for packet, _ in popped]
        return self.packets


class Scene:
    """One publisher's video and two players of it: one follows, one is handed every packet."""

    def __init__(self, numbers: EgressNumbers = NUMBERS) -> None:
        self.publication = make_publication()
        self.encoding = video_of(self.publication).encodings[0]
        self.follower, self.other = self.players = Player(FanOut(44), numbers), Player(None, numbers)
        self.now, self.sequence = 0.0, 100
        for player in self.players:
            player.sender.attach(self.publication.tracks[VIDEO.track])
            player.sender.choose(LayerChoice(0), 0.0)

    def frame(self, sequence: int, **changes) -> MediaFrame:
        keyframe = changes.pop("keyframe", sequence == 100)
        changes.setdefault("payload", self.picture())
        return structs.replace(video_frame(self.publication, sequence, keyframe=keyframe), **changes)

    def picture(self) -> bytes:
        """A VP8 payload with a picture ID, of 7 bits now and then, and TL0PICIDX; a few cannot be read."""
        if self.sequence % 7 == 0:
            return b"\x90\xe0\x80"
        if self.sequence % 5 == 0:
            return bytes((0x90, 0xE0, self.sequence & 0x7F, self.sequence & 0xFF, 0x20, 1))
        return bytes((0x90, 0xE0, 0xFF, self.sequence & 0xFF, self.sequence & 0xFF, 0x20, 1))

    def deliver(self, frame: MediaFrame) -> None:
        self.now += 0.005
        self.encoding.deliver(frame, self.now)

    def next(self, **changes) -> None:
        self.deliver(self.frame(self.sequence, **changes))
        self.sequence += 1

    def follows(self) -> bool:
        return self.encoding.followers is not None and len(self.encoding.followers) == 1

    def check(self) -> None:
        assert self.follower.sent() == self.other.sent()
        assert self.follower.sender.packets == self.other.sender.packets
        assert self.follower.sender.octets == self.other.sender.octets
        assert self.follower.sender.debug_state() == self.other.sender.debug_state()
        assert self.follower.sender.sender_report(self.now) == self.other.sender.sender_report(self.now)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("next"), st.integers(0, 2), st.integers(0, 1), st.booleans(), st.booleans()),
        st.tuples(st.just("lost"), st.integers(1, 3)),
        st.tuples(st.just("late"), st.integers(1, 6)),
        st.tuples(st.just("skip"), st.integers(1, 3), st.integers(0, 1)),
        st.tuples(st.just("nack"), st.integers(0, 8)),
        st.tuples(st.just("choose"), st.sampled_from([0, 1, TOP]), st.sampled_from([0, TOP])),
        st.tuples(st.just("keyframe")),
        st.tuples(st.just("nothing")),
        st.tuples(st.just("padding")),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(OPERATIONS)
def test_who_follows_gets_the_same_bytes(operations):
    scene = Scene()
    scene.next()
    for kind, *arguments in operations:
        match kind, arguments:
            case "next", [temporal, spatial, marker, ends]:
                extensions = ((EXTENSION_VIDEO_ORIENTATION, b"\x01"),) if marker else ()
                if ends:
                    number = bytes((0x80, 1, scene.sequence & 0xFF))
                    extensions += ((EXTENSION_DEPENDENCY_DESCRIPTOR, number),)
                scene.next(
                    temporal=temporal,
                    spatial=spatial,
                    marker=marker,
                    layer_end=ends,
                    layer_start=not ends,
                    extensions=extensions,
                    payload=scene.picture(),
                )
            case "lost", [packets]:
                scene.sequence += packets
            case "late", [back]:
                scene.deliver(scene.frame(scene.sequence - back, keyframe=False))
            case "skip", [packets, pictures]:
                scene.encoding.skip(scene.sequence, packets, pictures, scene.now)
                scene.sequence += packets
            case "nack", [back]:
                scene.now += 0.02
                for player in scene.players:
                    sent = player.sender.packets
                    player.sender.handle_nack([(0x7FFF + sent - back) & 0xFFFF], scene.now)
            case "choose", [temporal, spatial]:
                for player in scene.players:
                    player.sender.choose(LayerChoice(0, spatial, temporal), scene.now)
            case "keyframe", []:
                scene.next(keyframe=True)
            case "nothing", []:
                for player in scene.players:
                    player.sender.choose(None, scene.now)
                    player.sender.choose(LayerChoice(0), scene.now)
            case "padding", []:
                for player in scene.players:
                    row = player.sender.padding()
                    assert row is not None
                    player._send(row, scene.now)
        scene.check()


def test_a_plain_stream_is_followed_from_the_second_packet_on():
    scene = Scene()
    scene.next()
    assert not scene.follows(), "the first begins the era"
    scene.next()
    assert scene.follows()
    for _ in range(20):
        scene.next()
    assert scene.follows()
    scene.check()


def test_what_is_late_or_left_out_ends_it_for_a_packet():
    scene = Scene()
    scene.next()
    scene.next()
    scene.sequence += 1
    scene.next()
    assert scene.follows()
    scene.deliver(scene.frame(scene.sequence - 2))
    assert not scene.follows()
    scene.next()
    assert scene.follows()
    scene.encoding.skip(scene.sequence, 2, 1, scene.now)
    assert not scene.follows()
    scene.check()


def test_pictures_are_numbered_anew_on_the_way():
    scene = Scene()
    scene.next()
    for player in scene.players:
        player.sender.choose(LayerChoice(0, TOP, 0), scene.now)
    for temporal in (0, 0, 1, 0, 0):
        scene.next(temporal=temporal)
    assert scene.follows()
    assert len(scene.follower.sent()) == 5
    scene.check()


def test_a_path_that_is_behind_is_sent_to_by_its_session():
    scene = Scene()
    scene.next()
    scene.next()
    path = scene.follower.path
    path.gated, path.allowance, path.rate = True, 10_000.0, 1.0
    scene.next()
    assert scene.follows()
    assert path.take_sent()[0][0] == path.number
    path.is_behind = True
    scene.next()
    assert not scene.follows(), "the packet went to its sender, whose pacer knows what waits"
    scene.check()


def test_a_player_that_wants_the_time_of_sending_follows_nothing():
    scene = Scene(dataclasses.replace(NUMBERS, send_time_id=4))
    scene.next()
    scene.next()
    assert not scene.follows()


def test_who_leaves_gets_no_more():
    scene = Scene()
    for _ in range(3):
        scene.next()
    scene.follower.sender.detach()
    assert not scene.follows()
    scene.next()
    assert len(scene.follower.sent()) == 3
