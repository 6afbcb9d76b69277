"""One DTLS-SRTP association (RFC 6347, RFC 5764), on OpenSSL over memory buffers.

In: the peer's DTLS datagrams, the fingerprints its session description named,
and `now`. Out: datagrams to send, and after the handshake the SRTP keys. It
does not know addresses, ICE, or what the keys protect.

Two things OpenSSL does not do for us:

- Its retransmission timer starts at 1 s and pyOpenSSL cannot change that, so
  one lost packet would cost a viewer a second. The last flight is sent again
  after 100 ms, doubling, byte for byte: the records keep their numbers, so the
  peer drops those it already has (RFC 6347 §4.1.2.6). A server's final flight,
  which OpenSSL sends again only when asked, is repeated until the peer has
  shown that it has the keys.
- A memory buffer has no datagram borders: what it holds is cut at record
  borders into datagrams of at most 1200 bytes.

The only clock in here is OpenSSL's own, behind its slower timer, which may add
a retransmission and never decides anything else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

from OpenSSL import SSL, crypto

from .certificate import FINGERPRINT_HASHES, Certificate, fingerprint_of
from .srtp import PROFILES, SrtpProfile

__all__ = ["DtlsEndpoint", "DtlsKeys", "Role", "State"]

Role = Literal["server", "client"]
State = Literal["connecting", "connected", "closed", "failed"]

MAX_DATAGRAM_BYTES = 1200  # fits every path that WebRTC media fits
_MAX_RECEIVED_BYTES = 16384  # a record is no longer (RFC 6347 §4.1); OpenSSL reads so much at once
_FIRST_RESEND = 0.1  # seconds
_LONGEST_RESEND = 1.6  # seconds
_FINAL_FLIGHT_RESENDS = 8  # some 8 s: by then the peer is gone, or silent by choice

# DTLS 1.2 record: u8 type | u16 version | u16 epoch | 48 bit number | u16 length | fragment
_RECORD_HEADER_BYTES = 13
_DTLS_1_2 = 0xFEFD
# What browsers offer (RFC 8827 §6.5 and what came after it). Our certificate is
# ECDSA; the RSA suites are for the client's part against an RSA server.
_CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA"
)
_EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"  # RFC 5764 §4.2

_NO_RENEGOTIATION: int = SSL.OP_NO_RENEGOTIATION  # type: ignore[attr-defined, unused-ignore]

_contexts: WeakKeyDictionary[Certificate, SSL.Context] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class DtlsKeys:
    """What the handshake agreed on for SRTP."""

    profile: SrtpProfile
    local: bytes = field(repr=False)
    """Master key and master salt of what we send."""
    remote: bytes = field(repr=False)
    """Master key and master salt of what the peer sends."""


class DtlsEndpoint:
    """One end of the association; the client's end begins the handshake when it is made.

    Made with `deferred` it begins with `begin`, for a client that does not know yet where to send.

    `fingerprints` are (hash name, hex pairs with colons) as the peer's session
    description has them (RFC 8122). With none that can be checked the endpoint
    is "failed" from the start. No input makes a method raise.
    """

    def __init__(
        self,
        certificate: Certificate,
        role: Role,
        fingerprints: Sequence[tuple[str, str]],
        now: float,
        *,
        deferred: bool = False,
    ) -> None:
        self.role: Role = role
        self.state: State = "connecting"
        self.reason = ""
        """Why the state is "failed" or "closed"."""
        self.keys: DtlsKeys | None = None
        self._algorithm, self._fingerprints = _strongest(fingerprints)
        self._ssl = SSL.Connection(_context(certificate))
        self._ssl.set_ciphertext_mtu(MAX_DATAGRAM_BYTES)
        self._outgoing: list[bytes] = []
        self._flight: list[bytes] = []  # what is sent again until it is answered
        self._resend_at: float | None = None
        self._resend_wait = _FIRST_RESEND
        self._final_resends = 0
        self._resent = self._ignored = self._application_bytes = 0
        if not self._fingerprints:
            self._end("failed", "no fingerprint that can be checked")
        elif role == "server":
            self._ssl.set_accept_state()
        else:
            self._ssl.set_connect_state()
        self._begun = role == "server" or not deferred
        if role == "client" and self._begun and self.state == "connecting":
            self._advance(now)

    def begin(self, now: float) -> None:
        """Send the first hello, unless that has happened; a server only waits."""
        if not self._begun:
            self._begun = True
            if self.state == "connecting":
                self._advance(now)

    def handle_datagram(self, data: bytes, now: float) -> None:
        """Take one datagram of the peer. What is not DTLS, or forged, is dropped and counted."""
        if self.state in ("closed", "failed"):
            return
        if not self._begun:
            self._ignored += 1  # an answer to what was not said
            return
        # OpenSSL reads its buffer as one datagram: never let a rest stay in it.
        if not _RECORD_HEADER_BYTES <= len(data) <= _MAX_RECEIVED_BYTES:
            self._ignored += 1
            return
        self._ssl.bio_write(data)
        self._advance(now)

    def note_peer_ready(self) -> None:
        """The peer has the keys: something it protected with them was opened."""
        if self.state == "connected":
            self._stop_resending()

    def poll_datagrams(self) -> list[bytes]:
        """Datagrams to send to the peer, each at most 1200 bytes unless one record is longer."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`; None: not before something arrives."""
        return self._resend_at

    def handle_timeout(self, now: float) -> None:
        """Send the last flight again, if its time has come."""
        if self._resend_at is None or now < self._resend_at:
            return
        if self.state == "connected":
            self._final_resends += 1
            if self._final_resends > _FINAL_FLIGHT_RESENDS:
                self._stop_resending()
                return
        self._outgoing += self._flight
        self._resent += 1
        self._resend_wait = min(2 * self._resend_wait, _LONGEST_RESEND)
        self._resend_at = now + self._resend_wait
        if self.state == "connecting":
            # Lets OpenSSL see whether its own timer is due. It resends under new
            # record numbers, which helps where the peer has used up the old ones.
            self._advance(now)

    def close(self, now: float) -> None:
        """Say goodbye to the peer, if there is an association; `poll_datagrams` has it."""
        if self.state == "connected":
            self._say_goodbye(now)
        if self.state in ("connecting", "connected"):
            self._end("closed", "closed by us")

    def debug_state(self) -> dict[str, object]:
        """What an operator wants to see."""
        return {
            "role": self.role,
            "state": self.state,
            "reason": self.reason,
            "profile": self.keys.profile.name if self.keys else None,
            "cipher": self._ssl.get_cipher_name() if self.keys else None,
            "flights_resent": self._resent,
            "datagrams_ignored": self._ignored,
            "application_bytes": self._application_bytes,
        }

    def _advance(self, now: float) -> None:
        """Let OpenSSL work on what it has, and take what it wants to send."""
        try:
            if self.state == "connecting":
                self._ssl.do_handshake()
                self._finish(now)
            if self.state == "connected":
                self._drain_application_data()
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._flush(now)
            self._end("closed", "closed by the peer")
        except SSL.Error as error:
            self._flush(now)  # an alert, to spare the peer its own timeout
            self._handle_error(_describe(error))
        self._flush(now)

    def _handle_error(self, description: str) -> None:
        if self.state == "connecting":
            self._end("failed", description)
        elif self._ssl.get_shutdown() & SSL.RECEIVED_SHUTDOWN:
            self._end("closed", f"ended by the peer: {description}")  # an alert it has authenticated
        else:
            # OpenSSL drops what is not authentic by itself. Should an error come
            # of it all the same, it must not end what is authentic.
            self._ignored += 1

    def _drain_application_data(self) -> None:
        """Nothing is agreed on for it; read it so that alerts behind it are seen."""
        while True:
            self._application_bytes += len(self._ssl.recv(_MAX_RECEIVED_BYTES))
            self._stop_resending()

    def _finish(self, now: float) -> None:
        """The handshake is done: see who it was with, and take the keys."""
        certificate = self._ssl.get_peer_certificate()
        der = b"" if certificate is None else crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        if not der or fingerprint_of(der, self._algorithm) not in self._fingerprints:
            self._say_goodbye(now)
            self._end("failed", "the certificate does not have the promised fingerprint")
            return
        name = self._ssl.get_selected_srtp_profile()
        profile = next((profile for profile in PROFILES if profile.openssl_name == name), None)
        if profile is None:
            self._say_goodbye(now)
            self._end("failed", "no SRTP profile in common")
            return
        self.keys = self._export(profile)
        self.state = "connected"
        # A client's last flight was answered by the very end of the handshake;
        # a server's last flight is about to be flushed.
        self._stop_resending()
        if self.role == "server":
            self._flush(now, repeat=True)

    def _export(self, profile: SrtpProfile) -> DtlsKeys:
        """RFC 5764 §4.2: client key | server key | client salt | server salt."""
        key, salt = profile.key_bytes, profile.salt_bytes
        material = self._ssl.export_keying_material(_EXPORTER_LABEL, 2 * (key + salt))
        salts = material[2 * key :]
        client = material[:key] + salts[:salt]
        server = material[key : 2 * key] + salts[salt:]
        if self.role == "client":
            return DtlsKeys(profile, client, server)
        return DtlsKeys(profile, server, client)

    def _flush(self, now: float, *, repeat: bool = False) -> None:
        """Take OpenSSL's output; during the handshake, or with `repeat`, it is a flight to repeat."""
        output = b""
        with contextlib.suppress(SSL.Error):  # WantReadError: nothing more
            while True:
                output += self._ssl.bio_read(65536)
        if not output:
            return
        datagrams = _cut(output)
        self._outgoing += datagrams
        if repeat or self.state == "connecting":
            self._flight = datagrams
            self._resend_wait = _FIRST_RESEND
            self._resend_at = now + self._resend_wait

    def _say_goodbye(self, now: float) -> None:
        with contextlib.suppress(SSL.Error):
            self._ssl.shutdown()
        self._flush(now)

    def _stop_resending(self) -> None:
        self._flight = []
        self._resend_at = None

    def _end(self, state: Literal["closed", "failed"], reason: str) -> None:
        self.state = state
        self.reason = reason
        self._stop_resending()


