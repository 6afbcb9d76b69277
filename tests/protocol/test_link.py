import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.protocol import frames
from relaymesh.protocol.datagram import read_header
from relaymesh.protocol.errors import ProtocolError
from relaymesh.protocol.frames import Echo, KeyframeRequest, MediaFrame, Probe
from relaymesh.protocol.ids import TrackId
from relaymesh.protocol.keyring import KEY_GRACE
from relaymesh.protocol.link import MAX_ECHOES, Link
from relaymesh.protocol.link_events import LinkDown, LinkStepped, LinkUp
from relaymesh.protocol.probe import LOSS_WINDOW
from tests.lossy_link import Conditions, Pair
from tests.sealing import seal

INTERVAL, DEAD_AFTER = 0.05, 0.2


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def make_link(
    own: int, peer: int, seed: int = 0, interval: float = INTERVAL, dead_after: float = DEAD_AFTER
) -> Link:
    rng = random.Random(seed * 1000 + own)
    return Link(own_index=own, peer_index=peer, probe_interval=interval, dead_after=dead_after, rng=rng)


def rekey(one: Link, other: Link, epoch: int, now: float, *, salt: int = 0) -> None:
    """Give both ends the keys of *epoch*; *other* may be told later by a second call on one end."""
    install(one, epoch, now, salt=salt)
    install(other, epoch, now, salt=salt)


def install(link: Link, epoch: int, now: float, *, salt: int = 0) -> None:
    towards_peer = key(1 + (salt << 32 | epoch << 16 | link.own_index << 8 | link.peer_index))
    from_peer = key(1 + (salt << 32 | epoch << 16 | link.peer_index << 8 | link.own_index))
    link.install_key(epoch, towards_peer, from_peer, now)


def two_links(
    seed: int = 0, *, interval: float = INTERVAL, dead_after: float = DEAD_AFTER
) -> tuple[Link, Link]:
    a, b = make_link(1, 2, seed, interval, dead_after), make_link(2, 1, seed, interval, dead_after)
    rekey(a, b, 1, 0.0)
    return a, b


def media(sequence: int) -> bytes:
    return frames.encode_media(
        MediaFrame(
            TrackId(1, 2, 3), 0, sequence, sequence, b"payload", hop_limit=16, generation=1, destinations=4
        )
    )


def sequences(received: list[list[tuple[int, bytes]]]) -> list[int]:
    return [frames.decode_media(frame, 3).sequence for routed in received for frame in routed]


def feed(pair: Pair, sender: Link, count: int, every: float = 0.01, start: int = 0) -> None:
    """Send *count* media frames from now on, one *every* seconds."""
    for i in range(count):
        pair.at(pair.now + i * every, lambda i=i: pair.send(sender, sender.seal(media(start + i), pair.now)))  # type: ignore[misc]


# --- the packet path -----------------------------------------------------------------------------


def test_a_frame_crosses() -> None:
    a, b = two_links()
    frame = media(7)
    assert b.handle_datagram(a.seal(frame, 0.0), 0.1) == frames.split_frames(frame)
    assert (a.sample(0.1).sent_packets, b.sample(0.1).received_packets) == (1, 1)


def test_frames_of_one_datagram_are_sorted_and_unknown_ones_skipped() -> None:
    a, b = two_links()
    request = frames.encode_keyframe_request(KeyframeRequest(TrackId(1, 2, 3), 0, 16, 1, 1))
    unknown, later_routed = b"\x0f\x00\x01x", b"\x1f\x00\x02hi"
    probe = frames.encode_probe(Probe(5, 6))
    routed = b.handle_datagram(a.seal(request + unknown + probe + later_routed, 0.0), 0.1)
    assert [frame[0] for frame in routed] == [frames.KEYFRAME_REQUEST, 0x1F]
    assert b.debug_state()["unknown_frames"] == 1
    assert len(b.poll_datagrams(0.1)) == 1


def test_without_a_key_nothing_is_sent_or_heard() -> None:
    a, b = make_link(1, 2), make_link(2, 1)
    assert a.next_timeout() is None
    a.handle_timeout(100.0)
    assert a.poll_datagrams(100.0) == []
    with pytest.raises(ProtocolError) as caught:
        a.seal(media(1), 0.0)
    assert caught.value.reason == "unknown_key"
    install(b, 1, 0.0)
    with pytest.raises(ProtocolError) as caught:
        a.handle_datagram(b.seal(media(1), 0.0), 0.0)
    assert caught.value.reason == "unknown_key"


