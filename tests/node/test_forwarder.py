"""Nodes over an emulated network in virtual time: who gets what, by which way, and what is dropped."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.node.encodings import MediaClock
from relaymesh.protocol.control import ControlMessage
from relaymesh.protocol.frames import HOP_LIMIT, SkipFrame, encode_skip
from relaymesh.protocol.frames.kinds import FRAME
from tests.node.mesh import AUDIO, VIDEO, Mesh, Recorder, make_core, relay_address, video_frame, video_of

CHAIN = {1: {2: {2, 3}}, 2: {1: {1}, 3: {3}}, 3: {2: {1, 2}}}


def chain(**conditions: float) -> Mesh:
    mesh = Mesh(3, [(1, 2), (2, 3)], **conditions)  # type: ignore[arg-type]
    mesh.routes(1, CHAIN)
    mesh.run(1.0)
    return mesh


def test_media_crosses_a_transit_node_that_keeps_no_state_of_it():
    mesh = chain()
    publication = mesh.publish(1, 3)
    taker = mesh.listen(3, 1)
    for sequence in range(100, 200):
        mesh.cores[1].forwarder.originate(
            video_of(publication),
            video_frame(publication, sequence, keyframe=sequence == 100, payload=bytes(900)),
            mesh.now,
        )
        mesh.run(0.005)
    mesh.run(0.1)
    assert [f.sequence for f in taker.frames] == list(range(100, 200))
    assert taker.frames[0].keyframe
    assert taker.frames[0].hop_limit == HOP_LIMIT - 1
    assert len(mesh.cores[2].publications) == 0
    assert mesh.media(2) == 100
    assert mesh.cores[2].forwarder.dropped == {}


def test_numbers_that_wrap_on_the_wire_go_on_at_the_far_edge():
    mesh = chain()
    publication = mesh.publish(1, 3)
    taker = mesh.listen(3, 1)
    first = (1 << 32) - 5
    for sequence in range(first, first + 10):
        frame = video_frame(publication, sequence, keyframe=sequence == first)
        mesh.cores[1].forwarder.originate(video_of(publication), frame, mesh.now)
        mesh.run(0.005)
    mesh.run(0.1)
    assert [f.sequence for f in taker.frames] == list(range(first, first + 10))


def test_one_packet_crosses_each_link_once_however_many_edges_lie_behind():
    mesh = Mesh(5, [(1, 2), (2, 3), (2, 4), (2, 5)])
    mesh.routes(
        1,
        {
            1: {2: {2, 3, 4, 5}},
            2: {1: {1}, 3: {3}, 4: {4}, 5: {5}},
            3: {2: {1, 2, 4, 5}},
            4: {2: {1, 2, 3, 5}},
            5: {2: {1, 2, 3, 4}},
        },
    )
    mesh.run(1.0)
    publication = mesh.publish(1, 2, 3, 4, 5)
    takers = {}
    for edge in (2, 3, 4, 5):
        takers[edge] = mesh.listen(edge, 1)
    mesh.run(0.1)  # the edges' own demand arrives
    mesh.cores[1].forwarder.originate(video_of(publication), video_frame(publication, 1), mesh.now)
    mesh.run(0.1)
    assert mesh.cores[1].forwarder.originated == 1
    assert mesh.media(2) == 3
    assert all(len(t.frames) == 1 for t in takers.values())


def test_a_keyframe_request_travels_upstream_and_is_merged_at_the_ingress():
    mesh = chain()
    publication = mesh.publish(1, 3)
    held = mesh.hold(3, 1)
    encoding = held.tracks[VIDEO.track].encodings[0]
    for _ in range(5):
        encoding.keyframe_wish.ask(mesh.now)
    mesh.run(0.1)
    assert encoding.keyframe_wish.requests == 1
    wish = publication.tracks[VIDEO.track].encodings[0].keyframe_wish
    assert wish.due(mesh.now), "the ingress knows that its publisher must be asked"
    # No keyframe comes: the edge asks again.
    mesh.run(0.6)
    assert encoding.keyframe_wish.requests == 2
    mesh.cores[1].forwarder.originate(
        video_of(publication), video_frame(publication, 5, keyframe=True), mesh.now
    )
    mesh.run(0.1)
    assert encoding.keyframe_wish.next_timeout() is None


def test_a_link_that_left_something_out_has_the_edge_ask_for_a_keyframe():
    mesh = chain()
    mesh.publish(1, 3)
    track = mesh.hold(3, 1).tracks[VIDEO.track]
    encoding = track.encodings[0]

    def told(keyframe: bool) -> bool:
        skip = SkipFrame(track.id, 0, 9, 1, 0, 16, 1, 1 << 3, keyframe)
        mesh.cores[3].forwarder.handle_frame(2, encode_skip(skip), mesh.now)
        return encoding.keyframe_wish.wanted

    assert not told(keyframe=True), "nobody plays it"
    encoding.add_taker(Recorder())
    assert not told(keyframe=False)
    assert told(keyframe=True)


def test_a_keyframe_is_asked_of_a_publisher_here_only():
    mesh = chain()
    publication = mesh.publish(1, 3)
    mesh.hold(3, 1)
    here, there = mesh.cores[1].publications, mesh.cores[3].publications
    video = publication.tracks[VIDEO.track]
    assert here.want_keyframe(video.id, 0, mesh.now)
    assert not here.want_keyframe(video.id, 1, mesh.now), "no such encoding"
    assert not there.want_keyframe(video.id, 0, mesh.now)


def test_the_publishers_clock_reaches_the_edge_and_a_later_edge_at_once():
    mesh = chain()
    publication = mesh.publish(1)
    clock = MediaClock(0x1234 << 32, 90_000, mesh.now)
    publication.tracks[AUDIO.track].encodings[0].clock = clock
    taken = mesh.hold(3, 1).tracks[AUDIO.track].encodings[0]
    taken.add_taker(Recorder())
    mesh.run(0.5)
    assert taken.clock is None, "an edge that is not admitted wants in vain"
    mesh.admit(1, 3)
    mesh.run(0.1)
    arrived = taken.clock
    assert arrived is not None
    assert (arrived.ntp, arrived.timestamp) == (clock.ntp, clock.timestamp)
    # The other order: admitted, and later it wants it.
    later = mesh.hold(2, 1).tracks[AUDIO.track].encodings[0]
    mesh.admit(1, 2, 3)
    mesh.run(0.5)
    assert later.clock is None, "nor is it sent what it does not want"
    later.add_taker(Recorder())
    mesh.run(0.3)
    assert later.clock is not None


def test_tables_that_loop_cost_hops_and_end():
    mesh = Mesh(3, [(1, 2), (2, 3), (3, 1)])
    # Everybody thinks node 9 lies one further around the ring.
    mesh.routes(1, {1: {2: {9}}, 2: {3: {9}}, 3: {1: {9}}})
    mesh.run(1.0)
    publication = mesh.publish(1, 9)
    mesh.quiet()
    before = mesh.media()
    mesh.cores[1].forwarder.originate(video_of(publication), video_frame(publication, 1), mesh.now)
    mesh.run(1.0)
    dropped = sum(core.forwarder.dropped["hop_limit"] for core in mesh.cores.values())
    assert dropped == 1
    assert mesh.media() - before == HOP_LIMIT, "once by the ingress, and passed on until no hop is left"


def test_two_nodes_that_point_at_each_other_do_not_reflect():
    mesh = Mesh(2, [(1, 2)])
    mesh.routes(1, {1: {2: {9}}, 2: {1: {9}}})
    mesh.run(1.0)
    publication = mesh.publish(1, 9)
    mesh.quiet()
    mesh.cores[1].forwarder.originate(video_of(publication), video_frame(publication, 1), mesh.now)
    mesh.run(0.5)
    assert mesh.cores[2].forwarder.dropped == {"reflected": 1}


def test_a_payload_too_long_for_a_frame_is_dropped_and_counted():
    mesh = chain()
    publication = mesh.publish(1, 3)
    mesh.cores[1].forwarder.originate(
        video_of(publication), video_frame(publication, 1, payload=bytes(2600)), mesh.now
    )
    assert mesh.cores[1].forwarder.dropped == {"oversized": 1}


def test_packets_in_flight_over_a_change_of_generation_all_arrive_once():
    # 1–2–4 and 1–3–4; every 50 ms the plan moves from one to the other.
    mesh = Mesh(4, [(1, 2), (2, 4), (1, 3), (3, 4)])
    ways = (
        {1: {2: {2, 4}, 3: {3}}, 2: {4: {4}, 1: {1}}, 3: {1: {1}}, 4: {2: {1}}},
        {1: {3: {3, 4}, 2: {2}}, 3: {4: {4}, 1: {1}}, 2: {1: {1}}, 4: {3: {1}}},
    )
    mesh.routes(1, ways[0])
    mesh.run(1.0)
    publication = mesh.publish(1, 4)
    taker = mesh.listen(4, 1)
    for sequence in range(400):
        if sequence % 50 == 25:
            # Two phases: everybody holds it, then it is stamped.
            mesh.routes(2 + sequence // 50, ways[(1 + sequence // 50) % 2])
        mesh.cores[1].forwarder.originate(video_of(publication), video_frame(publication, sequence), mesh.now)
        mesh.run(0.001)
    mesh.run(0.1)
    assert sorted(f.sequence for f in taker.frames) == list(range(400))
    assert all(core.tables.unknown_generations == 0 for core in mesh.cores.values())


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 0x1F))
def test_whatever_an_authenticated_neighbour_says_nothing_escapes(body, kind):
    mesh = chain()
    mesh.cores[2].forwarder.handle_frame(1, FRAME.pack(kind, len(body)) + body, mesh.now)
    assert sum(mesh.cores[2].forwarder.dropped.values()) + mesh.cores[2].forwarder.forwarded >= 1


@pytest.mark.parametrize("flip", ["nothing", "byte", "cut", "grow", "replay", "version", "sender"])
def test_hostile_datagrams_change_nothing_but_a_counter(flip):
    mesh = chain()
    publication = mesh.publish(1, 3)
    mesh.quiet()
    mesh.cores[1].forwarder.originate(video_of(publication), video_frame(publication, 1), mesh.now)
    [(datagram, address)] = mesh.cores[1].poll_relay_datagrams()
    assert address == relay_address(2)
    target = mesh.cores[2]
    rng = random.Random(1)
    refused_before = sum(target.relay.refused.values())
    hostile = {
        "nothing": b"",
        "byte": datagram[:-1] + bytes([datagram[-1] ^ 1]),
        "cut": datagram[:20],
        "grow": datagram + bytes(2000),
        "replay": datagram,
        "version": bytes([0x71]) + datagram[1:],
        "sender": datagram[:2] + b"\x00\x63" + datagram[4:],
    }[flip]
    expected = {
        "nothing": "truncated",
        "byte": "unauthentic",
        "cut": "truncated",
        "grow": "oversized",
        "replay": "replayed",
        "version": "version",
        "sender": "unknown_sender",
    }[flip]
    if flip == "replay":
        target.handle_relay_datagram(datagram, mesh.now)
        target.poll_relay_datagrams()
    forwarded = target.forwarder.forwarded
    target.handle_relay_datagram(hostile, mesh.now)
    target.handle_relay_datagram(rng.randbytes(len(hostile)), mesh.now)
    assert target.relay.refused[expected] >= 1
    assert sum(target.relay.refused.values()) == refused_before + 2
    assert target.forwarder.forwarded == forwarded
    assert target.poll_relay_datagrams() == [], "nothing is answered"


def test_a_node_before_its_welcome_has_no_links_and_takes_nothing():
    core = make_core()
    core.handle_relay_datagram(bytes(100), 0.0)
    assert core.relay.refused == {"version": 1}


def test_neighbours_can_talk_reliably_and_what_nobody_takes_is_counted():
    mesh = chain()
    mesh.loss = 0.3
    heard = []
    mesh.cores[2].control_takers[4] = lambda peer, event, now: heard.append((peer, event))
    for number in range(20):
        assert mesh.cores[1].relay.send_control(2, 4, b"%d" % number, mesh.now)
        mesh.run(0.05)
    assert mesh.cores[1].relay.send_control(2, 5, b"nobody", mesh.now)
    assert not mesh.cores[1].relay.send_control(3, 4, b"no neighbour", mesh.now)
    mesh.run(3.0)
    assert heard == [(1, ControlMessage(4, b"%d" % number)) for number in range(20)]
    assert mesh.cores[2].outbox.refused["Control"] == 1
