from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.directory import Directory, Told
from relaymesh.protocol.bitstring import decode_set, members
from relaymesh.protocol.messages import (
    Close,
    Forward,
    ParticipantName,
    PublicationEnded,
    PublicationInfo,
    PublicationMoved,
    Publish,
    PublishReply,
    Subscribe,
    SubscribeReply,
    TrackInfo,
)

VIDEO = TrackInfo(0, "video", "VP8", 90_000)
AUDIO = TrackInfo(1, "audio", "opus", 48_000, 2)
ALICE = PublicationInfo("demo", "alice", (VIDEO, AUDIO))
ALICE_NAME = ParticipantName("demo", "alice")


class Mesh:
    """A directory, and who is alive in it."""

    def __init__(self, **limits: int) -> None:
        self.alive = set(range(10))
        self.rooms = Directory(
            lambda index: index in self.alive, lambda index: f"n{index}", wait_s=10.0, **limits
        )

    def publish(self, index: int, stream: PublicationInfo = ALICE, now: float = 0.0) -> Told:
        return self.rooms.handle_publish(index, Publish(7, stream), now)

    def subscribe(self, index: int, name: ParticipantName = ALICE_NAME) -> Told:
        return self.rooms.handle_subscribe(index, Subscribe(8, name))

    def announce(
        self,
        index: int,
        published: tuple[PublicationInfo, ...] = (),
        subscribed: tuple[ParticipantName, ...] = (),
        absent_since: float | None = None,
        now: float = 0.0,
    ) -> Told:
        return self.rooms.handle_announce(index, published, subscribed, absent_since=absent_since, now=now)


def forwards(told: Told) -> list[tuple[int, list[int]]]:
    """(ingress, the edges it is told)."""
    return [(to, members(decode_set(m.edges))) for to, m in told if isinstance(m, Forward)]


def reason(told: Told) -> str:
    (answer,) = [message for _, message in told if isinstance(message, PublishReply)]
    return answer.reason


def test_one_forward_command_per_edge_that_comes_or_goes() -> None:
    mesh = Mesh()
    assert reason(mesh.publish(0)) == ""
    told = mesh.subscribe(2)
    assert told[0] == (2, SubscribeReply(8, ALICE, 0))
    assert forwards(told) == [(0, [2])]
    assert forwards(mesh.subscribe(2)) == []  # a second player at the same edge
    assert forwards(mesh.subscribe(1)) == [(0, [1, 2])]
    assert forwards(mesh.rooms.handle_unsubscribe(2, ALICE_NAME)) == [(0, [1])]
    assert mesh.rooms.handle_unsubscribe(2, ALICE_NAME) == []


def test_a_player_at_the_ingress_itself_causes_no_forward() -> None:
    mesh = Mesh()
    mesh.publish(0)
    assert mesh.subscribe(0) == [(0, SubscribeReply(8, ALICE, 0))]
    assert forwards(mesh.subscribe(1)) == [(0, [1])]
    assert mesh.rooms.handle_unsubscribe(0, ALICE_NAME) == []


def test_what_nobody_publishes_is_not_there() -> None:
    mesh = Mesh()
    assert mesh.subscribe(1) == [(1, SubscribeReply(8))]
    mesh.publish(0)
    mesh.rooms.handle_unpublish(0, ALICE_NAME)
    assert mesh.subscribe(1) == [(1, SubscribeReply(8))]
    assert mesh.rooms.publications() == {}


def test_the_end_of_a_publication_is_told_to_its_edges_once() -> None:
    mesh = Mesh()
    mesh.publish(0)
    mesh.subscribe(1)
    mesh.subscribe(2)
    assert mesh.rooms.handle_unpublish(1, ALICE_NAME) == []  # not its stream
    ended = PublicationEnded(ALICE_NAME)
    assert mesh.rooms.handle_unpublish(0, ALICE_NAME) == [(1, ended), (2, ended)]
    assert mesh.rooms.handle_unpublish(0, ALICE_NAME) == []


def test_a_live_publication_cannot_be_published_elsewhere() -> None:
    mesh = Mesh()
    mesh.publish(0)
    mesh.subscribe(2)
    told = mesh.publish(1)
    assert told == [(1, PublishReply(7, "it is published at n0"))]
    assert mesh.rooms.publications()["demo", "alice"].ingress == 0


