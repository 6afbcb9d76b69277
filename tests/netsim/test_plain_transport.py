"""The transport of simulated clients: bound by checks, lost without them, ended by a goodbye."""

from __future__ import annotations

import inspect

from relaymesh.netsim.plain_transport import GOODBYE, PlainTransport
from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.stun import build_binding_request, parse_binding_request, parse_binding_response
from relaymesh.webrtc.transport import Closed, Connected, Transport, make_credentials

CREDENTIALS = make_credentials(bytes(range(24)))
CERTIFICATE = Certificate.generate(1_700_000_000)
CLIENT = ("10.1.0.1", 4000)


def transport() -> PlainTransport:
    return PlainTransport(certificate=CERTIFICATE, credentials=CREDENTIALS, fingerprints=(), now=0.0)


def check(password: str = CREDENTIALS.password):  # type: ignore[no-untyped-def]
    return parse_binding_request(
        build_binding_request(
            username=f"{CREDENTIALS.ufrag}:me",
            password=password,
            transaction_id=bytes(12),
            use_candidate=True,
        )
    )


def test_it_has_the_face_of_the_real_one() -> None:
    for name, member in inspect.getmembers(Transport):
        if name.startswith("_"):
            continue
        other = getattr(PlainTransport, name)
        if callable(member):
            assert list(inspect.signature(member).parameters) == list(inspect.signature(other).parameters), (
                name
            )


def test_a_valid_check_connects_and_is_answered() -> None:
    plain = transport()
    assert not plain.handle_stun(check("wrong password of twenty-two"), CLIENT, 1.0)
    assert not plain.connected
    plain.send_rtp(b"too early")
    assert plain.dropped == 1
    assert plain.handle_stun(check(), CLIENT, 1.0)
    assert plain.connected
    assert isinstance(plain.poll_events()[0], Connected)
    [(data, address)] = plain.poll_datagrams()
    assert address == CLIENT
    assert parse_binding_response(data, CREDENTIALS.password).address == CLIENT
    plain.send_rtp(b"media")
    plain.send_rtcp(b"reports")
    assert plain.poll_datagrams() == [(b"media", CLIENT), (b"reports", CLIENT)]


def test_it_ends_without_checks() -> None:
    plain = transport()
    plain.handle_timeout(14.9)
    assert not plain.closed
    plain.handle_stun(check(), CLIENT, 14.9)
    assert plain.next_timeout() == 44.9
    plain.handle_timeout(44.9)
    assert plain.closed
    assert plain.poll_events()[-1] == Closed("consent expired")
    assert plain.next_timeout() is None


def test_both_ends_say_goodbye() -> None:
    plain = transport()
    plain.handle_stun(check(), CLIENT, 1.0)
    plain.poll_datagrams()
    plain.handle_dtls(GOODBYE, ("10.1.0.9", 1), 2.0)
    assert not plain.closed
    plain.handle_dtls(GOODBYE, CLIENT, 2.0)
    assert plain.closed
    other = transport()
    other.handle_stun(check(), CLIENT, 1.0)
    other.poll_datagrams()
    other.close(2.0)
    other.close(2.0)
    assert other.poll_datagrams() == [(GOODBYE, CLIENT)]
    assert [e for e in other.poll_events() if isinstance(e, Closed)] == [Closed("closed")]
