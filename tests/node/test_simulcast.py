"""Simulcast over the mesh: each edge gets the encodings and layers it asks for, and nothing else crosses."""

from __future__ import annotations

import re

from relaymesh.node.demand import DEMAND_KEPT
from relaymesh.node.selector import TOP
from relaymesh.protocol import frames
from relaymesh.protocol.messages import EncodingInfo, TrackInfo
from relaymesh.webrtc import rtcp, rtp
from tests.node.browser import Browser, exchange, offer_text
from tests.node.mesh import AUDIO, NAME, Mesh, Recorder, video_frame

CAMERA = TrackInfo(
    7, "video", "VP8", 90_000, encodings=tuple(EncodingInfo(k, rid) for k, rid in enumerate("qhf"))
)
FIRST = {0: 1000, 1: 50_000, 2: 0x1FFF0}  # sequence numbers
STAR = {1: {2: {2}, 3: {3}}, 2: {1: {1, 3}}, 3: {1: {1, 2}}}


class Viewer:
    """Stands for the session of a player, so that what it plays is not given back."""

    def choose_layers(self, now: float) -> None:
        """It has chosen."""


class Studio:
    """A camera in three encodings at node 1; nodes 2 and 3 may play it."""

    def __init__(self) -> None:
        self.mesh = Mesh(3, [(1, 2), (1, 3)])
        self.mesh.routes(1, STAR)
        self.mesh.run(1.0)
        self.publication = self.mesh.publish(1, 2, 3, tracks=(CAMERA,), demand=False)
        self.track = self.publication.tracks[CAMERA.track]
        self.held = {edge: self.mesh.hold(edge, 1, (CAMERA,)) for edge in (2, 3)}
        for publication in self.held.values():
            publication.sessions[Viewer()] = None  # type: ignore[index]
        self.tick = 0

    def listen(self, edge: int, number: int, taker: Recorder | None = None) -> Recorder:
        taker = taker or Recorder()
        self.held[edge].tracks[CAMERA.track].encodings[number].add_taker(taker)
        return taker

    def leave(self, edge: int, number: int, taker: Recorder) -> None:
        self.held[edge].tracks[CAMERA.track].encodings[number].remove_taker(taker)

    def settle(self) -> None:
        """Demand is said by the next look at it, and arrives."""
        self.mesh.run(0.3)

    def film(self, seconds: float, *, temporal: tuple[int, ...] = (0,), keys: tuple[int, ...] = ()) -> range:
        """50 pictures a second of each encoding, those of *keys* from a keyframe on; the ticks of them."""
        first = self.tick
        for k in range(round(seconds * 50)):
            for number in (0, 1, 2):
                frame = video_frame(
                    self.publication,
                    FIRST[number] + self.tick,
                    encoding=number,
                    keyframe=k == 0 and number in keys,
                    temporal=temporal[k % len(temporal)],
                )
                self.mesh.cores[1].forwarder.originate(self.track, frame, self.mesh.now)
            self.tick += 1
            self.mesh.run(0.02)
        return range(first, self.tick)

    def crossed(self, edge: int) -> int:
        """MEDIA frames sent towards the edge so far."""
        return self.mesh.media(1, edge)


def of(number: int, ticks: range) -> list[tuple[int, int]]:
    return [(number, FIRST[number] + tick) for tick in ticks]


def got(taker: Recorder) -> list[tuple[int, int]]:
    return [(frame.encoding, frame.sequence) for frame in taker.frames]


def test_edges_get_the_encodings_they_ask_for_and_nothing_else_crosses() -> None:
    studio = Studio()
    low, high = studio.listen(2, 0), studio.listen(3, 2)
    studio.settle()
    ticks = studio.film(1.0)
    studio.settle()
    assert got(low) == of(0, ticks) and got(high) == of(2, ticks)
    assert (studio.crossed(2), studio.crossed(3)) == (50, 50)
    for edge in (2, 3):
        assert studio.mesh.cores[edge].forwarder.dropped == {}


def test_without_demand_nothing_crosses_though_edges_may() -> None:
    studio = Studio()
    studio.film(0.5, keys=(0, 1, 2))
    assert studio.mesh.media() == 0


def test_demand_of_an_edge_that_may_not_moves_nothing() -> None:
    studio = Studio()
    taker = studio.listen(2, 0)
    studio.mesh.admit(1, 3)
    studio.settle()
    studio.film(0.5)
    assert studio.mesh.media() == 0
    studio.mesh.admit(1, 2, 3)
    ticks = studio.film(0.2)
    studio.settle()
    assert got(taker) == of(0, ticks), "what it wants was kept"