def _context(certificate: Certificate) -> Any:  # Any: the published stubs are older than the interface
    """The one SSL.Context of a certificate: making one costs a fifth of a handshake."""
    context: Any = _contexts.get(certificate)
    if context is None:
        context = SSL.Context(SSL.DTLS_METHOD)
        # DTLS 1.3 has other records than those cut here, and no WebRTC peer needs it.
        context.set_min_proto_version(_DTLS_1_2)
        context.set_max_proto_version(_DTLS_1_2)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | _NO_RENEGOTIATION)
        # A self-signed certificate is what we expect; who it is is decided by its fingerprint.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate.x509)
        context.use_privatekey(certificate.key)
        context.set_cipher_list(_CIPHERS)
        context.set_tlsext_use_srtp(b":".join(profile.openssl_name for profile in PROFILES))
        _contexts[certificate] = context
    return context


def _strongest(fingerprints: Sequence[tuple[str, str]]) -> tuple[str, frozenset[str]]:
    """The best hash among `fingerprints` and all values given for it (RFC 8122 §5)."""
    for algorithm in FINGERPRINT_HASHES:
        values = frozenset(value.upper() for name, value in fingerprints if name.lower() == algorithm)
        if values:
            return algorithm, values
    return "", frozenset()


def _cut(output: bytes) -> list[bytes]:
    """Pack whole records into datagrams of at most `MAX_DATAGRAM_BYTES`."""
    datagrams: list[bytes] = []
    start = position = 0
    while position < len(output):
        length = int.from_bytes(output[position + 11 : position + 13], "big")
        record_end = position + _RECORD_HEADER_BYTES + length
        if position > start and record_end - start > MAX_DATAGRAM_BYTES:
            datagrams.append(output[start:position])
            start = position
        position = record_end
    datagrams.append(output[start:])
    return datagrams


def _describe(error: SSL.Error) -> str:
    """OpenSSL's own words; pyOpenSSL carries a list of (library, function, reason)."""
    reasons = error.args[0] if error.args else ()
    if isinstance(reasons, list | tuple):
        words = [str(entry[-1]) for entry in reasons if isinstance(entry, tuple) and entry]
        return ", ".join(words) or type(error).__name__
    return str(reasons)