def test_echoes_are_bounded_and_fit_one_datagram() -> None:
    a, b = two_links()
    probes = b"".join(frames.encode_probe(Probe(i, i)) for i in range(94))
    b.handle_datagram(a.seal(probes, 0.0), 0.0)
    b.handle_timeout(1.0)
    (datagram,) = b.poll_datagrams(1.0)
    a.handle_datagram(datagram, 1.0)
    assert b.debug_state()["echoes_dropped"] == 94 - MAX_ECHOES


# --- hostile bytes -------------------------------------------------------------------------------


def running_pair() -> tuple[Link, Link, bytes]:
    """Two links that are up, and a good datagram of *a* that *b* has not seen."""
    a, b = two_links()
    pair = Pair(a, b)
    feed(pair, a, 20)
    pair.run(1.0)
    return a, b, a.seal(media(1), 1.0)


def refuse(link: Link, datagram: bytes, now: float = 1.0) -> str:
    """The reason for which *link* refuses; it must stay as it was and answer nothing."""
    link.poll_datagrams(now)  # what was due anyway
    before = link.debug_state()
    with pytest.raises(ProtocolError) as caught:
        link.handle_datagram(datagram, now)
    assert link.debug_state() == before
    assert link.poll_datagrams(now) == []
    return caught.value.reason


def forge(epoch: int, sender: int, number: int, plaintext: bytes, key_bytes: bytes) -> bytes:
    return seal(key_bytes, epoch, sender, number, plaintext)


def test_every_refusal_has_its_reason_and_changes_nothing() -> None:
    a, b, good = running_pair()
    own_key = key(1 + (1 << 16 | 1 << 8 | 2))
    cases = {
        "truncated": good[:21],
        "oversized": good + bytes(1452),
        "version": b"\x11" + good[1:],
        "malformed": b"\x23" + good[1:],
        "unknown_sender": good[:2] + b"\x00\x09" + good[4:],
        "unknown_key": good[:1] + b"\x07" + good[2:],
        "unauthentic": good[:-1] + bytes([good[-1] ^ 1]),
    }
    assert {reason: refuse(b, datagram) for reason, datagram in cases.items()} == {r: r for r in cases}
    assert refuse(b, good[:-1]) == "unauthentic"  # cut, but longer than the minimum
    assert refuse(b, forge(1, 1, 1 << 31, media(1), key(99))) == "unauthentic"  # does not move the window
    assert refuse(b, forge(1, 1, 0, media(1), own_key)) == "replayed"
    assert refuse(a, good) == "unknown_sender"  # reflected
    b.handle_datagram(good, 1.0)
    assert refuse(b, good) == "replayed"


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\x10",
        b"\x10\xff\xff",
        frames.encode_probe(Probe(1, 2)) + b"\x02\x00\x01x",  # a good probe before a short echo
        media(1) + b"\x01\x00\x00",
        frames.encode_probe(Probe(1, 2)) + b"\x10\x00\x09abc",
    ],
)
def test_an_authentic_datagram_that_is_malformed_is_refused_whole(plaintext: bytes) -> None:
    _, b, _ = running_pair()
    own_key = key(1 + (1 << 16 | 1 << 8 | 2))
    assert refuse(b, forge(1, 1, 1000, plaintext, own_key)) == "malformed"


hostile = running_pair()


@given(st.binary(max_size=80), st.integers(0, 3))
def test_random_bytes_change_nothing(data: bytes, keep: int) -> None:
    _, b, good = hostile
    header = (b"", good[:2], good[:4], good[:12])[keep]  # so that they reach each check
    refuse(b, header + data)


@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 60))
def test_a_changed_or_cut_datagram_changes_nothing(at: int, change: int, cut: int) -> None:
    _, b, good = hostile
    bad = bytearray(good)
    bad[at % len(bad)] ^= change
    refuse(b, bytes(bad[: len(bad) - cut]))


def test_a_corrupting_network_lets_nothing_false_through() -> None:
    a, b = two_links()
    pair = Pair(
        a, b, forth=Conditions(corrupt=0.3, duplicate=0.3, reorder=0.2), seed=3, errors=(ProtocolError,)
    )
    feed(pair, a, 500)
    pair.run(6.0)
    got = sequences(pair.received[b])
    assert len(got) == len(set(got)) > 300
    assert set(got) <= set(range(500))


