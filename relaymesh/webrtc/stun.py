"""STUN Binding messages, as far as an ICE-lite agent needs them.

In: one datagram whose first byte is 0..3 (RFC 7983), and the passwords of the
sessions. Out: a parsed request, whether its integrity holds, the reply. It does
not know sessions, sockets or time, and never keeps state.

Message, RFC 8489 §5, big-endian: u16 type | u16 length of what follows the
header | u32 magic cookie | 12 bytes transaction id | attributes, each
u16 type | u16 length | value padded to a multiple of 4.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import StunError

__all__ = [
    "BindingRequest",
    "BindingResponse",
    "binding_response",
    "build_binding_request",
    "parse_binding_request",
    "parse_binding_response",
    "verify",
]

_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")

_MAGIC_COOKIE = 0x2112A442
_BINDING_REQUEST = 0x0001
_BINDING_RESPONSE = 0x0101

_USERNAME = 0x0006
_MESSAGE_INTEGRITY = 0x0008
_XOR_MAPPED_ADDRESS = 0x0020
_PRIORITY = 0x0024
_USE_CANDIDATE = 0x0025
_FINGERPRINT = 0x8028
_ICE_CONTROLLING = 0x802A

_INTEGRITY_BYTES = 20  # HMAC-SHA1
_FINGERPRINT_XOR = 0x5354554E  # RFC 8489 §14.7: "STUN"
_MAX_USERNAME_BYTES = 508  # RFC 8489 §14.3
# An ICE check is about 100 bytes. Past an ordinary datagram it is not one, and
# must not make us hash 64 kB before we know the sender.
_MAX_MESSAGE_BYTES = 1500


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """One ICE connectivity check, well-formed but not yet authenticated: see `verify`."""

    transaction_id: bytes
    """12 bytes, echoed in the reply."""
    username: str
    """"receiver's ufrag:sender's ufrag" (RFC 8445 §7.2.2)."""
    use_candidate: bool
    """The controlling side nominates this pair (RFC 8445 §7.1.2)."""
    data: bytes
    """The whole datagram, which the integrity check covers."""
    integrity_at: int
    """Offset in `data` of the MESSAGE-INTEGRITY attribute, bytes."""

    @property
    def local_ufrag(self) -> str:
        """The user name fragment of the side that received the request."""
        return self.username.partition(":")[0]


@dataclass(frozen=True, slots=True)
class BindingResponse:
    """The answer to a check, authenticated."""

    transaction_id: bytes
    """12 bytes, as in the request."""
    address: tuple[str, int]
    """Where the responder saw the request come from: host, UDP port."""


def parse_binding_request(data: bytes) -> BindingRequest:
    """Decode a Binding request with USERNAME and MESSAGE-INTEGRITY.

    A FINGERPRINT may be missing, but not wrong. Unknown attributes are passed
    over: browsers add private ones. Raises `StunError` for anything else.
    """
    transaction_id, found = _parse(data, _BINDING_REQUEST)
    if _MESSAGE_INTEGRITY not in found:
        raise StunError("no MESSAGE-INTEGRITY")
    offset, size = found.get(_USERNAME, (0, 0))
    if not 0 < size <= _MAX_USERNAME_BYTES:
        raise StunError("USERNAME is missing, empty or too long")
    try:
        username = data[offset : offset + size].decode()
    except UnicodeDecodeError:
        raise StunError("USERNAME is not UTF-8") from None
    integrity_at = found[_MESSAGE_INTEGRITY][0] - _ATTRIBUTE.size
    return BindingRequest(transaction_id, username, _USE_CANDIDATE in found, data, integrity_at)


def verify(request: BindingRequest, password: str) -> bool:
    """Whether the request was made by someone who knows `password` (RFC 8489 §14.5)."""
    return _integrity_holds(request.data, request.integrity_at, password)


def binding_response(request: BindingRequest, password: str, address: tuple[str, int]) -> bytes:
    """The success response to `request`, which came from `address` (host, UDP port).

    Host is an IPv4 or IPv6 literal; a scope id is cut off, and an IPv4-mapped
    IPv6 address (a dual-stack socket's view) is told as the IPv4 address that
    the client itself knows.
    """
    body = _attribute(_XOR_MAPPED_ADDRESS, _xor_address(address, request.transaction_id))
    return _sealed(_BINDING_RESPONSE, request.transaction_id, body, password)


def build_binding_request(
    *,
    username: str,
    password: str,
    transaction_id: bytes,
    use_candidate: bool = False,
    priority: int = 0x6E0001FF,
    tie_breaker: int = 0,
) -> bytes:
    """A check as the controlling side sends it to an ICE-lite agent (RFC 8445 §7.2.2).

    `username` and `password` are the receiver's; `transaction_id` is 12 random
    bytes, `priority` is 32 bits, `tie_breaker` 64 bits.
    """
    body = _attribute(_USERNAME, username.encode())
    body += _attribute(_PRIORITY, priority.to_bytes(4, "big"))
    body += _attribute(_ICE_CONTROLLING, tie_breaker.to_bytes(8, "big"))
    if use_candidate:
        body += _attribute(_USE_CANDIDATE, b"")
    return _sealed(_BINDING_REQUEST, transaction_id, body, password)


def parse_binding_response(data: bytes, password: str) -> BindingResponse:
    """Decode a success response and check its integrity. Raises `StunError`."""
    transaction_id, found = _parse(data, _BINDING_RESPONSE)
    if _MESSAGE_INTEGRITY not in found or _XOR_MAPPED_ADDRESS not in found:
        raise StunError("no MESSAGE-INTEGRITY or no XOR-MAPPED-ADDRESS")
    if not _integrity_holds(data, found[_MESSAGE_INTEGRITY][0] - _ATTRIBUTE.size, password):
        raise StunError("the integrity check failed")
    offset, size = found[_XOR_MAPPED_ADDRESS]
    return BindingResponse(transaction_id, _unxor_address(data[offset : offset + size], transaction_id))


def _parse(data: bytes, expected_type: int) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """Check the framing; give the transaction id and attribute type → (value offset, length)."""
    if not _HEADER.size <= len(data) <= _MAX_MESSAGE_BYTES:
        raise StunError("not a possible length")
    message_type, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if message_type != expected_type:
        raise StunError(f"message type {message_type:#06x}")
    if cookie != _MAGIC_COOKIE:
        raise StunError("no magic cookie")
    if length & 3 or _HEADER.size + length != len(data):
        raise StunError("the length field does not fit the datagram")
    found: dict[int, tuple[int, int]] = {}
    for kind, offset, size in _attributes(data):
        # What follows MESSAGE-INTEGRITY is not covered by it: only FINGERPRINT
        # counts there (RFC 8489 §14.5), else anyone could add USE-CANDIDATE.
        if _MESSAGE_INTEGRITY in found and kind != _FINGERPRINT:
            continue
        found.setdefault(kind, (offset, size))  # RFC 8489 §5: the first of several counts
        if kind == _MESSAGE_INTEGRITY and size != _INTEGRITY_BYTES:
            raise StunError("MESSAGE-INTEGRITY of a wrong length")
        if kind == _FINGERPRINT:
            _check_fingerprint(data, offset, size)
    return transaction_id, found


def _attributes(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, offset of the value and its length without padding, for each attribute."""
    offset, end = _HEADER.size, len(data)
    while offset < end:
        kind, size = _ATTRIBUTE.unpack_from(data, offset)  # fits: everything is a multiple of 4
        offset += _ATTRIBUTE.size
        if offset + size > end:
            raise StunError("an attribute is longer than the message")
        yield kind, offset, size
        offset += _padded(size)


def _check_fingerprint(data: bytes, offset: int, size: int) -> None:
    if size != 4 or offset + size != len(data):
        raise StunError("FINGERPRINT is not the last attribute, or not of 4 bytes")
    claimed = int.from_bytes(data[offset:], "big")
    if claimed != _fingerprint(data[: offset - _ATTRIBUTE.size]):
        raise StunError("FINGERPRINT does not match")


def _sealed(message_type: int, transaction_id: bytes, body: bytes, password: str) -> bytes:
    """A whole message: header, body, MESSAGE-INTEGRITY and FINGERPRINT."""
    integrity_bytes = _ATTRIBUTE.size + _INTEGRITY_BYTES
    covered_length = len(body) + integrity_bytes
    message = _HEADER.pack(message_type, covered_length, _MAGIC_COOKIE, transaction_id) + body
    message += _attribute(_MESSAGE_INTEGRITY, hmac.digest(password.encode(), message, hashlib.sha1))
    # The fingerprint covers the final length, the integrity one without the fingerprint.
    message = message[:2] + struct.pack("!H", covered_length + 8) + message[4:]
    return message + _attribute(_FINGERPRINT, _fingerprint(message).to_bytes(4, "big"))


def _integrity_holds(data: bytes, integrity_at: int, password: str) -> bool:
    end = integrity_at + _ATTRIBUTE.size + _INTEGRITY_BYTES
    covered = data[:2] + struct.pack("!H", end - _HEADER.size) + data[4:integrity_at]
    expected = hmac.digest(password.encode(), covered, hashlib.sha1)
    return hmac.compare_digest(expected, data[end - _INTEGRITY_BYTES : end])


def _fingerprint(covered: bytes) -> int:
    return zlib.crc32(covered) ^ _FINGERPRINT_XOR


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value.ljust(_padded(len(value)), b"\0")


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _xor_address(address: tuple[str, int], transaction_id: bytes) -> bytes:
    """RFC 8489 §14.2: u8 zero | u8 family | u16 port ^ cookie | address ^ (cookie + transaction id)."""
    host = ipaddress.ip_address(address[0].partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    family = 1 if host.version == 4 else 2
    port = address[1] ^ (_MAGIC_COOKIE >> 16)
    return struct.pack("!BBH", 0, family, port) + _mask(host.packed, transaction_id)


def _unxor_address(value: bytes, transaction_id: bytes) -> tuple[str, int]:
    if len(value) not in (8, 20) or value[1] != (1 if len(value) == 8 else 2):
        raise StunError("XOR-MAPPED-ADDRESS of an unknown family or a wrong length")
    host = ipaddress.ip_address(_mask(value[4:], transaction_id))
    return str(host), int.from_bytes(value[2:4], "big") ^ (_MAGIC_COOKIE >> 16)


def _mask(packed: bytes, transaction_id: bytes) -> bytes:
    key = _MAGIC_COOKIE.to_bytes(4, "big") + transaction_id
    return bytes(a ^ b for a, b in zip(packed, key, strict=False))
