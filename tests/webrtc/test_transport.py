"""A session's transport against a client made of our own parts: checks, handshake, media, endings."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.webrtc.errors import SrtpError, StunError
from relaymesh.webrtc.stun import parse_binding_request
from relaymesh.webrtc.transport import (
    MAX_ADDRESSES,
    AddressChanged,
    Closed,
    Connected,
    IceCredentials,
    make_credentials,
)
from tests.lossy_link import Conditions, Pair
from tests.webrtc.peers import (
    AWAY,
    CREDENTIALS,
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


def test_a_session_from_the_first_check_to_media_both_ways():
    transport, client = connected()
    assert client.replies == [HOME]
    assert transport.unprotect_rtp(client.sender().protect_rtp(RTP)) == RTP
    assert transport.unprotect_rtcp(client.sender().protect_rtcp(RTCP)) == RTCP
    transport.send_rtp(RTP)
    transport.send_rtcp(RTCP)
    (media, media_to), (report, report_to) = transport.poll_datagrams()
    assert media_to == report_to == HOME
    assert client.receiver().unprotect_rtp(media) == RTP
    assert client.receiver().unprotect_rtcp(report) == RTCP
    assert transport.poll_datagrams() == []
    assert transport.debug_state()["connected"]
    assert CREDENTIALS.password not in repr(transport.debug_state()) + repr(CREDENTIALS)


@pytest.mark.parametrize("seed", range(20))
def test_a_session_over_a_bad_network(seed):
    rough = Conditions(delay=0.03, jitter=0.02, loss=0.2, reorder=0.05)
    client, server = ClientOnLink(), ServerOnLink(make_transport())
    pair = Pair(client, server, forth=rough, back=rough, seed=seed)
    assert pair.run_until(lambda: bool(pair.received[server]), 10.0, max_steps=5000)
    server.transport.send_rtp(RTP)
    pair.run(1.0)
    assert server.transport.connected
    assert server.transport.debug_state()["peer_ready"]
    assert len(pair.received[server]) > 20
    assert server.transport.poll_events() == [AddressChanged(HOME, None), Connected()]


def test_the_final_flight_stops_with_the_first_media():
    transport, client = connected()
    assert transport.next_timeout() == pytest.approx(0.1)
    transport.unprotect_rtcp(client.sender().protect_rtcp(RTCP))
    assert transport.next_timeout() == pytest.approx(30.0)


@pytest.mark.parametrize("forgery", [{"password": "x" * 24}, {"ufrag": "somebody"}])
def test_a_forged_check_changes_nothing(forgery):
    transport, client = connected()
    assert not give(transport, client.check(**forgery), STRANGER, 20.0)
    assert transport.poll_datagrams() == []
    assert transport.poll_events() == []
    assert (transport.address, transport.addresses) == (HOME, {HOME})
    assert transport.debug_state()["forged_checks"] == 1
    transport.handle_timeout(30.0)  # nor did it count as a sign of life
    assert transport.closed


def test_the_address_moves_only_on_nomination():
    transport, client = connected()
    assert give(transport, client.check(nominate=False), AWAY)
    ((_, to),) = transport.poll_datagrams()
    assert to == AWAY  # a reply goes where its check came from
    assert transport.address == HOME
    assert transport.addresses == {HOME, AWAY}
    transport.send_rtp(RTP)
    assert [to for _, to in transport.poll_datagrams()] == [HOME]

    assert give(transport, client.check(nominate=True), AWAY)
    transport.poll_datagrams()
    transport.send_rtp(RTP)
    assert [to for _, to in transport.poll_datagrams()] == [AWAY]
    assert transport.poll_events() == [AddressChanged(AWAY, HOME)]
    assert give(transport, client.check(nominate=True), AWAY)
    assert transport.poll_events() == []


def test_the_first_valid_check_nominates():
    transport, client = make_transport(), Client()
    give(transport, client.check(nominate=False), AWAY)
    assert transport.address == AWAY


def test_addresses_are_bounded_and_the_one_in_use_stays():
    transport, client = connected()
    for port in range(100):
        give(transport, client.check(nominate=False), ("198.51.100.1", port))
        transport.poll_datagrams()
    assert len(transport.addresses) == MAX_ADDRESSES
    assert HOME in transport.addresses
    assert ("198.51.100.1", 99) in transport.addresses


def test_dtls_from_an_unknown_address_is_ignored():
    transport, client = make_transport(), Client()
    (hello,) = client.dtls.poll_datagrams()
    give(transport, hello, HOME)
    assert transport.poll_datagrams() == []
    give(transport, client.check(), HOME)
    transport.poll_datagrams()
    give(transport, hello, STRANGER)
    assert transport.poll_datagrams() == []
    give(transport, hello, HOME)
    assert transport.poll_datagrams() != []


def test_media_before_the_handshake():
    transport, client = make_transport(), Client()
    with pytest.raises(SrtpError, match="not connected"):
        transport.unprotect_rtp(RTP)
    with pytest.raises(SrtpError, match="not connected"):
        transport.unprotect_rtcp(RTCP)
    give(transport, client.check(), HOME)
    transport.poll_datagrams()
    transport.send_rtp(RTP)
    transport.send_rtcp(RTCP)
    assert transport.poll_datagrams() == []
    assert transport.dropped == 2


def test_what_cannot_be_protected_is_dropped_and_counted():
    transport, _ = connected()
    transport.send_rtp(RTP + bytes(3000))
    transport.send_rtcp(b"")
    assert transport.dropped == 2
    assert transport.poll_datagrams() == []


def test_nobody_polls():
    transport, _ = connected()
    for _ in range(5000):
        transport.send_rtp(RTP)
    assert len(transport.poll_datagrams()) == 4096
    assert transport.dropped == 5000 - 4096


def test_handshake_timeout():
    transport, client = make_transport(now=100.0), Client()
    give(transport, client.check(), HOME, 114.0)
    assert transport.next_timeout() == pytest.approx(115.0)
    transport.handle_timeout(114.9)
    assert not transport.closed
    transport.handle_timeout(115.0)
    assert transport.poll_events() == [AddressChanged(HOME, None), Closed("handshake timeout")]
    assert transport.next_timeout() is None


def run_timers(transport, until):
    for _ in range(1000):
        due = transport.next_timeout()
        if due is None or due > until:
            return
        transport.handle_timeout(due)
    raise AssertionError("timers without end")


def test_consent_expires_without_checks():
    transport, client = connected()
    give(transport, client.check(), HOME, 25.0)
    run_timers(transport, 54.9)
    assert transport.connected
    run_timers(transport, 55.1)
    assert not transport.connected
    assert transport.poll_events() == [Closed("consent expired")]
    transport.handle_timeout(60.0)
    assert transport.poll_events() == []


def test_close_says_goodbye_once():
    transport, client = connected()
    transport.close(1.0)
    transport.close(2.0)
    assert transport.poll_events() == [Closed("closed")]
    assert not transport.connected
    for data, _ in transport.poll_datagrams():
        client.take(data, 1.0)
    assert client.dtls.state == "closed"
    transport.send_rtp(RTP)
    assert give(transport, client.check(), HOME, 2.0)
    assert transport.poll_datagrams() == []
    with pytest.raises(SrtpError):
        transport.unprotect_rtp(RTP)


def test_the_clients_goodbye_ends_the_session():
    transport, client = connected()
    client.dtls.close(1.0)
    talk(transport, client)
    assert transport.poll_events() == [Closed("closed by the peer")]


def test_another_certificate_than_promised():
    transport = make_transport(fingerprints=[("sha-256", SERVER_CERTIFICATE.fingerprint)])
    client = Client()
    give(transport, client.check(), HOME)
    talk(transport, client)
    _, closed = transport.poll_events()
    assert isinstance(closed, Closed) and "fingerprint" in closed.reason


def test_no_usable_fingerprint_closes_at_once():
    transport = make_transport(fingerprints=[])
    assert transport.closed
    assert len(transport.poll_events()) == 1


datagrams = st.binary(max_size=80) | st.binary(max_size=60).map(
    lambda fragment: b"\x15\xfe\xfd" + bytes(8) + len(fragment).to_bytes(2, "big") + fragment
)


@settings(max_examples=50)
@given(st.lists(datagrams, max_size=10))
def test_no_bytes_end_an_established_session(hostile):
    transport, client = connected()
    for data in hostile:
        try:
            assert not transport.handle_stun(parse_binding_request(data), HOME, 1.0)
        except StunError:
            pass
        transport.handle_dtls(data, HOME, 1.0)
        for unprotect in (transport.unprotect_rtp, transport.unprotect_rtcp):
            with pytest.raises(SrtpError):
                unprotect(data)
    assert transport.poll_events() == []
    assert transport.unprotect_rtp(client.sender().protect_rtp(RTP)) == RTP


@given(st.binary(min_size=24, max_size=40), st.sampled_from(["", "n1", "node+7/"]))
def test_credentials(rng_bytes, prefix):
    credentials = make_credentials(rng_bytes, prefix)
    assert credentials.ufrag.startswith(prefix)
    assert re.fullmatch(r"[A-Za-z0-9+/]{4,256}", credentials.ufrag)
    assert re.fullmatch(r"[A-Za-z0-9+/]{22,256}", credentials.password)
    assert credentials == make_credentials(rng_bytes[:24], prefix)
    assert credentials != make_credentials(bytes([rng_bytes[0] ^ 1]) + rng_bytes[1:], prefix)


def test_bad_ingredients_for_credentials():
    with pytest.raises(ValueError):
        make_credentials(bytes(23))
    with pytest.raises(ValueError):
        make_credentials(bytes(24), prefix="a-b")
    with pytest.raises(ValueError):
        make_credentials(bytes(24), prefix="a" * 250)
    assert isinstance(make_credentials(bytes(24)), IceCredentials)
