"""A node's core by itself: what the controller says and what it is told, without sockets."""

from __future__ import annotations

import msgspec
import pytest

from relaymesh.node.core import NodeCore
from relaymesh.node.events import PublishAnswered, SessionEnded
from relaymesh.node.publications import LocalPublication
from relaymesh.protocol.bitstring import encode_set
from relaymesh.protocol.messages import (
    CONTROL_VERSION,
    MAX_MESSAGE_BYTES,
    Address,
    Forward,
    Join,
    LinkConfig,
    Links,
    ParticipantName,
    PublicationInfo,
    Publish,
    PublishReply,
    Subscribe,
    SubscribeReply,
    TrackInfo,
    Unpublish,
    Unsubscribe,
    Welcome,
    encode_message,
)
from tests.node.browser import offer_text
from tests.node.mesh import AUDIO, NAME, VIDEO, Mesh, make_core

WELCOME = Welcome(1, 100.0, 600.0, 1000.0)
BOB = ParticipantName("room", "bob")
REMOTE = PublicationInfo(BOB.room, BOB.participant, (VIDEO, AUDIO))


def publish(core: NodeCore, name: ParticipantName = NAME, now: float = 0.0):
    session, _ = core.publish(name, offer_text("chromium-whip"), ("VP8",), now)
    return session


def said(core: NodeCore) -> list[object]:
    kinds = Publish | Unpublish | Subscribe | Unsubscribe
    return [message for message in core.poll_messages() if isinstance(message, kinds)]


@pytest.mark.parametrize("host", ["relay.example", "fe80::1%eth0", "fe80::1%\0", ""])
def test_a_neighbour_without_a_literal_address_is_refused(host: str) -> None:
    mesh = Mesh(1, [])
    core = mesh.cores[1]
    core.handle_message(Links(set=(LinkConfig(2, "n2", Address(host, 7500), 0, b"a" * 16, b"b" * 16),)), 0.0)
    assert core.relay.neighbours() == []
    assert core.outbox.refused["Links"] == 1


def test_what_changed_between_the_join_and_its_welcome_is_said_after_it() -> None:
    core = make_core()
    core.handle_message(WELCOME, 0.0)
    before = publish(core)
    core.handle_message(SubscribeReply(1, REMOTE, 7), 0.0)
    core.handle_disconnected()
    join = core.join_state()
    assert [info.participant for info in join["published"]] == [NAME.participant]
    assert join["subscribed"] == (BOB,)
    core.end_session(before, "the client left", 1.0)
    after = publish(core, ParticipantName("room", "carol"), 1.0)
    for now in (2.0, 8.0):
        core.handle_timeout(now)  # nobody plays what Bob publishes: it is given back
    core.poll_messages()  # there is no channel that would take them
    core.handle_message(WELCOME, 9.0)
    assert said(core) == [Unpublish(NAME), Unsubscribe(BOB), Publish(1, after.publication.info())]
    core.handle_message(WELCOME, 10.0)
    assert said(core) == []


def test_what_the_join_has_said_is_not_said_again() -> None:
    core = make_core()
    publish(core)
    core.join_state()
    core.poll_messages()
    core.handle_message(WELCOME, 1.0)
    assert said(core) == []


def test_a_join_fits_one_message_and_the_rest_is_said_after_the_welcome() -> None:
    core = make_core()
    core.handle_message(WELCOME, 0.0)
    track = TrackInfo(60_000, "video", "V" * 32, 1_000_000, 255, "x" * 512)
    for k in range(400):
        name = f"{k:064}"
        published = LocalPublication(ParticipantName(name, name))
        published.set_tracks(tuple(msgspec.structs.replace(track, track=60_000 + n) for n in range(8)))
        core.publications.add(published)
        core.handle_message(SubscribeReply(k, PublicationInfo("room", name, (VIDEO,)), 7), 0.0)
    core.handle_disconnected()
    state = core.join_state()
    join = Join(
        CONTROL_VERSION, "n" * 64, "r" * 64, "t" * 4096, "b" * 64, Address("::1", 1), "u" * 512, **state
    )
    assert len(encode_message(join)) <= MAX_MESSAGE_BYTES
    assert len(join.published) > 100
    core.handle_message(WELCOME, 1.0)
    after = said(core)
    assert len(join.published) + sum(isinstance(m, Publish) for m in after) == 400
    assert len(join.subscribed) + sum(isinstance(m, Subscribe) for m in after) == 400


def test_a_refusal_ends_the_publisher_however_late_it_comes() -> None:
    core = make_core()
    core.handle_message(WELCOME, 0.0)
    session = publish(core)
    request = core.directory.announce(session.publication)
    core.handle_message(PublishReply(request, "alice is published at n2"), 30.0)
    assert core.edge.get(session.id) is None
    assert [type(event) for event in core.poll_events()] == [SessionEnded, PublishAnswered]
    assert said(core)[1:] == [], "it is not ours to end in the mesh"


def test_an_answer_about_an_earlier_publisher_does_not_end_its_successor() -> None:
    core = make_core()
    core.handle_message(WELCOME, 0.0)
    first = publish(core)
    request = core.directory.announce(first.publication)
    core.end_session(first, "the client left", 1.0)
    second = publish(core, now=2.0)
    core.handle_message(PublishReply(request, "no"), 3.0)
    assert core.edge.get(second.id) is second


def test_a_replaced_publisher_keeps_its_edges() -> None:
    core = make_core()
    core.handle_message(WELCOME, 0.0)
    publish(core)
    core.handle_message(Forward(NAME, encode_set(1 << 5)), 0.0)
    second = publish(core, now=20.0)
    assert second.publication.demand.admitted == 1 << 5
    assert said(core) == [], "the announcement of the new one follows; the publication did not end"


def test_a_bug_in_one_session_does_not_stop_the_others_time(monkeypatch) -> None:
    core = make_core()
    broken, healthy = publish(core), publish(core, BOB)

    def fail(now: float) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(broken, "next_timeout", lambda: 0.0)
    monkeypatch.setattr(broken, "handle_timeout", fail)
    with pytest.raises(RuntimeError):
        core.handle_timeout(20.0)
    assert healthy.closed == "handshake timeout"
    core.handle_timeout(20.1)
    assert len(core.edge) == 0
    core.handle_timeout(20.2)


def test_the_status_does_not_let_anybody_end_a_session() -> None:
    core = make_core()
    session = publish(core)
    assert session.id not in str(core.debug_state())
    assert session.id[:8] in str(core.debug_state())
