"""SRTP against the RFCs: their vectors hold for a model of them, and the model for every kernel."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernels.both import over_both
from tests.kernels.srtp_model import Session, derive

srtp = over_both("srtp")
PROFILE_CASES = pytest.mark.parametrize(
    ("profile", "key_bytes"), [("AEAD_AES_128_GCM", 28), ("AEAD_AES_256_GCM", 44), ("AES128_CM_SHA1_80", 30)]
)
hexadecimal = bytes.fromhex

# RFC 3711 appendix B.3
MASTER_KEY = hexadecimal("E1F97A0D3E018BE0D64FA32C06DE4139")
MASTER_SALT = hexadecimal("0EC675AD498AFEEBB6960B3AABE6")
CM_SESSION = Session(
    hexadecimal("C61E7A93744F39EE10734AFE3FF7A087"),
    hexadecimal("30CBBC08863D8C85D49DB34A9AE1"),
    hexadecimal("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
)

# RFC 7714 § 16: session keys 00 01 02 …, one salt, one RTP and one RTCP packet
SALT = hexadecimal("517569642070726f2071756f")
RTP = hexadecimal(
    "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573"
)
RTCP = hexadecimal(
    "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
)


def test_key_derivation_of_rfc_3711_b_3() -> None:
    assert derive(MASTER_KEY, MASTER_SALT, 0, 16) == CM_SESSION.key
    assert derive(MASTER_KEY, MASTER_SALT, 2, 14) == CM_SESSION.salt
    assert derive(MASTER_KEY, MASTER_SALT, 1, 20) == CM_SESSION.auth_key
    assert Session.of(MASTER_KEY + MASTER_SALT, "AES128_CM_SHA1_80") == CM_SESSION


@pytest.mark.parametrize(
    ("size", "sealed"),
    [
        (
            16,
            (
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833"
                "899d7f27beb16a9152cf765ee4390cce"
            ),
        ),
        (
            32,
            (
                "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b"
                "7aa3db36dfffd6b0f9bb7878d7a76c13"
            ),
        ),
    ],
)
def test_srtp_of_rfc_7714_16_1(size: int, sealed: str) -> None:
    assert Session(bytes(range(size)), SALT).protect_rtp(RTP, 0) == RTP[:12] + hexadecimal(sealed)


@pytest.mark.parametrize(
    ("size", "sealed"),
    [
        (
            16,
            (
                "63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275b"
                "c84aa45896cf4d2fc5abf87245d9eade800005d4"
            ),
        ),
        (
            32,
            (
                "d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de0476f1b6fad"
                "1d1eb30c4446839f57ff6f6cb26ac3be800005d4"
            ),
        ),
    ],
)
def test_srtcp_of_rfc_7714_16_3(size: int, sealed: str) -> None:
    assert Session(bytes(range(size)), SALT).protect_rtcp(RTCP, 0x5D4) == RTCP[:8] + hexadecimal(sealed)


def test_a_kernel_derives_the_keys_of_rfc_3711_b_3(srtp: Any) -> None:
    sender = srtp.SrtpSender(MASTER_KEY + MASTER_SALT, "AES128_CM_SHA1_80")
    assert sender.protect_rtp(RTP) == CM_SESSION.protect_rtp(RTP, 0)


@PROFILE_CASES
def test_a_kernel_does_as_the_model_over_rollovers(srtp: Any, profile: str, key_bytes: int) -> None:
    master = bytes(range(7, 7 + key_bytes))
    sender, receiver = srtp.SrtpSender(master, profile), srtp.SrtpReceiver(master, profile)
    model = Session.of(master, profile)
    for extended in (100, 30000, 60000, 65535, 65537, 65534, 70000, 100_000, 131_071, 131_073, 131_070):
        packet = RTP[:2] + (extended & 0xFFFF).to_bytes(2) + RTP[4:] + bytes(extended % 300)
        sealed = model.protect_rtp(packet, extended >> 16)
        assert sender.protect_rtp(packet) == sealed
        assert receiver.unprotect_rtp(sealed) == packet


@PROFILE_CASES
def test_csrcs_and_extension_stay_clear_and_are_authenticated(
    srtp: Any, profile: str, key_bytes: int
) -> None:
    master = bytes(range(7, 7 + key_bytes))
    header = bytes([0x92]) + RTP[1:12] + bytes(8) + b"\xbe\xde\0\1abcd"
    packet = header + b"payload"
    sealed = Session.of(master, profile).protect_rtp(packet, 0, len(header))
    assert srtp.SrtpSender(master, profile).protect_rtp(packet) == sealed
    assert srtp.SrtpReceiver(master, profile).unprotect_rtp(sealed) == packet
    for at in range(12, len(header)):
        forged = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(srtp.SrtpFailure):
            srtp.SrtpReceiver(master, profile).unprotect_rtp(forged)
    for words in (200, 0xFFFF):  # an extension that is longer than the packet
        long = header[:22] + words.to_bytes(2) + header[24:] + b"payload"
        with pytest.raises(srtp.SrtpFailure):
            srtp.SrtpSender(master, profile).protect_rtp(long)
        with pytest.raises(srtp.SrtpFailure):
            srtp.SrtpReceiver(master, profile).unprotect_rtp(long + bytes(16))


@PROFILE_CASES
def test_srtcp_counts_for_each_ssrc_and_has_the_e_bit(srtp: Any, profile: str, key_bytes: int) -> None:
    master = bytes(range(7, 7 + key_bytes))
    sender, receiver = srtp.SrtpSender(master, profile), srtp.SrtpReceiver(master, profile)
    model = Session.of(master, profile, rtcp=True)
    other = RTCP[:7] + b"!" + RTCP[8:]
    for index in range(1, 200):
        for packet in (RTCP, other):
            sealed = sender.protect_rtcp(packet)
            assert sealed == model.protect_rtcp(packet, index)
            assert receiver.unprotect_rtcp(sealed) == packet
    old = model.protect_rtcp(RTCP, 3)
    with pytest.raises(srtp.SrtpFailure, match="too old"):
        receiver.unprotect_rtcp(old)
    with pytest.raises(srtp.SrtpFailure, match="replayed"):
        receiver.unprotect_rtcp(model.protect_rtcp(RTCP, 190))


@PROFILE_CASES
def test_srtcp_that_is_only_authenticated_is_refused_or_opened_never_misread(
    srtp: Any, profile: str, key_bytes: int
) -> None:
    master = bytes(range(7, 7 + key_bytes))
    model = Session.of(master, profile, rtcp=True)
    word = (5).to_bytes(4)  # no E bit
    sealed = model.seal(RTCP[4:8], 5, RTCP, b"", word)
    sealed = sealed[:-10] + word + sealed[-10:] if model.auth_key else sealed + word
    receiver = srtp.SrtpReceiver(master, profile)
    if model.auth_key:
        with pytest.raises(srtp.SrtpFailure):
            receiver.unprotect_rtcp(sealed)
    else:
        assert receiver.unprotect_rtcp(sealed) == RTCP
        with pytest.raises(srtp.SrtpFailure, match="replayed"):
            receiver.unprotect_rtcp(sealed)


def test_keys_and_profiles_that_do_not_fit_are_refused(srtp: Any) -> None:
    for make in (srtp.SrtpSender, srtp.SrtpReceiver):
        with pytest.raises(ValueError, match="no SRTP profile"):
            make(bytes(28), "AEAD_AES_512_GCM")
        for size in (0, 27, 29, 44):
            with pytest.raises(ValueError, match="has 28 bytes"):
                make(bytes(size), "AEAD_AES_128_GCM")
