"""SRTP and SRTCP of one session, a sender and a receiver, on libsrtp.

In: a plain RTP or RTCP packet and the keys of a DTLS handshake; out: the
protected packet, and back. It does not know DTLS, sockets, time, or what the
packets mean. This is the busiest code of an edge: it runs once per packet and
subscriber.

libsrtp is called through pylibsrtp's compiled binding and not through its
`Session.protect`, because that one refuses packets over 1356 bytes (a 1500 byte
buffer less the longest trailer) and allocates a length cell for each call. The
binding is private to pylibsrtp: should it have moved, `Session` is used, with
its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pylibsrtp

from .errors import SrtpError

try:
    from pylibsrtp._binding import ffi, lib

    DIRECT_BINDING = all(
        hasattr(lib, name)
        for name in ("srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp")
    )
    """Whether libsrtp can be called on a buffer of our own."""
except ImportError:  # pragma: no cover - a pylibsrtp of another shape
    ffi = lib = None
    DIRECT_BINDING = False

__all__ = ["DIRECT_BINDING", "PROFILES", "SrtpProfile", "SrtpReceiver", "SrtpSender"]

_BUFFER_BYTES = 2048  # an Ethernet frame and the longest trailer, with room
_LONGEST_TRAILER_BYTES = 4 + 16 + 128  # SRTCP index, tag, MKI: libsrtp writes no further
_RTP_HEADER_BYTES = 12  # RFC 3550 §5.1
_RTCP_HEADER_BYTES = 8  # with the sender's SSRC, RFC 3550 §6.4
_REPLAY_WINDOW = 1024  # packets; RFC 3711 §3.3.2 asks for 64, a retransmission may come much later
# Each SSRC that a peer uses costs libsrtp a stream that it never frees and must
# search through. A browser uses six per simulcast track.
_MAX_STREAMS = 256

# The libsrtp statuses that a peer can cause; the rest are told by number.
_STATUS = {2: "bad parameter", 7: "authentication failed", 9: "replayed", 10: "too old"}

_Operation = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class SrtpProfile:
    """One DTLS-SRTP protection profile (RFC 5764 §4.1.2, RFC 7714 §14.2)."""

    name: str
    """As in the IANA registry, without "SRTP_"."""
    openssl_name: bytes
    """What OpenSSL calls it in the use_srtp extension."""
    library_id: int
    """What libsrtp calls it."""
    key_bytes: int
    """Length of the master key."""
    salt_bytes: int
    """Length of the master salt."""


# In our order of preference. AES-128-GCM first: the cheapest on any processor
# with AES instructions, and as a DTLS server OpenSSL follows this order.
PROFILES: tuple[SrtpProfile, ...] = (
    SrtpProfile(
        "AEAD_AES_128_GCM", b"SRTP_AEAD_AES_128_GCM", pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12
    ),
    SrtpProfile(
        "AEAD_AES_256_GCM", b"SRTP_AEAD_AES_256_GCM", pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12
    ),
    SrtpProfile(
        "AES128_CM_SHA1_80",
        b"SRTP_AES128_CM_SHA1_80",
        pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        16,
        14,
    ),
)


class SrtpSender:
    """Protects what we send. `key` is the master key followed by the master salt."""

    __slots__ = ("_protect_rtcp", "_protect_rtp", "_session")

    def __init__(self, key: bytes, profile: SrtpProfile, *, direct: bool = DIRECT_BINDING) -> None:
        session = _session(key, profile, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._session = session  # owns the memory that the direct calls point into
        if direct:
            self._protect_rtp = _direct(session, lib.srtp_protect, _RTP_HEADER_BYTES, _LONGEST_TRAILER_BYTES)
            self._protect_rtcp = _direct(
                session, lib.srtp_protect_rtcp, _RTCP_HEADER_BYTES, _LONGEST_TRAILER_BYTES
            )
        else:
            self._protect_rtp = _indirect(session.protect)
            self._protect_rtcp = _indirect(session.protect_rtcp)

    def protect_rtp(self, packet: bytes) -> bytes:
        """RTP → SRTP. Raises `SrtpError` when it is no RTP packet or over 1900 bytes."""
        return self._protect_rtp(packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Compound or reduced-size RTCP → SRTCP. Raises `SrtpError` as `protect_rtp` does."""
        return self._protect_rtcp(packet)


