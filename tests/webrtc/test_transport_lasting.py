"""A session that lasts: either DTLS role over bad links, ICE restarts, consent, and a client that moves."""

import pytest

from relaymesh.webrtc import rtcp
from relaymesh.webrtc.errors import SrtpError
from relaymesh.webrtc.ice import OLD_CREDENTIALS, SILENCE
from relaymesh.webrtc.transport import (
    CONSENT_LIMIT,
    HANDSHAKE_LIMIT,
    AddressChanged,
    Closed,
    Connected,
    make_credentials,
)
from tests.lossy_link import Conditions, Pair
from tests.webrtc.peers import (
    AWAY,
    HOME,
    RTCP,
    RTP,
    SERVER_CERTIFICATE,
    STRANGER,
    Client,
    ClientOnLink,
    ServerOnLink,
    connected,
    give,
    make_transport,
    talk,
)

NEW = make_credentials(bytes(range(24, 48)), prefix="n7+")
NEWER = make_credentials(bytes(range(48, 72)), prefix="n7+")


def linked(*, role="client", publisher=True, seed=1, **conditions):
    """Client and node on a link, *role* being the client's part in the handshake."""
    client = ClientOnLink(role, publisher=publisher)
    ours = "server" if role == "client" else "client"
    server = ServerOnLink(make_transport(role=ours))
    link = Conditions(**conditions)
    return client, server, Pair(client, server, forth=link, back=link, seed=seed)


# --- the client's role in DTLS (a=setup:passive) ----------------------------------------------------


def test_the_hello_waits_for_the_first_valid_check():
    transport, client = make_transport(role="client"), Client(role="server")
    assert transport.poll_datagrams() == []
    assert transport.next_timeout() == pytest.approx(HANDSHAKE_LIMIT)  # nothing to send again either
    assert not give(transport, client.check(password="x" * 24), STRANGER)
    assert transport.poll_datagrams() == []
    assert give(transport, client.check(), HOME, 1.0)
    (reply, to), (hello, hello_to) = transport.poll_datagrams()
    assert (reply[0], hello[0], to, hello_to) == (1, 22, HOME, HOME)
    assert transport.next_timeout() == pytest.approx(1.1)
    give(transport, client.check(), HOME, 1.05)
    assert len(transport.poll_datagrams()) == 1  # one hello is enough until its time comes


def test_media_both_ways_in_the_clients_role():
    transport, client = connected(role="server")
    assert transport.unprotect_rtp(client.sender().protect_rtp(RTP)) == RTP
    transport.send_rtp(RTP)
    ((media, _),) = transport.poll_datagrams()
    assert client.receiver().unprotect_rtp(media) == RTP
    assert transport.debug_state()["dtls"]["role"] == "client"


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(15))
def test_the_clients_role_over_a_bad_network(seed, loss):
    client, server, pair = linked(role="server", delay=0.03, jitter=0.02, loss=loss, reorder=0.05, seed=seed)
    assert pair.run_until(lambda: bool(pair.received[server]), 12.0, max_steps=10_000)
    server.transport.send_rtp(RTP)
    pair.run(1.0)
    assert server.transport.poll_events() == [AddressChanged(HOME, None), Connected()]
    assert client.dtls.state == "connected"


@pytest.mark.parametrize("lost", range(4))
@pytest.mark.parametrize("direction", ["forth", "back"])
def test_each_flight_of_the_handshake_may_be_lost(direction, lost):
    """Everything one way is lost for 300 ms from the n-th 50 ms on: hello, certificates, the end."""
    _, server, pair = linked(role="server", delay=0.025)
    way = getattr(pair, direction)
    pair.at(0.05 * lost, lambda: setattr(way, "loss", 1.0))
    pair.at(0.05 * lost + 0.3, lambda: setattr(way, "loss", 0.0))
    assert pair.run_until(lambda: bool(pair.received[server]), 3.0)
    assert server.transport.connected


def test_another_certificate_than_promised_in_the_clients_role():
    transport = make_transport(role="client", fingerprints=[("sha-256", SERVER_CERTIFICATE.fingerprint)])
    client = Client(role="server")
    give(transport, client.check(), HOME)
    talk(transport, client)
    _, closed = transport.poll_events()
    assert isinstance(closed, Closed) and "fingerprint" in closed.reason
    assert not transport.connected


def test_a_client_that_never_answers_our_hello():
    transport, client = make_transport(role="client"), Client(role="server")
    give(transport, client.check(), HOME, 1.0)
    for _ in range(100):
        transport.handle_timeout(transport.next_timeout())
        if transport.closed:
            break
    assert transport.poll_events()[-1] == Closed("handshake timeout")
    assert 5 < len(transport.poll_datagrams()) < 40


# --- ICE restart ------------------------------------------------------------------------------------