def test_a_publisher_may_enter_elsewhere_once_its_ingress_is_dead() -> None:
    mesh = Mesh()
    mesh.publish(0)
    mesh.subscribe(2)
    mesh.alive.discard(0)
    assert mesh.subscribe(3) == [(3, SubscribeReply(8))]  # nothing would come
    told = mesh.publish(1, now=3.0)
    assert reason(told) == "" and (2, PublicationMoved(ALICE, 1)) in told
    assert forwards(told) == [(1, [2])]
    assert mesh.rooms.handle_gone(0) == []
    # The dead one was not quite dead: it is told to let go.
    mesh.alive.add(0)
    told = mesh.announce(0, (ALICE,), absent_since=1.0, now=5.0)
    assert told == [(0, Close(ALICE_NAME, "it is published at n1"))]


def test_publishing_again_at_the_same_node_is_a_new_entry() -> None:
    mesh = Mesh()
    mesh.publish(0)
    mesh.subscribe(2)
    changed = PublicationInfo("demo", "alice", (AUDIO,))
    told = mesh.publish(0, changed)
    assert reason(told) == "" and (2, PublicationMoved(changed, 0)) in told and forwards(told) == [(0, [2])]


def test_who_is_gone_for_good_publishes_and_wants_nothing() -> None:
    mesh = Mesh()
    mesh.publish(0)
    bob = PublicationInfo("demo", "bob", (VIDEO,))
    mesh.publish(1, bob)
    mesh.subscribe(1)
    mesh.subscribe(0, ParticipantName("demo", "bob"))
    told = mesh.rooms.handle_gone(0)
    assert told == [(1, PublicationEnded(ALICE_NAME)), (1, Forward(ParticipantName("demo", "bob"), b""))]


def test_a_restarted_ingress_gives_its_publishers_time_to_come_back() -> None:
    mesh = Mesh()
    mesh.publish(0)
    mesh.subscribe(2)
    assert mesh.announce(0, absent_since=1.0, now=2.0) == []
    assert mesh.rooms.next_timeout() == 12.0
    told = mesh.publish(0, now=5.0)
    assert (2, PublicationMoved(ALICE, 0)) in told
    assert mesh.rooms.handle_timeout(12.0) == [] and mesh.rooms.next_timeout() is None


def test_players_whose_publisher_does_not_come_back_are_ended() -> None:
    mesh = Mesh()
    mesh.publish(0)
    mesh.subscribe(2)
    mesh.announce(0, absent_since=1.0, now=2.0)
    assert mesh.rooms.handle_timeout(11.9) == []
    assert mesh.rooms.handle_timeout(12.0) == [(2, PublicationEnded(ALICE_NAME))]
    assert mesh.rooms.debug_state()["publications"] == 0


def test_coming_back_after_a_control_outage_brings_both_sides_up_to_date() -> None:
    mesh = Mesh()
    mesh.publish(0, now=0.0)
    mesh.subscribe(2)
    mesh.subscribe(3)
    assert forwards(mesh.announce(0, (ALICE,), absent_since=5.0, now=6.0)) == [(0, [2, 3])]
    assert mesh.announce(2, (), (ALICE_NAME,), absent_since=5.0, now=6.0) == []
    # An edge whose players left meanwhile, and one that missed that the stream entered anew.
    assert forwards(mesh.announce(3, absent_since=5.0, now=6.0)) == [(0, [2])]
    mesh.publish(0, now=8.0)
    told = mesh.announce(2, (), (ALICE_NAME,), absent_since=7.0, now=9.0)
    assert told == [(2, PublicationMoved(ALICE, 0))]


def test_after_a_restart_of_the_controller_nothing_is_stopped_before_all_had_time_to_announce() -> None:
    mesh = Mesh()
    mesh.rooms.hold()
    assert mesh.announce(0, (ALICE,)) == []  # no Forward with an empty set
    assert mesh.announce(2, (), (ALICE_NAME,)) == [(2, PublicationMoved(ALICE, 0))]
    assert forwards(mesh.rooms.release()) == [(0, [2])]
    assert mesh.rooms.release() == []
    assert forwards(mesh.subscribe(1)) == [(0, [1, 2])]


def test_a_player_announced_before_its_publisher_waits_for_it() -> None:
    mesh = Mesh()
    assert mesh.announce(2, (), (ALICE_NAME,), now=0.0) == []
    told = mesh.announce(0, (ALICE,), now=1.0)
    assert told == [(2, PublicationMoved(ALICE, 0)), (0, Forward(ALICE_NAME, b"\x04"))]
    mesh.announce(3, (), (ParticipantName("demo", "ghost"),), now=2.0)
    assert mesh.rooms.handle_timeout(12.0) == [(3, PublicationEnded(ParticipantName("demo", "ghost")))]