def test_when_the_last_taker_leaves_nothing_of_it_crosses_any_more() -> None:
    studio = Studio()
    one, other = studio.listen(2, 1), studio.listen(2, 1)
    studio.settle()
    studio.film(0.2)
    studio.leave(2, 1, one)
    studio.settle()
    before = studio.crossed(2)
    ticks = studio.film(0.2)
    assert studio.crossed(2) - before == len(ticks), "somebody still takes it"
    studio.leave(2, 1, other)
    studio.settle()
    before = studio.mesh.media()
    studio.film(1.0)
    assert studio.mesh.media() == before
    assert studio.publication.demand.audience(CAMERA.track, 1) == 0


def test_a_change_of_encoding_takes_one_path_delay_and_no_controller() -> None:
    studio = Studio()
    taker = studio.listen(2, 0)
    studio.settle()
    studio.film(0.2)
    for core in studio.mesh.cores.values():
        core.handle_disconnected()
    studio.film(5 * DEMAND_KEPT)
    assert len(taker.frames) == studio.tick, "demand is refreshed by itself"
    studio.leave(2, 0, taker)
    other = studio.listen(2, 2)
    studio.settle()
    ticks = studio.film(0.5)
    studio.settle()
    assert got(other) == of(2, ticks)
    assert len(taker.frames) == ticks[0], "nothing of the one that it left"


def test_an_edge_whose_demand_is_not_refreshed_gets_nothing_until_it_says_it_again() -> None:
    studio = Studio()
    mute, healthy = studio.listen(2, 0), studio.listen(3, 0)
    studio.settle()
    studio.film(0.2)
    studio.mesh.cut = {(2, 1)}  # what it says is lost
    studio.film(DEMAND_KEPT + 0.5)
    before = studio.crossed(2)
    studio.film(1.0)
    assert studio.crossed(2) == before
    assert len(healthy.frames) == studio.tick, "the others do not notice"
    studio.mesh.cut = set()
    studio.film(4.0)
    heard = len(mute.frames)
    studio.film(1.0)
    studio.settle()
    assert len(mute.frames) - heard >= 50


def test_an_edge_that_dies_is_not_sent_to_for_ever() -> None:
    studio = Studio()
    studio.listen(2, 0)
    studio.settle()
    studio.held[2].ended_at = 0.0  # it says nothing any more; its last demand stands
    studio.held[2].wishes.repeat()
    studio.mesh.cores[2].publications.remove(studio.held[2])
    studio.film(DEMAND_KEPT + 0.5)
    before = studio.mesh.media()
    studio.film(0.5)
    assert studio.mesh.media() == before > 0


def test_of_a_muted_track_nothing_is_sent_and_nothing_asked_for() -> None:
    studio = Studio()
    taker = studio.listen(2, 0)
    studio.settle()
    studio.film(0.2)
    directory = studio.mesh.cores[1].directory
    directory.mute(studio.publication, CAMERA.track, True, studio.mesh.now)
    studio.settle()
    assert studio.held[2].tracks[CAMERA.track].muted, "LAYERS says so at once"
    before = studio.mesh.media()
    studio.film(0.5, keys=(0,))
    assert studio.mesh.media() == before
    studio.mesh.run(0.5)
    assert studio.publication.demand.audience(CAMERA.track, 0) == 0
    directory.mute(studio.publication, CAMERA.track, False, studio.mesh.now)
    studio.settle()
    heard, ticks = len(taker.frames), studio.film(0.5)
    studio.settle()
    assert not studio.held[2].tracks[CAMERA.track].muted
    assert got(taker)[heard:] == of(0, ticks)


def test_what_was_kept_before_a_track_was_muted_begins_nothing_after_it() -> None:
    studio = Studio()
    studio.film(0.5, keys=(0,))
    directory = studio.mesh.cores[1].directory
    directory.mute(studio.publication, CAMERA.track, True, studio.mesh.now)
    studio.film(0.5)
    directory.mute(studio.publication, CAMERA.track, False, studio.mesh.now)
    taker = studio.listen(2, 0)
    studio.settle()
    assert taker.frames == [] and studio.track.encodings[0].keyframe_wish.wanted
    ticks = studio.film(0.2, keys=(0,))
    studio.settle()
    assert got(taker) == of(0, ticks)


def test_who_comes_after_a_while_without_takers_begins_with_what_is_kept_now() -> None:
    studio = Studio()
    first = studio.listen(2, 0)
    studio.settle()
    studio.film(0.5, keys=(0,))
    studio.leave(2, 0, first)
    ticks = studio.film(2.0, keys=(0,))
    late = studio.listen(2, 0)
    studio.settle()
    assert got(late) == of(0, ticks)


