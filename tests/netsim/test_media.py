"""Synthetic publisher and player, against each other and over a lossy hop."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from relaymesh.netsim.encoder import PublishedEncoding
from relaymesh.netsim.media import SyntheticPublisher
from relaymesh.netsim.player import PlayedTrack, SyntheticPlayer
from relaymesh.netsim.reception import Fates, fates_between
from relaymesh.netsim.synthetic_rtp import RTP_HEADER
from relaymesh.netsim.track_specs import TrackSpec
from relaymesh.webrtc import vp8
from relaymesh.webrtc.rtcp import PictureLossIndication, build_pli, parse_rtcp
from relaymesh.webrtc.rtp import parse_rtp

VIDEO = TrackSpec("video", 1500.0, 30.0, keyframe_s=2.0)
AUDIO = TrackSpec("audio", 32.0, 50.0)


def run(
    specs: list[TrackSpec],
    seconds: float,
    *,
    loss: float = 0.0,
    delay: float = 0.040,
    repair: bool = True,
    outage: tuple[float, float] = (9e9, 9e9),
) -> tuple[SyntheticPublisher, SyntheticPlayer]:
    """A publisher, a hop that loses and delays, a player; feedback takes the delay too and is never lost."""
    rng = Random(7)
    publisher = SyntheticPublisher(specs, rng=Random(1), start=0.0)
    player = SyntheticPlayer([PlayedTrack(spec, joined_at=0.0) for spec in specs], ssrc=99)
    player.connected([(t.main.ssrc, t.main.rtx_ssrc) for t in publisher.tracks], 0.0)
    forth: list[tuple[float, bytes]] = []
    back: list[tuple[float, bytes]] = []
    for tick in range(round(seconds * 200) + 200):
        now = tick * 0.005
        media = publisher.poll(now)[0] if now < seconds else []
        while back and back[0][0] <= now:
            media += publisher.handle_rtcp(back.pop(0)[1], now)
        forth += [
            (now + delay, p) for p in media if rng.random() >= loss and not outage[0] <= now < outage[1]
        ]
        while forth and forth[0][0] <= now:
            player.handle_rtp(forth.pop(0)[1], now)
        if repair:
            back += [(now + delay, data) for data in player.poll_rtcp(now)]
    return publisher, player


def test_a_video_track_has_its_rate_and_its_keyframes() -> None:
    track = PublishedEncoding(VIDEO, rng=Random(3), start=0.0)
    packets = [p for tick in range(1000) for p in track.poll(tick / 100)]
    kbps = track.sent_bytes * 8 / 10 / 1000
    assert kbps == pytest.approx(1500, rel=0.05)
    assert track.keyframes == 5
    first = parse_rtp(packets[0])
    assert vp8.parse_descriptor(first.payload).keyframe
    assert first.timestamp != parse_rtp(packets[-1]).timestamp
    assert all(len(p) < 1200 for p in packets)
    frames = sum(p[1] >> 7 for p in packets)
    assert frames == 300


def test_timestamps_follow_the_media_clock() -> None:
    track = PublishedEncoding(AUDIO, rng=Random(3), start=1.0)
    packets = track.poll(1.5)
    stamps = [RTP_HEADER.unpack_from(p)[3] for p in packets]
    assert {b - a for a, b in pairwise(stamps)} == {960}
    assert len(packets) == 26


def test_a_keyframe_that_is_asked_for_comes_with_the_next_frame_but_not_too_often() -> None:
    publisher = SyntheticPublisher([TrackSpec("video", 500.0, 20.0)], rng=Random(1), start=0.0)
    track = publisher.tracks[0].main
    publisher.poll(1.0)
    assert track.keyframes == 1
    for at in (1.01, 1.06, 1.11):
        publisher.handle_rtcp(build_pli(5, track.ssrc), at)
        publisher.poll(at + 0.04)
    assert track.keyframes == 2
    publisher.poll(1.5)
    assert track.keyframes == 3


def test_a_perfect_path_loses_freezes_and_delays_nothing() -> None:
    publisher, player = run([AUDIO, VIDEO], 10.0)
    for sent, played in zip(publisher.tracks, player.tracks, strict=True):
        assert fates_between(sent, played, 0.0, 10.0) == Fates(sent.packets_sent)
        assert played.longest_gap(1.0, 9.0) < 0.007
        assert played.frozen(0.0, 10.0) == 0.0
        assert played.first_frame_at == pytest.approx(0.04, abs=0.006)
        assert {round(delay / 100) for delay in played.delays} == {4}
        assert not played.is_waiting


def test_loss_is_repaired_and_told_apart_from_what_came_by_itself() -> None:
    publisher, player = run([VIDEO], 10.0, loss=0.03)
    sent, played = publisher.tracks[0], player.tracks[0]
    fates = fates_between(sent, played, 0.0, 9.5)
    assert fates.never == 0
    assert 0.01 < fates.again / fates.sent < 0.06
    assert played.nacked >= fates.again
    assert 0.05 < played.longest_gap(0.5, 9.0) < 0.5


def test_without_repair_a_keyframe_ends_the_freeze() -> None:
    publisher, player = run([VIDEO], 10.0, loss=0.03, repair=False)
    played = player.tracks[0]
    assert fates_between(publisher.tracks[0], played, 0.0, 9.5).never > 0
    assert played.frames_lost > 0
    assert played.frozen(0.0, 10.0) > 1.0
    assert played.longest_gap(0.0, 10.0) > 1.0


def test_an_outage_is_a_gap_and_the_player_asks_for_a_keyframe() -> None:
    spec = TrackSpec("video", 5000.0, 30.0)  # more is missing than can be asked for
    publisher, player = run([spec], 10.0, outage=(4.0, 6.0))
    played = player.tracks[0]
    assert 1.9 < played.longest_gap(3.0, 8.0) < 3.0
    assert played.longest_gap(0.0, 3.9) < 0.01
    assert 1.5 < played.frozen(0.0, 10.0) < 3.0
    assert publisher.tracks[0].main.keyframes >= 2


def test_a_player_that_lost_its_keyframe_asks_for_one() -> None:
    track = PublishedEncoding(TrackSpec("video", 200.0, 10.0), rng=Random(1), start=0.0)
    player = SyntheticPlayer([PlayedTrack(track.spec, joined_at=0.0)], ssrc=5)
    player.connected([(track.ssrc, track.rtx_ssrc)], 0.0)
    for tick in range(1, 10):
        packets = track.poll(tick / 10)
        for packet in packets if tick > 1 else []:
            player.handle_rtp(packet, tick / 10)
        asked = [q for data in player.poll_rtcp(tick / 10) for q in parse_rtcp(data)]
    assert player.tracks[0].first_frame_at is None
    assert player.tracks[0].keyframe_requests == 2
    assert all(isinstance(q, PictureLossIndication) for q in asked)


def test_hostile_bytes_change_nothing() -> None:
    played = PlayedTrack(VIDEO, joined_at=0.0)
    player = SyntheticPlayer([played], ssrc=5)
    player.connected([(1, 2)], 0.0)
    for data in (
        bytes(12),
        b"\x80" + bytes(11),
        RTP_HEADER.pack(0x90, 96, 1, 1, 1),
        b"\x80\x60\0\0" + bytes(9),
    ):
        player.handle_rtp(data, 1.0)
    assert played.packets == 0
    assert player.undecodable == 4


def test_the_end_of_the_window_counts_as_the_end_of_a_gap() -> None:
    played = PlayedTrack(TrackSpec("audio", 32, 50.0), joined_at=0.0)
    for index in range(100):
        played.plays.append(index * 0.02)
    assert played.longest_gap(0.5, 1.5) == pytest.approx(0.0)
    assert played.longest_gap(1.0, 5.0) == pytest.approx(5.0 - 1.98 - 0.02)
    assert played.longest_gap(10.0, 12.0) > 2.0  # nothing for longer than the window
    played.left_at = 2.0
    assert played.longest_gap(1.0, 5.0) == pytest.approx(0.0, abs=0.001)