def test_everything_is_bounded() -> None:
    mesh = Mesh(max_publications=2, max_per_node=1)
    mesh.publish(0)
    bob, eve = PublicationInfo("demo", "bob", (VIDEO,)), PublicationInfo("demo", "eve", (VIDEO,))
    assert "as many publications as it may" in reason(mesh.publish(0, bob))
    mesh.publish(1, bob)
    assert "the mesh carries" in reason(mesh.publish(2, eve))
    mesh.subscribe(3)
    assert mesh.subscribe(3, ParticipantName("demo", "bob")) == [(3, SubscribeReply(8))]
    assert mesh.announce(4, (), (ParticipantName("demo", "x"),)) == [
        (4, PublicationEnded(ParticipantName("demo", "x")))
    ]


def test_tracks_need_numbers_of_their_own() -> None:
    mesh = Mesh()
    twice = PublicationInfo("demo", "alice", (VIDEO, VIDEO))
    assert "same number" in reason(mesh.publish(0, twice))
    assert mesh.announce(0, (twice,)) == [(0, Close(ALICE_NAME, "two tracks have the same number"))]


actions = st.lists(
    st.tuples(
        st.sampled_from(
            ["publish", "unpublish", "subscribe", "unsubscribe", "die", "gone", "announce", "time"]
        ),
        st.integers(0, 3),
        st.sampled_from(["alice", "bob"]),
    ),
    max_size=40,
)


@given(actions)
def test_whatever_happens_the_ingress_knows_the_edges_that_want_it(
    steps: list[tuple[str, int, str]],
) -> None:
    """A model beside the directory: what each live ingress was last told, and who wants what."""
    mesh = Mesh()
    told_edges: dict[tuple[int, str], int] = {}
    now = 0.0
    for action, index, participant in steps:
        now += 1.0
        name, info = ParticipantName("demo", participant), PublicationInfo("demo", participant, (VIDEO,))
        if action in ("publish", "announce", "subscribe"):
            mesh.alive.add(index)
        told: Told = []
        if action == "publish":
            told = mesh.publish(index, info, now)
        elif action == "unpublish":
            told = mesh.rooms.handle_unpublish(index, name)
        elif action == "subscribe":
            told = mesh.subscribe(index, name)
        elif action == "unsubscribe":
            told = mesh.rooms.handle_unsubscribe(index, name)
        elif action == "die":
            mesh.alive.discard(index)
        elif action == "gone":
            mesh.alive.discard(index)
            told = mesh.rooms.handle_gone(index)
        elif action == "announce":
            told = mesh.announce(index, (info,), (name,), absent_since=now - 1, now=now)
        else:
            told = mesh.rooms.handle_timeout(now)
        for to, message in told:
            if isinstance(message, Forward):
                told_edges[to, message.participant.participant] = decode_set(message.edges)
            elif isinstance(message, PublishReply) and not message.reason:
                told_edges[to, participant] = 0
        for (_, key_participant), stream in mesh.rooms.publications().items():
            assert stream.ingress is not None
            remote = stream.edges & ~(1 << stream.ingress)
            assert told_edges[stream.ingress, key_participant] == remote


def test_the_debug_state_counts() -> None:
    mesh = Mesh()
    mesh.publish(0)
    mesh.subscribe(1)
    state = mesh.rooms.debug_state()
    assert state["published_per_node"] == {0: 1} and state["wanted_per_node"] == {1: 1}


def test_the_edges_of_hitless_tracks_are_told_by_ingress() -> None:
    mesh = Mesh()
    marked = PublicationInfo("demo", "bob", (TrackInfo(1, "audio", "opus", 48_000, 2, hitless=True),))
    mesh.publish(0, marked)
    mesh.publish(0, ALICE)
    mesh.subscribe(1)
    assert mesh.rooms.poll_changed() == set()
    assert mesh.rooms.hitless_edges(0) == 0
    mesh.subscribe(2, ParticipantName("demo", "bob"))
    mesh.subscribe(0, ParticipantName("demo", "bob"))
    assert mesh.rooms.poll_changed() == {0}
    assert mesh.rooms.poll_changed() == set()
    assert mesh.rooms.hitless_edges(0) == 1 << 2
    mesh.rooms.handle_unsubscribe(2, ParticipantName("demo", "bob"))
    assert mesh.rooms.poll_changed() == {0}
    assert mesh.rooms.hitless_edges(0) == 0
    assert mesh.rooms.hitless_edges(7) == 0
