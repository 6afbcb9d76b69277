"""SRTP and SRTCP of one session: the protection profiles, a sender and a receiver.

In: a plain RTP or RTCP packet and the keys of a DTLS handshake; out: the
protected packet, and back. It does not know DTLS, sockets, time, or what the
packets mean. The work is done by :mod:`relaymesh.kernels.srtp`; here are the
profiles as DTLS negotiates them, and the one error type of this package.
"""

from __future__ import annotations

from dataclasses import dataclass

from relaymesh.kernels import srtp

from .errors import SrtpError

__all__ = ["PROFILES", "SrtpProfile", "SrtpReceiver", "SrtpSender"]


@dataclass(frozen=True, slots=True)
class SrtpProfile:
    """One DTLS-SRTP protection profile (RFC 5764 §4.1.2, RFC 7714 §14.2)."""

    name: str
    """As in the IANA registry, without "SRTP_"."""
    openssl_name: bytes
    """What OpenSSL calls it in the use_srtp extension."""
    key_bytes: int
    """Length of the master key."""
    salt_bytes: int
    """Length of the master salt."""


# In our order of preference. AES-128-GCM first: the cheapest on any processor
# with AES instructions, and as a DTLS server OpenSSL follows this order.
PROFILES: tuple[SrtpProfile, ...] = (
    SrtpProfile("AEAD_AES_128_GCM", b"SRTP_AEAD_AES_128_GCM", 16, 12),
    SrtpProfile("AEAD_AES_256_GCM", b"SRTP_AEAD_AES_256_GCM", 32, 12),
    SrtpProfile("AES128_CM_SHA1_80", b"SRTP_AES128_CM_SHA1_80", 16, 14),
)


class SrtpSender:
    """Protects what we send. `key` is the master key followed by the master salt."""

    __slots__ = ("kernel",)

    def __init__(self, key: bytes, profile: SrtpProfile) -> None:
        assert len(key) == profile.key_bytes + profile.salt_bytes, "the key was exported for another profile"
        self.kernel = srtp.SrtpSender(key, profile.name)
        """The state that other kernels (the fan-out) protect with: rollover counters are kept once."""

    def protect_rtp(self, packet: bytes) -> bytes:
        """RTP → SRTP. Raises `SrtpError` when it is no RTP packet or over 1900 bytes."""
        try:
            return self.kernel.protect_rtp(packet)
        except srtp.SrtpFailure as failure:
            raise SrtpError(str(failure)) from None

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Compound or reduced-size RTCP → SRTCP. Raises `SrtpError` as `protect_rtp` does."""
        try:
            return self.kernel.protect_rtcp(packet)
        except srtp.SrtpFailure as failure:
            raise SrtpError(str(failure)) from None


class SrtpReceiver:
    """Opens what the peer sends. `key` is the peer's master key followed by its master salt."""

    __slots__ = ("_kernel",)

    def __init__(self, key: bytes, profile: SrtpProfile) -> None:
        assert len(key) == profile.key_bytes + profile.salt_bytes, "the key was exported for another profile"
        self._kernel = srtp.SrtpReceiver(key, profile.name)

    def unprotect_rtp(self, packet: bytes) -> bytes:
        """SRTP → RTP. Raises `SrtpError` for what is forged, replayed, too old or no SRTP at all."""
        try:
            return self._kernel.unprotect_rtp(packet)
        except srtp.SrtpFailure as failure:
            raise SrtpError(str(failure)) from None

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """SRTCP → RTCP. Raises `SrtpError` as `unprotect_rtp` does."""
        try:
            return self._kernel.unprotect_rtcp(packet)
        except srtp.SrtpFailure as failure:
            raise SrtpError(str(failure)) from None