def test_a_restart_leaves_media_and_the_old_credentials_until_the_first_new_check():
    transport, client = connected()
    old = client.credentials
    transport.restart_ice(NEW, 1.0)
    assert transport.credentials == NEW
    assert transport.ufrags == (NEW.ufrag, old.ufrag)
    assert give(transport, client.check(), HOME, 1.5)  # still under the old ones
    client.take(transport.poll_datagrams()[0][0], 1.5)
    transport.send_rtp(RTP)
    assert transport.unprotect_rtp(client.sender().protect_rtp(RTP), HOME, 1.6) == RTP
    assert [to for _, to in transport.poll_datagrams()] == [HOME]

    client.credentials = NEW
    assert give(transport, client.check(), AWAY, 2.0)
    (reply, _), *_ = transport.poll_datagrams()
    client.take(reply, 2.0)  # signed with the new password
    assert client.replies[-1] == AWAY
    assert transport.ufrags == (NEW.ufrag,)
    assert transport.address == AWAY
    assert not give(transport, client.check(ufrag=old.ufrag, password=old.password), HOME, 2.1)
    assert transport.poll_events() == [AddressChanged(AWAY, HOME)]


def test_a_restart_without_nomination_moves_nothing():
    transport, client = connected()
    transport.restart_ice(NEW, 1.0)
    client.credentials = NEW
    assert give(transport, client.check(nominate=False), AWAY, 1.1)
    assert transport.address == HOME


def test_the_old_credentials_end_after_a_while():
    transport, client = connected()
    transport.unprotect_rtcp(client.sender().protect_rtcp(RTCP))
    transport.restart_ice(NEW, 1.0)
    assert transport.next_timeout() == pytest.approx(1.0 + OLD_CREDENTIALS)
    transport.handle_timeout(1.0 + OLD_CREDENTIALS)
    assert transport.ufrags == (NEW.ufrag,)
    assert not give(transport, client.check(), HOME, 12.0)


def test_of_two_restarts_the_first_and_the_last_credentials_count():
    transport, client = connected()
    old = client.credentials
    transport.restart_ice(NEW, 1.0)
    transport.restart_ice(NEWER, 2.0)
    assert transport.ufrags == (NEWER.ufrag, old.ufrag)
    assert not give(transport, client.check(ufrag=NEW.ufrag, password=NEW.password), HOME, 2.5)
    assert give(transport, client.check(), HOME, 3.0)
    client.credentials = NEWER
    assert give(transport, client.check(), HOME, 3.5)
    assert transport.ufrags == (NEWER.ufrag,)


def test_passwords_do_not_cross_over():
    transport, client = connected()
    transport.restart_ice(NEW, 1.0)
    assert not give(transport, client.check(ufrag=NEW.ufrag), STRANGER, 1.1)
    assert not give(transport, client.check(password=NEW.password), STRANGER, 1.1)
    assert len(transport.ufrags) == 2


@pytest.mark.parametrize("seed", range(5))
def test_media_flows_through_a_restart_over_a_bad_network(seed):
    client, server, pair = linked(delay=0.03, jitter=0.02, loss=0.1, seed=seed)
    pair.run(3.0)
    server.transport.restart_ice(NEW, pair.now)
    before = len(pair.received[server])

    def restart():
        client.credentials, client.replies = NEW, []

    pair.at(pair.now + 0.5, restart)  # the answer is on its way
    pair.run(3.0)
    assert len(pair.received[server]) - before > 100  # of 150
    assert server.transport.ufrags == (NEW.ufrag,)
    assert server.transport.poll_events() == [AddressChanged(HOME, None), Connected()]


# --- consent and signs of life (RFC 7675) -----------------------------------------------------------


def test_a_publisher_that_stops_checking_is_heard_but_sent_no_media():
    client, server, pair = linked()
    transport = server.transport
    client.checks_until = 2.0
    pair.run(25.0)
    assert transport.consented
    pair.run(2 * CONSENT_LIMIT)
    assert transport.connected
    assert not transport.consented
    assert len(pair.received[server]) > 3000
    pair.received[client].clear()
    transport.send_rtp(RTP)
    transport.send_rtcp(RTCP)
    pair.run(0.1)
    assert pair.received[client] == [RTCP]  # what the publisher's media needs goes on
    assert transport.dropped == 1
    client.checks_until = 1000.0
    pair.run(1.5)
    assert transport.consented
    transport.send_rtp(RTP)
    pair.run(0.1)
    assert pair.received[client][-1] == RTP


def test_a_publisher_that_stops_all_is_cut():
    client, server, pair = linked()
    client.checks_until = 2.0
    pair.run(40.0)
    client.publisher = False  # its reports still tell that it is there
    pair.run(40.0)
    assert server.transport.connected
    pair.asleep.add(client)
    pair.run(CONSENT_LIMIT - 1.0)
    assert server.transport.connected
    pair.run(2.0)
    assert server.transport.poll_events()[-1] == Closed("consent expired")


def test_a_player_that_stops_checking_is_cut_whatever_it_reports():
    client, server, pair = linked(publisher=False)
    client.checks_until = 2.0
    pair.run(31.0)
    assert server.transport.connected
    pair.run(1.5)
    assert server.transport.poll_events()[-1] == Closed("consent expired")
    assert pair.now < 35.0


