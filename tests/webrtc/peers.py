"""A client of a :class:`Transport` made of our own parts, and both of them on a lossy link."""

import itertools
import math

from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.dtls import DtlsEndpoint
from relaymesh.webrtc.errors import SrtpError
from relaymesh.webrtc.srtp import SrtpReceiver, SrtpSender
from relaymesh.webrtc.stun import build_binding_request, parse_binding_request, parse_binding_response
from relaymesh.webrtc.transport import AddressChanged, Connected, Transport, make_credentials

SERVER_CERTIFICATE = Certificate.generate(1_800_000_000)
CLIENT_CERTIFICATE = Certificate.generate(1_800_000_000)
CREDENTIALS = make_credentials(bytes(range(24)), prefix="n7+")
HOME, AWAY, STRANGER = ("192.0.2.1", 4000), ("2001:db8::2", 4001), ("203.0.113.66", 666)
RTP = b"\x80\x60\0\1\0\0\0\1\0\0\0\1the payload"
RTCP = b"\x81\xc9\0\1\0\0\0\1"


class Client:
    """A browser in small: checks, the handshake and one SRTP context each way."""

    def __init__(self, now=0.0, role="client"):
        self.dtls = DtlsEndpoint(CLIENT_CERTIFICATE, role, [("sha-256", SERVER_CERTIFICATE.fingerprint)], now)
        self.credentials = CREDENTIALS  # the node's
        self.replies = []
        self.packets = []
        self._transactions = itertools.count()

    def check(self, *, nominate=True, password=None, ufrag=None):
        return build_binding_request(
            username=f"{ufrag or self.credentials.ufrag}:client",
            password=password or self.credentials.password,
            transaction_id=next(self._transactions).to_bytes(12, "big"),
            use_candidate=nominate,
        )

    def take(self, data, now):
        if data[0] < 4:
            self.replies.append(parse_binding_response(data, self.credentials.password).address)
        elif data[0] < 64:
            self.dtls.handle_datagram(data, now)
        else:
            self.packets.append(self.receiver().unprotect_rtp(data))

    def sender(self):
        return SrtpSender(self.dtls.keys.local, self.dtls.keys.profile)

    def receiver(self):
        return SrtpReceiver(self.dtls.keys.remote, self.dtls.keys.profile)


def make_transport(**changes):
    arguments = {
        "certificate": SERVER_CERTIFICATE,
        "credentials": CREDENTIALS,
        "fingerprints": [("sha-256", CLIENT_CERTIFICATE.fingerprint)],
        "now": 0.0,
    }
    return Transport(**(arguments | changes))


def give(transport, data, address, now=0.0):
    """Deliver as a node does. Returns what `handle_stun` said."""
    if data[0] < 4:
        return transport.handle_stun(parse_binding_request(data), address, now)
    return transport.handle_dtls(data, address, now)


def talk(transport, client, address=HOME, now=0.0):
    """Carry datagrams both ways until nobody has one."""
    for _ in range(20):
        forth = client.dtls.poll_datagrams()
        back = [data for data, to in transport.poll_datagrams() if to == address]
        if not forth and not back:
            return
        for data in forth:
            give(transport, data, address, now)
        for data in back:
            client.take(data, now)
    raise AssertionError("they never stop talking")


def connected(role="client"):
    transport = make_transport(role="client" if role == "server" else "server")
    client = Client(role=role)
    assert give(transport, client.check(), HOME)
    talk(transport, client)
    assert transport.poll_events() == [AddressChanged(HOME, None), Connected()]
    assert transport.connected
    return transport, client


class ServerOnLink:
    """The node's end. The NAT between shows all datagrams from `source`, and lets others not in."""

    def __init__(self, transport):
        self.transport = transport
        self.source = HOME
        self.unopened = 0
        self.next_timeout, self.handle_timeout = transport.next_timeout, transport.handle_timeout

    def handle_datagram(self, data, now):
        if data[0] < 128:
            give(self.transport, data, self.source, now)
            return None
        if self.source not in self.transport.addresses:
            return None  # as a node does with what it cannot assign
        try:
            if 192 <= data[1] < 224:
                return self.transport.unprotect_rtcp(data, self.source, now)
            return self.transport.unprotect_rtp(data, self.source, now)
        except SrtpError:
            self.unopened += 1
            return None

    def poll_datagrams(self, now):
        return [data for data, to in self.transport.poll_datagrams() if to == self.source]


class ClientOnLink(Client):
    """Checks every 50 ms until answered, then every second, or not at all from `checks_until` on.

    Media every 20 ms once it has keys, if it is a `publisher`; a report each second.
    """

    def __init__(self, role="client", *, publisher=True):
        super().__init__(role=role)
        self.checks_until = math.inf
        self.publisher = publisher
        self.nominates = True
        self._check_at = self._media_at = self._report_at = 0.0
        self._due = []
        self._sequence = itertools.count(1)
        self._sender = self._receiver = None

    def handle_datagram(self, data, now):
        if data[0] >= 128 and 192 <= data[1] < 224:
            return self.receiver().unprotect_rtcp(data)
        self.take(data, now)
        return self.packets[-1] if data[0] >= 128 else None

    def receiver(self):
        self._receiver = self._receiver or super().receiver()
        return self._receiver

    def sender(self):
        self._sender = self._sender or super().sender()
        return self._sender

    def poll_datagrams(self, now):
        due, self._due = self._due, []
        return due + (self.dtls.poll_datagrams() if self.replies else [])

    def next_timeout(self):
        times = (self._check_at, self._media_at, self._report_at, self.dtls.next_timeout())
        return min(time for time in times if time is not None)

    def handle_timeout(self, now):
        self.dtls.handle_timeout(now)
        if now >= self._check_at:
            self._check_at = now + (1.0 if self.replies else 0.05)
            if now < self.checks_until:
                self._due.append(self.check(nominate=self.nominates))
        ready = self.dtls.state == "connected"
        if now >= self._media_at:
            self._media_at = now + 0.02
            if ready and self.publisher:
                number = (next(self._sequence) & 0xFFFF).to_bytes(2, "big")
                self._due.append(self.sender().protect_rtp(RTP[:2] + number + RTP[4:]))
        if now >= self._report_at:
            self._report_at = now + 1.0
            if ready:
                self._due.append(self.sender().protect_rtcp(RTCP))
