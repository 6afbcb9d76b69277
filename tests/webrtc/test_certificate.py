import datetime
import hashlib
import re

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from relaymesh.webrtc.certificate import FINGERPRINT_HASHES, Certificate, fingerprint_of

NOON = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)


def test_a_certificate_is_p256_and_signed_by_itself():
    certificate = Certificate.generate(NOON.timestamp())
    public = certificate.x509.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert isinstance(public.curve, ec.SECP256R1)
    assert public.public_numbers() == certificate.key.public_key().public_numbers()
    certificate.x509.verify_directly_issued_by(certificate.x509)


def test_its_dates_come_from_the_time_given():
    certificate = Certificate.generate(NOON.timestamp()).x509
    assert certificate.not_valid_before_utc == NOON - datetime.timedelta(days=1)
    assert certificate.not_valid_after_utc == NOON + datetime.timedelta(days=365)


def test_two_certificates_differ():
    assert Certificate.generate(0).fingerprint != Certificate.generate(0).fingerprint


def test_its_fingerprint_is_what_cryptography_says():
    certificate = Certificate.generate(NOON.timestamp())
    assert re.fullmatch(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}", certificate.fingerprint)
    der = certificate.x509.public_bytes(Encoding.DER)
    assert certificate.fingerprint == hashlib.sha256(der).digest().hex(":").upper()


@pytest.mark.parametrize(("algorithm", "size"), [*zip(FINGERPRINT_HASHES, (64, 48, 32), strict=True)])
def test_the_length_of_each_fingerprint(algorithm, size):
    assert len(fingerprint_of(b"any bytes", algorithm)) == 3 * size - 1