# --- up, measured, down --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_link_comes_up_under_loss(seed: int) -> None:
    a, b = two_links(seed, dead_after=1.0)
    pair = Pair(a, b, forth=Conditions(loss=0.2), back=Conditions(loss=0.2), seed=seed)
    assert not a.sample(0.0).up
    assert pair.run_until(lambda: a.sample(pair.now).up and b.sample(pair.now).up, 1.0)
    ups = [event for link in (a, b) for event in link.poll_events()]
    assert [type(event) for event in ups] == [LinkUp, LinkUp]
    assert ups[0].peer == 2
    assert ups[0].rtt_ms == pytest.approx(20.0)  # type: ignore[union-attr]


def test_estimates_converge_to_an_asymmetric_link() -> None:
    a, b = two_links(dead_after=1.0)
    pair = Pair(a, b, forth=Conditions(0.03, 0.01, loss=0.2), back=Conditions(0.05, 0.01, loss=0.05), seed=4)
    out: list[float] = []
    back: list[float] = []
    for _ in range(20):
        pair.run(LOSS_WINDOW)
        at_a, at_b = a.sample(pair.now), b.sample(pair.now)
        for side in (at_a, at_b):
            assert side.rtt_ms == pytest.approx(90.0, abs=3.0)
            assert 2.0 < side.jitter_ms < 9.0
        assert at_a.loss_out == pytest.approx(at_b.loss_in, abs=0.07)
        assert at_a.loss_in == pytest.approx(at_b.loss_out, abs=0.07)
        out.append(at_a.loss_out)
        back.append(at_a.loss_in)
    assert sum(out) / len(out) == pytest.approx(0.2, abs=0.02)
    assert sum(back) / len(back) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("seed", range(4))
def test_death_is_seen_in_time(seed: int) -> None:
    a, b = two_links(seed)
    pair = Pair(a, b, seed=seed)
    pair.run(3.0)
    a.poll_events(), b.poll_events()
    pair.forth.loss = pair.back.loss = 1.0
    pair.run(0.01 + DEAD_AFTER + 0.001)  # the last datagrams were on their way
    assert a.poll_events() == [LinkDown(2, "silent")]
    assert b.poll_events() == [LinkDown(1, "silent")]
    assert a.sample(pair.now).rtt_ms == 0.0
    pair.forth.loss = pair.back.loss = 0.0
    pair.run(2 * INTERVAL + 0.02)
    assert [type(event) for event in a.poll_events() + b.poll_events()] == [LinkUp, LinkUp]


def test_a_path_that_dies_in_one_direction_is_down_on_both_sides() -> None:
    a, b = two_links()
    pair = Pair(a, b)
    pair.run(1.0)
    a.poll_events(), b.poll_events()
    pair.forth.loss = 1.0
    pair.run(4 * DEAD_AFTER)
    assert a.poll_events() == [LinkDown(2, "unheard")]
    assert b.poll_events() == [LinkDown(1, "silent")]


def test_no_flapping_in_an_hour_of_loss() -> None:
    a, b = two_links(interval=0.25, dead_after=1.25)
    lossy = Conditions(0.04, 0.02, loss=0.05)
    pair = Pair(a, b, forth=lossy, back=lossy, seed=11)
    pair.run(3600.0, max_steps=400_000)
    for link in (a, b):
        events = [type(event) for event in link.poll_events()]
        assert events[0] == LinkUp
        assert set(events[1:]) <= {LinkStepped} and len(events) <= 3  # 5 % were noticed, and stay as they are
    assert len(str(a.debug_state())) < 3000  # nothing grew


@pytest.mark.parametrize("sleep", [0.3, 2.0, 60.0])
def test_a_node_that_slept_does_not_blame_its_peer(sleep: float) -> None:
    a, b = two_links()
    pair = Pair(a, b)
    pair.run(1.0)
    a.poll_events(), b.poll_events()
    pair.asleep.add(a)
    pair.run(sleep)
    pair.wake(a)
    pair.run(1.0)
    assert a.poll_events() == []
    assert a.sample(pair.now).up
    heard = [type(event) for event in b.poll_events()]
    assert [kind for kind in heard if kind is not LinkStepped] == [LinkDown, LinkUp]  # b did hear nothing