def test_forged_and_replayed_packets_are_no_sign_of_life():
    transport, client = connected()
    packet = client.sender().protect_rtp(RTP)
    transport.unprotect_rtp(packet, HOME, 1.0)
    for when in (10.0, 20.0, 30.0):
        with pytest.raises(SrtpError):
            transport.unprotect_rtp(packet, HOME, when)
        with pytest.raises(SrtpError):
            transport.unprotect_rtp(packet[:-1] + bytes([packet[-1] ^ 1]), HOME, when)
    while not transport.closed:
        transport.handle_timeout(transport.next_timeout())
    assert transport.poll_events() == [Closed("consent expired")]


def test_a_session_ends_with_close_notify_and_a_bye_can_be_read():
    client, server, pair = linked(role="server")
    pair.run(1.0)
    pair.at(
        1.1,
        lambda: client._due.append(
            client.sender().protect_rtcp(rtcp.build_receiver_report(1, []) + rtcp.build_bye([1]))
        ),
    )
    pair.run(0.5)
    *_, compound = (data for data in pair.received[server] if data[1] == rtcp.RECEIVER_REPORT)
    assert rtcp.parse_rtcp(compound)[-1] == rtcp.Bye((1,))
    assert server.transport.connected  # what a BYE means is for the session to say
    client.dtls.close(pair.now)
    pair.run(0.1)
    assert server.transport.poll_events()[-1] == Closed("closed by the peer")


# --- a client that moves ----------------------------------------------------------------------------


@pytest.mark.parametrize("publisher", [True, False])
def test_a_new_port_behind_a_nat_is_followed_without_nomination(publisher):
    client, server, pair = linked(publisher=publisher)
    pair.run(3.0)
    server.source, client.nominates = AWAY, False
    moved_at = pair.now
    assert pair.run_until(lambda: server.transport.address == AWAY, 10.0)
    assert SILENCE - 1.0 <= pair.now - moved_at <= SILENCE + 2.0
    pair.received[client].clear()
    server.transport.send_rtp(RTP)
    pair.run(0.1)
    assert pair.received[client] == [RTP]
    assert server.transport.poll_events()[-1] == AddressChanged(AWAY, HOME)
    assert server.transport.debug_state()["followed"] == 1


def test_a_spare_pair_is_not_followed_while_the_chosen_one_speaks():
    client, server, pair = linked()
    pair.run(3.0)
    for _ in range(40):
        pair.run(0.5)
        give(server.transport, client.check(nominate=False), AWAY, pair.now)
    assert server.transport.address == HOME


def test_one_late_check_of_a_spare_pair_is_not_followed():
    transport, client = connected()
    give(transport, client.check(nominate=False), AWAY, 2.4)
    assert transport.address == HOME
    give(transport, client.check(), HOME, 2.5)
    give(transport, client.check(nominate=False), AWAY, 4.9)
    assert transport.address == HOME


def test_media_alone_makes_us_follow_if_it_comes_from_a_checked_address():
    transport, client = connected()
    sender = client.sender()

    def media(number, address, now):
        packet = sender.protect_rtp(RTP[:2] + number.to_bytes(2, "big") + RTP[4:])
        transport.unprotect_rtp(packet, address, now)

    give(transport, client.check(nominate=False), AWAY, 0.5)
    media(1, HOME, 1.0)
    for number in range(2, 22):
        media(number, STRANGER, 1.0 + number)  # never checked: nobody says it can receive
    assert transport.address == HOME
    media(22, AWAY, 22.1)
    media(23, AWAY, 22.2)
    assert transport.address == AWAY
    assert transport.poll_events() == [AddressChanged(AWAY, HOME)]


def test_what_is_not_authentic_is_never_followed():
    transport, client = connected()
    packet = client.sender().protect_rtp(RTP)
    transport.unprotect_rtp(packet, HOME, 0.5)
    give(transport, client.check(nominate=False), AWAY, 0.6)
    for step in range(10):
        now = 3.0 + step
        assert not give(transport, client.check(password="x" * 24), AWAY, now)
        for forged in (packet, packet[:-1] + b"\0"):
            with pytest.raises(SrtpError):
                transport.unprotect_rtp(forged, AWAY, now)
        give(transport, b"\x16" + bytes(30), AWAY, now)
    assert transport.address == HOME
    assert transport.poll_events() == []


def test_a_dual_stack_client_is_answered_on_each_address_and_sent_to_on_the_nominated_one():
    transport, client = make_transport(), Client()
    for address in (AWAY, HOME, ("::ffff:192.0.2.9", 5)):
        give(transport, client.check(nominate=False), address)
        (reply, to), *_ = transport.poll_datagrams()
        client.take(reply, 0.0)
        assert to == address
    assert client.replies == [AWAY, HOME, ("192.0.2.9", 5)]
    give(transport, client.check(), HOME)
    talk(transport, client)
    transport.send_rtp(RTP)
    assert [to for _, to in transport.poll_datagrams()] == [HOME]
    assert transport.poll_events() == [AddressChanged(AWAY, None), AddressChanged(HOME, AWAY), Connected()]
