"""SRTP and SRTCP of one session, a sender and a receiver, on libsrtp: the reference kernel.

In: a plain RTP or RTCP packet and the keys of a DTLS handshake; out: the
protected packet, and back. It does not know DTLS, sockets, time, or what the
packets mean. Where this kernel serves it is the busiest code of an edge: it runs
once per packet and subscriber.

libsrtp is called through pylibsrtp's compiled binding and not through its
`Session.protect`, because that one refuses packets over 1356 bytes (a 1500 byte
buffer less the longest trailer) and allocates a length cell for each call. The
binding is private to pylibsrtp: should it have moved, `Session` is used, with
its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pylibsrtp

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

# IANA's name without "SRTP_" → libsrtp's number, bytes of master key and master salt together
_PROFILES = {
    "AEAD_AES_128_GCM": (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16 + 12),  # RFC 7714 § 12
    "AEAD_AES_256_GCM": (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32 + 12),
    "AES128_CM_SHA1_80": (pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16 + 14),  # RFC 5764 § 4.1.2
}


class SrtpFailure(ValueError):
    """A packet could not be protected or opened; the message says why."""


class SrtpSender:
    """Protects what we send. `key` is the master key followed by the master salt.

    Raises:
        ValueError: an unknown profile, or a key of another length than its.
    """

    __slots__ = ("_protect_rtcp", "_protect_rtp", "_session")

    def __init__(self, key: bytes, profile: str, *, direct: bool = DIRECT_BINDING) -> None:
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
        """RTP → SRTP. Raises `SrtpFailure` when it is no RTP packet or over 1900 bytes."""
        return self._protect_rtp(packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Compound or reduced-size RTCP → SRTCP. Raises `SrtpFailure` as `protect_rtp` does."""
        return self._protect_rtcp(packet)


class SrtpReceiver:
    """Opens what the peer sends. `key` is the peer's master key followed by its master salt.

    Raises:
        ValueError: an unknown profile, or a key of another length than its.
    """

    __slots__ = ("_session", "_streams", "_unprotect_rtcp", "_unprotect_rtp")

    def __init__(self, key: bytes, profile: str, *, direct: bool = DIRECT_BINDING) -> None:
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
        """SRTP → RTP. Raises `SrtpFailure` for what is forged, replayed, too old or no SRTP at all."""
        ssrc = packet[8:12]
        if ssrc in self._streams:
            return self._unprotect_rtp(packet)
        return self._first_of(ssrc, self._unprotect_rtp, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """SRTCP → RTCP. Raises `SrtpFailure` as `unprotect_rtp` does."""
        ssrc = packet[4:8]
        if ssrc in self._streams:
            return self._unprotect_rtcp(packet)
        return self._first_of(ssrc, self._unprotect_rtcp, packet)

    def _first_of(self, ssrc: bytes, unprotect: _Operation, packet: bytes) -> bytes:
        if len(self._streams) >= _MAX_STREAMS:
            raise SrtpFailure("too many SSRCs")
        plain = unprotect(packet)
        self._streams.add(ssrc)  # only now: before, it may be a stranger's invention
        return plain


def _session(key: bytes, profile: str, direction: int) -> pylibsrtp.Session:
    if profile not in _PROFILES:
        raise ValueError(f"no SRTP profile {profile!r}")
    library_id, key_bytes = _PROFILES[profile]
    if len(key) != key_bytes:
        raise ValueError(f"a key for {profile} has {key_bytes} bytes, not {len(key)}")
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=library_id)
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
            raise SrtpFailure("the packet is too short or too long")
        view[0:size] = packet
        length[0] = size
        status = function(state, buffer, length)
        if status:
            raise SrtpFailure(_STATUS.get(status, f"libsrtp status {status}"))
        return view[0 : length[0]]  # type: ignore[no-any-return]

    return operation


def _indirect(method: Callable[[bytes], bytes]) -> _Operation:
    """`method` of the public Session, with its errors turned into ours."""

    def operation(packet: bytes) -> bytes:
        try:
            return method(packet)
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpFailure(str(error)) from None

    return operation