class SrtpReceiver:
    """Opens what the peer sends. `key` is the peer's master key followed by its master salt."""

    __slots__ = ("_session", "_streams", "_unprotect_rtcp", "_unprotect_rtp")

    def __init__(self, key: bytes, profile: SrtpProfile, *, direct: bool = DIRECT_BINDING) -> None:
        session = _session(key, profile, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self._session = session  # owns the memory that the direct calls point into
        self._streams: set[bytes] = set()  # SSRCs that libsrtp keeps a stream for
        if direct:
            self._unprotect_rtp = _direct(session, lib.srtp_unprotect, _RTP_HEADER_BYTES, 0)
            self._unprotect_rtcp = _direct(session, lib.srtp_unprotect_rtcp, _RTCP_HEADER_BYTES, 0)
        else:
            self._unprotect_rtp = _indirect(session.unprotect)
            self._unprotect_rtcp = _indirect(session.unprotect_rtcp)

    def unprotect_rtp(self, packet: bytes) -> bytes:
        """SRTP → RTP. Raises `SrtpError` for what is forged, replayed, too old or no SRTP at all."""
        ssrc = packet[8:12]
        if ssrc in self._streams:
            return self._unprotect_rtp(packet)
        return self._first_of(ssrc, self._unprotect_rtp, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """SRTCP → RTCP. Raises `SrtpError` as `unprotect_rtp` does."""
        ssrc = packet[4:8]
        if ssrc in self._streams:
            return self._unprotect_rtcp(packet)
        return self._first_of(ssrc, self._unprotect_rtcp, packet)

    def _first_of(self, ssrc: bytes, unprotect: _Operation, packet: bytes) -> bytes:
        if len(self._streams) >= _MAX_STREAMS:
            raise SrtpError("too many SSRCs")
        plain = unprotect(packet)
        self._streams.add(ssrc)  # only now: before, it may be a stranger's invention
        return plain


def _session(key: bytes, profile: SrtpProfile, direction: int) -> pylibsrtp.Session:
    assert len(key) == profile.key_bytes + profile.salt_bytes, "the key was exported for another profile"
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=profile.library_id)
    # A player that asks for a lost packet again may get the very packet once
    # more, when it has no separate stream for retransmissions (RFC 4588).
    policy.allow_repeat_tx = True
    policy.window_size = _REPLAY_WINDOW
    return pylibsrtp.Session(policy)


def _direct(session: pylibsrtp.Session, function: Any, shortest: int, trailer: int) -> _Operation:
    """`function` of libsrtp, in place in a buffer that is made once. The caller keeps `session` alive."""
    buffer = ffi.new("char[]", _BUFFER_BYTES)
    view = ffi.buffer(buffer)
    length = ffi.new("int *")
    state = session._srtp[0]
    longest = _BUFFER_BYTES - trailer

    def operation(packet: bytes) -> bytes:
        size = len(packet)
        if not shortest <= size <= longest:  # below, libsrtp would read what the last packet left
            raise SrtpError("the packet is too short or too long")
        view[0:size] = packet
        length[0] = size
        status = function(state, buffer, length)
        if status:
            raise SrtpError(_STATUS.get(status, f"libsrtp status {status}"))
        return view[0 : length[0]]  # type: ignore[no-any-return]

    return operation


def _indirect(method: Callable[[bytes], bytes]) -> _Operation:
    """`method` of the public Session, with its errors turned into ours."""

    def operation(packet: bytes) -> bytes:
        try:
            return method(packet)
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(str(error)) from None

    return operation