def test_a_peer_that_died_while_we_slept_is_blamed_later() -> None:
    a, b = two_links()
    pair = Pair(a, b)
    pair.run(1.0)
    a.poll_events()
    pair.asleep |= {a, b}
    pair.run(5.0)
    pair.wake(a)
    assert a.poll_events() == []
    pair.run(DEAD_AFTER + INTERVAL)
    assert a.poll_events() == [LinkDown(2, "silent")]


def test_no_burst_of_probes_after_a_sleep() -> None:
    a, b = two_links()
    pair = Pair(a, b)
    pair.run(1.0)
    before = pair.sent[a]
    pair.asleep.add(a)
    pair.run(10.0)
    pair.back.loss = 1.0
    pair.wake(a)
    pair.run(0.5)
    assert (
        pair.sent[a] - before <= 0.5 / INTERVAL + 10.0 / INTERVAL + 2
    )  # waiting probes are echoed, one each


def test_an_echo_that_nobody_asked_for_brings_nothing_up() -> None:
    a, b = two_links()
    a.handle_datagram(b.seal(frames.encode_echo(Echo(1, 2, 3, 4)), 0.0), 0.0)
    assert a.poll_events() == []
    assert not a.sample(0.0).up


# --- keys ----------------------------------------------------------------------------------------


def epoch_of(datagram: bytes) -> int:
    return datagram[1]


@pytest.mark.parametrize("lag", [0.0, 0.004, 0.3, 0.9])
def test_rekey_on_a_clean_link_loses_no_frame(lag: float) -> None:
    a, b = two_links()
    pair = Pair(a, b, forth=Conditions(0.02, jitter=0.01), back=Conditions(0.02, jitter=0.01))
    pair.run(1.0)
    feed(pair, a, 400)
    feed(pair, b, 400)
    for i, epoch in enumerate((2, 3)):
        pair.at(1.5 + 2 * i, lambda epoch=epoch: install(a, epoch, pair.now))  # type: ignore[misc]
        pair.at(1.5 + 2 * i + lag, lambda epoch=epoch: install(b, epoch, pair.now))  # type: ignore[misc]
    pair.run(6.0)
    assert sorted(sequences(pair.received[a])) == sorted(sequences(pair.received[b])) == list(range(400))
    assert epoch_of(a.seal(media(0), pair.now)) == epoch_of(b.seal(media(0), pair.now)) == 3


def test_rekey_under_loss_keeps_the_link_up() -> None:
    a, b = two_links(dead_after=1.0)
    pair = Pair(a, b, forth=Conditions(loss=0.2), back=Conditions(loss=0.2), seed=5)
    pair.run(2.0)
    a.poll_events(), b.poll_events()
    feed(pair, a, 3000)
    for epoch in range(2, 12):
        pair.at(epoch * 3.0, lambda epoch=epoch: install(a, epoch, pair.now))  # type: ignore[misc]
        pair.at(epoch * 3.0 + 0.4, lambda epoch=epoch: install(b, epoch, pair.now))  # type: ignore[misc]
    pair.run(36.0)  # no ProtocolError on the way: every datagram that arrived was opened
    events = a.poll_events() + b.poll_events()
    assert (
        all(isinstance(event, LinkStepped) for event in events) and len(events) <= 4
    )  # the loss was learned
    came = sequences(pair.received[b])
    assert len(came) == len(set(came)) == pytest.approx(3000, abs=10)  # 600 were lost and recovered


def test_sending_moves_to_a_new_key_when_the_peer_is_heard_with_it() -> None:
    a, b = two_links()
    install(a, 2, 0.0)
    assert epoch_of(a.seal(media(0), 0.5)) == 1
    b.install_key(2, *_keys_of(b, 2), 0.1)
    assert epoch_of(b.seal(media(0), 0.1 + KEY_GRACE)) == 2
    a.handle_datagram(b.seal(media(0), 1.2), 0.6)
    assert epoch_of(a.seal(media(0), 0.6)) == 2


def _keys_of(link: Link, epoch: int) -> tuple[bytes, bytes]:
    return (
        key(1 + (epoch << 16 | link.own_index << 8 | link.peer_index)),
        key(1 + (epoch << 16 | link.peer_index << 8 | link.own_index)),
    )


def test_sending_moves_to_a_new_key_after_the_grace() -> None:
    a, _ = two_links()
    install(a, 2, 5.0)
    assert epoch_of(a.seal(media(0), 5.0 + KEY_GRACE - 0.01)) == 1
    assert epoch_of(a.seal(media(0), 5.0 + KEY_GRACE)) == 2