def test_layers_that_only_some_edges_want_are_told_to_the_others_as_left_out() -> None:
    studio = Studio()
    slow, fast = studio.listen(2, 0, Recorder(TOP, 0)), studio.listen(3, 0)
    studio.settle()
    ticks = studio.film(1.0, temporal=(0, 2, 1, 2))
    studio.settle()
    assert got(fast) == of(0, ticks) and fast.skips == []
    assert got(slow) == of(0, ticks)[::4]
    left_out = [n for first, packets, _ in slow.skips for n in range(first, first + packets)]
    assert sorted(left_out + [frame.sequence for frame in slow.frames]) == [FIRST[0] + tick for tick in ticks]
    encoding = studio.held[2].tracks[CAMERA.track].encodings[0]
    assert (encoding.lost, encoding.skipped) == (0, len(left_out))
    assert sum(pictures for _, _, pictures in slow.skips) == len(left_out)


def test_what_was_left_out_is_told_before_what_closes_up_to_it() -> None:
    """An edge that begins to want a layer in the middle of a picture would see a hole, and ask for it."""
    studio = Studio()
    taker = studio.listen(2, 0, Recorder(0, TOP))
    studio.settle()
    events: list[tuple[str, int]] = []
    taker.take = lambda frame, now: events.append(("packet", frame.sequence))  # type: ignore[method-assign]
    taker.skip = lambda _, first, packets, pictures: events.append(("skip", first))  # type: ignore[method-assign]
    for sequence in range(
        FIRST[0], FIRST[0] + 8
    ):  # one picture: of its upper layer two packets, then two more
        frame = video_frame(studio.publication, sequence, spatial=int(sequence >= FIRST[0] + 4))
        frame.marker = frame.layer_end = False
        if sequence == FIRST[0] + 6:
            taker.wanted_layers = TOP, TOP
            studio.held[2].demand_changed()
            studio.settle()
        studio.mesh.cores[1].forwarder.originate(studio.track, frame, studio.mesh.now)
    studio.settle()
    assert events == [
        *(("packet", FIRST[0] + k) for k in range(4)),
        ("skip", FIRST[0] + 4),
        ("packet", FIRST[0] + 6),
        ("packet", FIRST[0] + 7),
    ]


def test_a_new_edge_gets_first_what_is_kept_since_the_keyframe() -> None:
    studio = Studio()
    early = studio.listen(3, 1)
    studio.settle()
    ticks = studio.film(1.0, keys=(1,))
    before = studio.crossed(3)
    late = studio.listen(2, 1)
    studio.settle()
    assert got(late) == of(1, ticks), "all of it, in order"
    assert late.frames[0].keyframe
    assert studio.crossed(3) == before, "and nobody else gets it again"
    assert not studio.track.encodings[1].keyframe_wish.wanted, "the publisher is not asked"
    more = studio.film(0.2)
    studio.settle()
    assert got(late) == of(1, range(ticks[0], more[-1] + 1)) == got(early)
    assert studio.mesh.cores[1].forwarder.replayed == 1
    assert studio.held[2].tracks[CAMERA.track].encodings[1].duplicates == 0


def test_where_nothing_is_kept_the_publisher_is_asked_for_a_keyframe() -> None:
    studio = Studio()
    studio.film(0.2)
    studio.listen(2, 1)
    studio.settle()
    wishes = {number: encoding.keyframe_wish for number, encoding in studio.track.encodings.items()}
    assert [wishes[number].wanted for number in (0, 1, 2)] == [False, True, False]


