"""SRTP as the RFCs write it, from AES and HMAC of `cryptography`: what both kernels are held against.

Slow and stateless: the caller says the index. It does not know replay windows, sizes or streams.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def counter_mode(key: bytes, counter: int, data: bytes) -> bytes:
    """AES in counter mode from the 128 bit *counter*, RFC 3711 § 4.1.1."""
    return Cipher(algorithms.AES(key), modes.CTR(counter.to_bytes(16))).encryptor().update(data)


def derive(master_key: bytes, master_salt: bytes, label: int, size: int) -> bytes:
    """A session key, RFC 3711 § 4.3.1 with a derivation rate of 0; salts of 12 bytes as in RFC 7714 § 11."""
    salt = int.from_bytes(master_salt.ljust(14, b"\0"))
    return counter_mode(master_key, (salt ^ label << 48) << 16, bytes(size))


@dataclass(frozen=True)
class Session:
    """The session keys of RTP, or of RTCP."""

    key: bytes
    salt: bytes
    auth_key: bytes = b""  # counter mode only

    @classmethod
    def of(cls, master: bytes, profile: str, *, rtcp: bool = False) -> Session:
        first = 3 if rtcp else 0  # labels, RFC 3711 § 4.3.2
        size = 32 if "256" in profile else 16
        key, salt = master[:size], master[size:]
        return cls(
            derive(key, salt, first, size),
            derive(key, salt, first + 2, len(salt)),
            derive(key, salt, first + 1, 20) if "SHA1" in profile else b"",
        )

    def seal(self, ssrc: bytes, index: int, clear: bytes, plain: bytes, behind: bytes = b"") -> bytes:
        """*clear*, *plain* encrypted, its tag; for counter mode *behind* is authenticated too.

        Args:
            ssrc: 4 bytes.
            index: of the packet, 48 bits with the rollover counter, or 31 of SRTCP.
            clear: the header as it stays.
            plain: what is encrypted.
            behind: counter mode: what follows under the tag; GCM: what is appended to the associated data.
        """
        if not self.auth_key:  # RFC 7714 § 8.1, 9.1
            iv = int.from_bytes(ssrc) << 48 ^ index ^ int.from_bytes(self.salt)
            return clear + AESGCM(self.key).encrypt(iv.to_bytes(12), plain, clear + behind)
        counter = int.from_bytes(self.salt) << 16 ^ int.from_bytes(ssrc) << 64 ^ index << 16
        sealed = clear + counter_mode(self.key, counter, plain)
        return sealed + hmac.digest(self.auth_key, sealed + behind, "sha1")[:10]

    def protect_rtp(self, packet: bytes, roc: int, header: int = 12) -> bytes:
        """*packet*, whose first *header* bytes stay clear, as SRTP."""
        index = roc << 16 | int.from_bytes(packet[2:4])
        behind = roc.to_bytes(4) if self.auth_key else b""
        return self.seal(packet[8:12], index, packet[:header], packet[header:], behind)

    def protect_rtcp(self, packet: bytes, index: int) -> bytes:
        """*packet* as encrypted SRTCP."""
        word = (1 << 31 | index).to_bytes(4)
        sealed = self.seal(packet[4:8], index, packet[:8], packet[8:], word)
        if self.auth_key:
            return sealed[:-10] + word + sealed[-10:]
        return sealed + word