def test_the_two_newest_epochs_are_held_and_epochs_wrap() -> None:
    a, b = make_link(1, 2), make_link(2, 1)
    old = []
    for epoch in (254, 255, 0):
        rekey(a, b, epoch, 0.0)
        if epoch == 254:
            old.append(a.seal(media(0), 0.0))
    with pytest.raises(ProtocolError) as caught:
        b.handle_datagram(old[0], 0.0)
    assert caught.value.reason == "unknown_key"
    assert epoch_of(a.seal(media(0), 0.0)) == 255  # what it sent with is gone: the older of those held
    b.handle_datagram(a.seal(media(0), 0.0), 0.0)
    assert epoch_of(a.seal(media(0), KEY_GRACE)) == 0


def test_the_same_keys_again_change_nothing() -> None:
    a, b = two_links()
    b.handle_datagram(a.seal(media(1), 0.0), 0.0)
    before = a.debug_state()
    install(a, 1, 0.5)
    assert a.debug_state() == before
    b.handle_datagram(a.seal(media(2), 0.5), 0.5)  # the packet number went on


@pytest.mark.parametrize(
    ("epoch", "send_key", "receive_key"),
    [
        (2, key(1 + (1 << 16 | 1 << 8 | 2)), key(77)),  # sent with in epoch 1
        (2, key(1 + (1 << 16 | 2 << 8 | 1)), key(77)),  # received with in epoch 1
        (2, key(77), key(77)),
        (2, bytes(15), key(77)),
        (2, key(78), bytes(32)),
        (256, key(78), key(77)),
    ],
)
def test_keys_that_would_repeat_a_nonce_are_refused(epoch: int, send_key: bytes, receive_key: bytes) -> None:
    a, _ = two_links()
    before = a.debug_state()
    with pytest.raises(ProtocolError) as caught:
        a.install_key(epoch, send_key, receive_key, 0.0)
    assert caught.value.reason == "invalid"
    assert a.debug_state() == before


def test_other_keys_under_the_same_epoch_replace_them() -> None:
    a, b = two_links()
    a.seal(media(0), 0.0)
    rekey(a, b, 1, 1.0, salt=9)
    b.handle_datagram(a.seal(media(1), 1.0), 1.0)
    assert read_header(a.seal(media(2), 1.0))[2] == 2


def test_packet_numbers_start_over_with_a_new_epoch_after_a_reboot() -> None:
    a, b = two_links()
    pair = Pair(a, b)
    feed(pair, a, 50)
    pair.run(2.0)
    a.poll_events()
    # b loses power and comes back with nothing; the controller gives both ends epoch 2.
    b_reborn = make_link(2, 1, seed=77)
    install(b_reborn, 2, 2.6)
    second = Pair(a, b_reborn, start=2.6, errors=(ProtocolError,), seed=2)
    second.at(2.8, lambda: install(a, 2, second.now))
    assert second.run_until(lambda: a.sample(second.now).up and b_reborn.sample(second.now).up, 4.0)
    assert [type(event) for event in a.poll_events()] == [LinkDown, LinkUp]
    feed(second, b_reborn, 20)
    second.run(3.0)
    assert sequences(second.received[a]) == list(range(20))
    assert {str(error) for error in second.errors[a]} == {"unknown_key: epoch 2"}
    assert {str(error) for error in second.errors[b_reborn]} <= {"unknown_key: epoch 1"}
    for side in (a.sample(second.now), b_reborn.sample(second.now)):
        assert side.loss_in == pytest.approx(0.0, abs=0.02)
        assert side.loss_out == pytest.approx(0.0, abs=0.02)


def test_no_key_is_ever_shown() -> None:
    a, _ = two_links()
    shown = repr(a) + str(a.debug_state())
    for secret in _keys_of(a, 1):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


def test_who_hears_nothing_says_so_and_both_ends_are_down_at_once() -> None:
    a, b = two_links(interval=0.05, dead_after=0.2)
    pair = Pair(a, b)
    pair.run(2.0)
    a.poll_events(), b.poll_events()
    pair.forth = Conditions(0.0, loss=1.0)
    pair.run(0.35)
    assert b.poll_events() == [LinkDown(1, "silent")]
    assert a.poll_events() == [LinkDown(2, "unheard")]