def test_a_browser_in_simulcast_is_told_to_the_edges_by_what_it_really_sends() -> None:
    mesh = Mesh(2, [(1, 2)])
    mesh.routes(1, {1: {2: {2}}, 2: {1: {1}}})
    mesh.run(1.0)
    text = offer_text("chromium-whip-simulcast")
    browser = Browser()
    session, answer = mesh.cores[1].publish(NAME, text, ("VP8",), mesh.now)
    browser.accept(answer)
    browser.connect(mesh.cores[1], mesh.now)
    assert session.publication is not None
    mesh.admit(1, 2)
    infos = session.publication.info().tracks
    info = next(info for info in infos if info.kind == "video")
    assert [encoding.rid for encoding in info.encodings] == re.findall(r"a=rid:(\S+) send", text)
    held = mesh.hold(2, 1, infos)
    held.sessions[Viewer()] = None  # type: ignore[index]
    track = held.tracks[info.track]
    video = text.split("m=video")[1]
    mid = re.search(r"a=mid:(\S+)", video)[1]  # type: ignore[index]
    ids = {uri: int(number) for number, uri in re.findall(r"a=extmap:(\d+) (\S+)", video)}
    kind = int(re.search(r"m=video \d+ \S+ (\d+)", answer)[1])  # type: ignore[index]

    def send(seconds: float, rates: dict[int, int]) -> None:
        """Bytes of a packet, each 20 ms, by encoding; it always says its mid and rid."""
        for _ in range(round(seconds * 50)):
            for number, size in rates.items():
                said = [(ids[rtp.MID], mid.encode()), (ids[rtp.RID], info.encodings[number].rid.encode())]
                browser.send_rtp(
                    mesh.cores[1],
                    mesh.now,
                    round(mesh.now * 50),
                    b"\x10\x01\x00" + bytes(size),
                    payload_type=kind,
                    ssrc=700 + number,
                    extensions=rtp.build_extensions(said),
                )
            mesh.run(0.02)
            exchange(mesh.cores[1], mesh.now, browser)

    rates = {0: 1000, 1: 100, 2: 400}  # rids say nothing of their order
    send(3.0, rates)
    assert mesh.media() == 0, "nobody asked for it"
    assert [e.number for e in track.ranked()] == [1, 2, 0]
    for number, size in rates.items():
        assert track.live(number)
        told = track.layers[number].rates_bps[-1]
        assert 0.8 * 50 * 8 * size < told < 1.2 * 50 * 8 * (size + 100)
    del rates[0]
    send(1.8, rates)
    assert [track.live(number) for number in (0, 1, 2)] == [False, True, True], "told when it stops"
    wish = track.encodings[0].keyframe_wish
    wish.ask(mesh.now)
    send(1.0, rates)
    assert asked(browser) == [], "it would make one of the others"
    assert wish.wanted
    send(1.0, {**rates, 0: 1000})
    assert track.live(0), "and when it starts again"
    assert set(asked(browser)) == {700}
    assert mesh.cores[2].forwarder.dropped == {}
    assert mesh.sent[1, 2, frames.LAYERS] > 0


def asked(browser: Browser) -> list[int]:
    """The SSRCs of which *browser* was asked for a keyframe."""
    return [one.media_ssrc for one in browser.rtcp if isinstance(one, rtcp.PictureLossIndication)]


def test_a_track_that_ended_takes_no_part_in_what_its_player_is_sent() -> None:
    mesh = Mesh(2, [(1, 2)])
    mesh.routes(1, {1: {2: {2}}, 2: {1: {1}}})
    mesh.run(1.0)
    browser = Browser()
    session, answer = mesh.cores[2].play(mesh.hold(2, 1), offer_text("chromium-whep"), mesh.now)
    browser.accept(answer)
    browser.connect(mesh.cores[2], mesh.now)
    assert all(sender.track is not None for sender in session.senders.values())
    held = mesh.hold(2, 1, (AUDIO,))
    assert [s.track.info if s.track is not None else None for s in session.senders.values()].count(AUDIO) == 1
    assert [s.choice for s in session.senders.values() if s.is_video] == [None]
    assert held.wanted() == {(AUDIO.track, 0): (TOP, TOP)}


def test_an_edge_that_steps_down_from_a_publisher_that_ignores_requests_is_sent_what_is_kept() -> None:
    studio = Studio()
    studio.listen(2, 1)
    studio.settle()
    ticks = studio.film(0.5, keys=(0, 1, 2))
    studio.track.keyframe_requests.ignored = True
    up = studio.listen(2, 2)
    studio.mesh.run(0.1)
    assert got(up) == [], "dearer: what is kept would show the past once more"
    before = studio.mesh.cores[1].forwarder.replayed
    studio.listen(2, 0)
    studio.mesh.run(0.1)
    assert studio.mesh.cores[1].forwarder.replayed == before + 1
    kept = studio.held[2].tracks[CAMERA.track].encodings[0].since_keyframe.frames()
    assert [frame.sequence for frame in kept] == [FIRST[0] + tick for tick in ticks]


def test_an_edge_that_steps_down_from_a_publisher_that_answers_waits_for_its_keyframe() -> None:
    studio = Studio()
    studio.listen(2, 1)
    studio.settle()
    studio.film(0.5, keys=(0, 1, 2))
    before = studio.mesh.cores[1].forwarder.replayed
    studio.listen(2, 0)
    studio.mesh.run(0.1)
    assert studio.mesh.cores[1].forwarder.replayed == before
    assert studio.track.encodings[0].keyframe_wish.wanted
