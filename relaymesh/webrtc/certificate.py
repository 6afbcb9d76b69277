"""The self-signed certificate that names this process in a DTLS handshake.

In: the time of day. Out: a key, a certificate and its fingerprint, as it stands
in `a=fingerprint` (RFC 8122). Nobody checks such a certificate by its names or
dates, only by the fingerprint that came over the signalling. It does not know
DTLS, and reads no clock; the key's randomness is OpenSSL's own.
"""

from __future__ import annotations

import datetime
import hashlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

__all__ = ["FINGERPRINT_HASHES", "Certificate", "fingerprint_of"]

# The hash functions of RFC 8122 §5 that are still sound, strongest first.
FINGERPRINT_HASHES = ("sha-512", "sha-384", "sha-256")

_DAY = datetime.timedelta(days=1)
_LIFETIME = 365 * _DAY  # outlives any process between two upgrades


def fingerprint_of(der: bytes, algorithm: str) -> str:
    """The fingerprint of a DER certificate: upper-case hex pairs joined by colons.

    `algorithm` is one of `FINGERPRINT_HASHES`.
    """
    assert algorithm in FINGERPRINT_HASHES, "the caller picks from the hashes we know"
    return hashlib.new(algorithm.replace("-", ""), der).digest().hex(":").upper()


class Certificate:
    """An ECDSA P-256 key with its self-signed certificate; make one per process."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.key = key
        self.x509 = certificate
        self.fingerprint = fingerprint_of(certificate.public_bytes(Encoding.DER), "sha-256")
        """sha-256, as `fingerprint_of` writes it."""

    @classmethod
    def generate(cls, now: float) -> Certificate:
        """Make a new key and certificate. `now` is the time of day: seconds since 1970, UTC."""
        key = ec.generate_private_key(ec.SECP256R1())
        today = datetime.datetime.fromtimestamp(now, tz=datetime.UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "WebRTC")])  # tells nobody anything
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - _DAY)  # the peer's clock may be behind ours
            .not_valid_after(today + _LIFETIME)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))
