"""DTLS between two endpoints over a bad network, in virtual time; and what hostile bytes can do."""

import itertools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from relaymesh.webrtc.certificate import Certificate, fingerprint_of
from relaymesh.webrtc.dtls import DtlsEndpoint
from relaymesh.webrtc.srtp import SrtpReceiver, SrtpSender
from tests.lossy_link import Conditions, Pair

SERVER_CERTIFICATE = Certificate.generate(1_800_000_000)
CLIENT_CERTIFICATE = Certificate.generate(1_800_000_000)
SERVER_FINGERPRINT = ("sha-256", SERVER_CERTIFICATE.fingerprint)
CLIENT_FINGERPRINT = ("sha-256", CLIENT_CERTIFICATE.fingerprint)
HANDSHAKE_LIMIT = 15.0  # seconds


class OnLink:
    """An endpoint with the face that `Pair` drives; the server learns of the first SRTP packet."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.handle_datagram = endpoint.handle_datagram
        self.next_timeout = endpoint.next_timeout
        self.handle_timeout = endpoint.handle_timeout

    def poll_datagrams(self, now):
        return self.endpoint.poll_datagrams()


def endpoints(*, server_expects=(CLIENT_FINGERPRINT,), client_expects=(SERVER_FINGERPRINT,)):
    server = DtlsEndpoint(SERVER_CERTIFICATE, "server", list(server_expects), 0.0)
    client = DtlsEndpoint(CLIENT_CERTIFICATE, "client", list(client_expects), 0.0)
    return server, client


def pump(server, client, now=0.0):
    """Carry datagrams without loss until nobody has one."""
    for _ in range(20):
        forth, back = client.poll_datagrams(), server.poll_datagrams()
        if not forth and not back:
            return
        for data in forth:
            server.handle_datagram(data, now)
        for data in back:
            client.handle_datagram(data, now)
    raise AssertionError("they never stop talking")


def connected():
    server, client = endpoints()
    pump(server, client)
    assert server.state == client.state == "connected"
    return server, client


def assert_keys_fit(server, client):
    assert server.keys.profile == client.keys.profile
    packet = b"\x80\x60\0\1\0\0\0\1\0\0\0\1payload"
    for near, far in ((server.keys, client.keys), (client.keys, server.keys)):
        assert (
            SrtpReceiver(far.remote, far.profile).unprotect_rtp(
                SrtpSender(near.local, near.profile).protect_rtp(packet)
            )
            == packet
        )
    assert server.keys.local != server.keys.remote


def test_handshake_and_keys():
    server, client = connected()
    assert_keys_fit(server, client)
    assert server.keys.profile.name == "AEAD_AES_128_GCM"
    assert server.debug_state()["profile"] == "AEAD_AES_128_GCM"
    assert "local" not in repr(server.keys)


def long_certificate(size):
    """A certificate with an extension of `size` bytes, as long chains or keys have."""
    key = CLIENT_CERTIFICATE.key
    plain = CLIENT_CERTIFICATE.x509
    builder = (
        x509.CertificateBuilder(plain.issuer, plain.subject, plain.public_key(), plain.serial_number)
        .not_valid_before(plain.not_valid_before_utc)
        .not_valid_after(plain.not_valid_after_utc)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), bytes(size)), False
        )
    )
    return Certificate(key, builder.sign(key, hashes.SHA256()))


@pytest.mark.parametrize("size", [0, 500, 3000])
def test_datagrams_are_whole_records_of_bounded_length(size):
    certificate = long_certificate(size)
    server = DtlsEndpoint(certificate, "server", [CLIENT_FINGERPRINT], 0.0)
    client = DtlsEndpoint(CLIENT_CERTIFICATE, "client", [("sha-256", certificate.fingerprint)], 0.0)
    most = 0
    for _ in range(4):
        for sender, receiver in ((client, server), (server, client)):
            flight = sender.poll_datagrams()
            most = max(most, len(flight))
            for data in flight:
                assert len(data) <= 1200
                position = 0
                while position < len(data):
                    position += 13 + int.from_bytes(data[position + 11 : position + 13], "big")
                assert position == len(data)
                receiver.handle_datagram(data, 0.0)
    assert server.state == client.state == "connected"
    assert most == {0: 1, 500: 2, 3000: 4}[size]


@pytest.mark.parametrize("lost", [*itertools.product([False, True], repeat=6)])
def test_every_pattern_of_loss_of_the_first_datagrams(lost):
    server, client = endpoints()
    pair = Pair(OnLink(client), OnLink(server))
    fate = iter(lost)
    send = pair.send
    pair.send = lambda sender, data: None if next(fate, False) else send(sender, data)
    assert pair.run_until(lambda: server.state == client.state == "connected", HANDSHAKE_LIMIT, max_steps=500)
    assert_keys_fit(server, client)
    assert pair.now < 5.0  # six waits, doubling from 0.1 s up to 1.6 s, at the most
    if not any(lost):
        assert pair.now < 0.05


@pytest.mark.parametrize("seed", range(40))
def test_a_bad_network(seed):
    server, client = endpoints()
    rough = Conditions(delay=0.03, jitter=0.02, loss=0.2, duplicate=0.1, reorder=0.1)
    pair = Pair(OnLink(client), OnLink(server), forth=rough, back=rough, seed=seed)
    done = pair.run_until(
        lambda: server.state == client.state == "connected", HANDSHAKE_LIMIT, max_steps=2000
    )
    assert done, (server.debug_state(), client.debug_state())
    assert_keys_fit(server, client)


def test_one_lost_datagram_costs_a_tenth_of_a_second():
    server, client = endpoints()
    assert len(client.poll_datagrams()) == 1  # lost
    assert client.next_timeout() == pytest.approx(0.1)
    client.handle_timeout(0.05)
    assert client.poll_datagrams() == []
    client.handle_timeout(0.1)
    pump(server, client, 0.1)
    assert server.state == "connected"


def test_waits_double_up_to_a_limit():
    _, client = endpoints()
    times = [0.0]
    while times[-1] < 10:
        times.append(client.next_timeout())
        client.handle_timeout(times[-1])
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert waits[:6] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 1.6])
    assert len(set(client.poll_datagrams())) == 1  # byte for byte the same


def lose_final_flight():
    server, client = endpoints()
    for _ in range(2):
        for data in client.poll_datagrams():
            server.handle_datagram(data, 0.0)
        if server.state == "connected":
            break
        for data in server.poll_datagrams():
            client.handle_datagram(data, 0.0)
    assert (server.state, client.state) == ("connected", "connecting")
    assert server.poll_datagrams()
    return server, client


def test_the_final_flight_is_repeated_until_the_peer_is_ready():
    server, client = lose_final_flight()
    for _ in range(3):
        server.handle_timeout(server.next_timeout())
    (data, *more) = server.poll_datagrams()
    assert more == [data, data]
    client.handle_datagram(data, 1.0)
    assert client.state == "connected"
    client.handle_datagram(data, 1.0)  # and once more does no harm
    assert client.state == "connected"
    server.note_peer_ready()
    assert server.next_timeout() is None


def test_the_final_flight_is_not_repeated_for_ever():
    server, _ = lose_final_flight()
    for _ in range(20):
        if server.next_timeout() is None:
            break
        server.handle_timeout(server.next_timeout())
    assert server.next_timeout() is None
    assert len(server.poll_datagrams()) == 8
    assert server.state == "connected"


@pytest.mark.parametrize("algorithm", ["sha-256", "SHA-384", "sha-512"])
def test_the_hashes_a_fingerprint_may_have(algorithm):
    der = CLIENT_CERTIFICATE.x509.public_bytes(Encoding.DER)
    value = fingerprint_of(der, algorithm.lower())
    server, client = endpoints(server_expects=[(algorithm, value.lower())])
    pump(server, client)
    assert server.state == "connected"


def test_one_of_several_fingerprints_is_enough():
    server, client = endpoints(server_expects=[SERVER_FINGERPRINT, CLIENT_FINGERPRINT])
    pump(server, client)
    assert server.state == "connected"


@pytest.mark.parametrize(
    "expected",
    [
        [SERVER_FINGERPRINT],
        [("sha-256", "")],
        # A weaker hash that fits does not help against a stronger one that does not.
        [("sha-512", "00"), CLIENT_FINGERPRINT],
    ],
)
def test_a_wrong_fingerprint_fails_at_the_server(expected):
    server, client = endpoints(server_expects=expected)
    pump(server, client)
    assert server.state == "failed"
    assert "fingerprint" in server.reason
    assert server.keys is None
    assert server.next_timeout() is None
    assert client.state == "closed"  # it was told


def test_a_wrong_fingerprint_fails_at_the_client():
    server, client = endpoints(client_expects=[CLIENT_FINGERPRINT])
    pump(server, client)
    assert client.state == "failed"
    assert client.keys is None
    assert server.state == "closed"


@pytest.mark.parametrize("expected", [[], [("sha-1", "00:11")], [("md5", "00")]])
def test_no_usable_fingerprint(expected):
    server, client = endpoints(server_expects=expected)
    assert server.state == "failed"
    pump(server, client)
    assert client.state == "connecting"


def peer_of_another_kind(setup):
    """The server that met `bare_client(setup)`."""
    server, _ = bare_client(setup)
    return server


def bare_client(setup):
    """A server that met a client made of bare OpenSSL, set up as no endpoint of ours is; and that."""
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256")
    setup(context)
    bare = SSL.Connection(context)
    bare.set_connect_state()
    server, _ = endpoints()
    for _ in range(6):
        try:
            bare.do_handshake()
        except SSL.Error:
            pass
        try:
            server.handle_datagram(bare.bio_read(65536), 0.0)
        except SSL.WantReadError:
            pass
        for data in server.poll_datagrams():
            bare.bio_write(data)
    return server, bare


def with_certificate(context):
    context.use_certificate(CLIENT_CERTIFICATE.x509)
    context.use_privatekey(CLIENT_CERTIFICATE.key)


def test_a_client_without_certificate_fails():
    server = peer_of_another_kind(lambda context: context.set_tlsext_use_srtp(b"SRTP_AEAD_AES_128_GCM"))
    assert server.state == "failed"
    assert "certificate" in server.reason


def test_a_client_without_srtp_fails():
    server = peer_of_another_kind(with_certificate)
    assert server.state == "failed"
    assert "SRTP" in server.reason


@pytest.mark.parametrize("profile", ["AEAD_AES_256_GCM", "AES128_CM_SHA1_80"])
def test_a_client_chooses_another_profile(profile):
    def setup(context):
        with_certificate(context)
        context.set_tlsext_use_srtp(b"SRTP_" + profile.encode())

    server = peer_of_another_kind(setup)
    assert server.state == "connected"
    assert server.keys.profile.name == profile


def test_a_client_cannot_become_another_by_renegotiation():
    def setup(context):
        with_certificate(context)
        context.set_tlsext_use_srtp(b"SRTP_AEAD_AES_128_GCM")

    server, bare = bare_client(setup)
    keys = server.keys
    bare.renegotiate()
    for _ in range(4):
        try:
            bare.do_handshake()
        except SSL.Error:
            pass
        try:
            data = bare.bio_read(65536)
        except SSL.WantReadError:
            break
        server.handle_datagram(data, 1.0)
        for reply in server.poll_datagrams():
            bare.bio_write(reply)
    assert server.keys is keys
    # Told no, OpenSSL as a client gives up, and says so under its keys.
    assert server.reason.startswith("ended by the peer")


def test_close_tells_the_peer():
    server, client = connected()
    server.close(1.0)
    assert server.state == "closed"
    for data in server.poll_datagrams():
        client.handle_datagram(data, 1.0)
    assert (client.state, client.reason) == ("closed", "closed by the peer")
    server.close(2.0)
    server.handle_datagram(b"\x16" * 40, 2.0)
    assert server.poll_datagrams() == []


def test_close_before_the_handshake_says_nothing():
    server, _ = endpoints()
    server.close(0.0)
    assert (server.state, server.poll_datagrams()) == ("closed", [])


def record(kind, epoch, fragment, number=7):
    return (
        bytes([kind, 0xFE, 0xFD])
        + epoch.to_bytes(2, "big")
        + number.to_bytes(6, "big")
        + len(fragment).to_bytes(2, "big")
        + fragment
    )


FATAL_ALERT, CLOSE_NOTIFY = b"\x02\x28", b"\x01\x00"


@pytest.mark.parametrize("kind", [20, 21, 22, 23, 24, 63])
@pytest.mark.parametrize("epoch", [0, 1, 2, 65535])
@pytest.mark.parametrize("fragment", [b"", FATAL_ALERT, CLOSE_NOTIFY, bytes(60), b"\x01" + bytes(11), b"\1"])
def test_forged_records_do_not_end_an_association(kind, epoch, fragment):
    server, client = connected()
    for number in (0, 7, 2**48 - 1):
        server.handle_datagram(record(kind, epoch, fragment, number), 1.0)
        client.handle_datagram(record(kind, epoch, fragment, number), 1.0)
    assert server.state == client.state == "connected"
    assert_still_alive(server, client)


def test_replayed_handshakes_do_not_end_an_association():
    server, client = endpoints()
    seen = []
    for _ in range(4):
        for sender, receiver in ((client, server), (server, client)):
            for data in sender.poll_datagrams():
                seen.append(data)
                receiver.handle_datagram(data, 0.0)
    for data in seen + list(
        DtlsEndpoint(SERVER_CERTIFICATE, "client", [CLIENT_FINGERPRINT], 0).poll_datagrams()
    ):
        server.handle_datagram(data, 1.0)
        client.handle_datagram(data, 1.0)
    assert_still_alive(server, client)


def assert_still_alive(server, client):
    """A goodbye is authenticated: it arrives only if both records layers still work."""
    server.poll_datagrams(), client.poll_datagrams()
    assert server.state == client.state == "connected"
    server.close(2.0)
    for data in server.poll_datagrams():
        client.handle_datagram(data, 2.0)
    assert client.reason == "closed by the peer"


def garbage():
    header = st.builds(
        record,
        st.sampled_from([20, 21, 22, 23, 24, 25, 26, 40]),
        st.sampled_from([0, 1, 2]),
        st.binary(max_size=100),
        st.integers(0, 2**48 - 1),
    )
    return st.binary(max_size=100) | header | st.lists(header, max_size=4).map(b"".join)


@settings(max_examples=60)
@given(st.lists(garbage(), max_size=8))
def test_no_bytes_end_an_established_association(datagrams):
    server, client = connected()
    for data in datagrams:
        server.handle_datagram(data, 1.0)
        client.handle_datagram(data, 1.0)
    assert_still_alive(server, client)


@settings(max_examples=60)
@given(st.lists(garbage(), max_size=5), st.integers(0, 3))
def test_no_bytes_escape_during_the_handshake(datagrams, when):
    server, client = endpoints()
    for step in range(6):
        if step == when:
            for data in datagrams:
                server.handle_datagram(data, 0.0)
                client.handle_datagram(data, 0.0)
        for sender, receiver in ((client, server), (server, client)):
            for data in sender.poll_datagrams():
                receiver.handle_datagram(data, 0.0)
    assert server.state in ("connecting", "connected", "closed", "failed")
    assert (server.keys is not None) or server.state != "connected"


def test_oversized_datagrams_are_ignored():
    server, client = connected()
    server.handle_datagram(bytes(60000), 1.0)
    assert server.debug_state()["datagrams_ignored"] == 1
    assert_still_alive(server, client)
