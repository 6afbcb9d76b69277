"""The ICE-lite agent of one session (RFC 8445 §2.5): credentials, the client's addresses, where to send.

In: connectivity checks with the address each came from, and word of other packets of the
client that proved authentic. Out: replies, and the address to send to. It does not know
sockets, DTLS or SRTP, and believes nothing that is not signed.

The client makes the checks, we only answer. Whoever signs a check with our password is the
client, so its address is learned. Where we send moves

- with the first valid check, which saves a round trip and tells a stranger nothing;
- when the client nominates (USE-CANDIDATE);
- to another checked address, once the chosen one has been silent while authentic packets come
  from there. A client whose NAT gives it another port may never nominate again: for its own ICE
  the pair is the same as before.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

from .addresses import Address, bare
from .stun import BindingRequest, binding_response, verify

MAX_ADDRESSES = 8  # a client has a few interfaces, and a mapping of its NAT for each
SILENCE = 2.0  # seconds; browsers check a nominated pair at least each 2.5 s and report each second
FOLLOWED_PACKETS = 2  # from the other address within that silence: one may be a late check of a spare pair
OLD_CREDENTIALS = 10.0  # seconds that those before an ICE restart stay valid without a check under the new

CREDENTIAL_BYTES = 24
"""How many random bytes `make_credentials` takes."""
_UFRAG_BYTES = 6
_MAX_UFRAG_CHARACTERS = 256  # RFC 8839 §5.4
_ICE_CHARACTERS = re.compile(r"[A-Za-z0-9+/]*")  # RFC 8839 §5.4: exactly the alphabet of base64


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """What our session description tells the client to sign its checks with."""

    ufrag: str
    password: str = field(repr=False)


def make_credentials(rng_bytes: bytes, prefix: str = "") -> IceCredentials:
    """Credentials out of `CREDENTIAL_BYTES` random bytes from the operating system.

    48 bits name the session and 144 keep its secret (RFC 8445 §5.3 asks for 24
    and 128). `prefix`, of ICE characters only, stands before the name.
    """
    if len(rng_bytes) < CREDENTIAL_BYTES:
        raise ValueError(f"{CREDENTIAL_BYTES} random bytes are needed")
    name, secret = rng_bytes[:_UFRAG_BYTES], rng_bytes[_UFRAG_BYTES:CREDENTIAL_BYTES]
    ufrag = prefix + base64.b64encode(name).decode()
    if not _ICE_CHARACTERS.fullmatch(prefix) or len(ufrag) > _MAX_UFRAG_CHARACTERS:
        raise ValueError("the prefix is too long or has characters that ICE does not allow")
    return IceCredentials(ufrag, base64.b64encode(secret).decode())


class IceLite:
    """Our end of the session's one ICE stream."""

    def __init__(self, credentials: IceCredentials) -> None:
        self.credentials = credentials
        """The newest ones, which an answer names."""
        self.address: Address | None = None
        """Where to send. None before the first valid check."""
        self.checks = 0
        """Valid ones."""
        self.forged_checks = 0
        self.followed = 0
        """Moves to an address that was not nominated."""
        self._old: IceCredentials | None = None  # of before a restart
        self._old_until: float | None = None
        self._addresses: dict[Address, None] = {}  # the longest unused first
        self._heard_at = 0.0  # the chosen address, by an authentic packet
        self._heard_others: dict[Address, int] = {}  # authentic packets since then, by address

    @property
    def ufrags(self) -> tuple[str, ...]:
        """The names that the client's checks may call us by: one, or two during a restart."""
        old = self._old
        return (self.credentials.ufrag,) if old is None else (self.credentials.ufrag, old.ufrag)

    @property
    def addresses(self) -> frozenset[Address]:
        """Where the client may send from, at most `MAX_ADDRESSES`. Changes only in `handle_check`."""
        return frozenset(self._addresses)

    def knows(self, address: Address) -> bool:
        """Whether a valid check came from *address*."""
        return address in self._addresses

    @property
    def heard_at(self) -> float:
        """When the last authentic packet came from the chosen address."""
        return self._heard_at

    def authenticates(self, request: BindingRequest) -> bool:
        """Whether *request* is from our client; changes nothing."""
        return self._credentials_of(request) is not None

    def handle_check(self, request: BindingRequest, address: Address, now: float) -> bytes | None:
        """The reply to a check from *address*; None for one that is not from our client."""
        credentials = self._credentials_of(request)
        if credentials is None:
            self.forged_checks += 1
            return None
        self.checks += 1
        if credentials is self.credentials:
            self._old = self._old_until = None  # the client has the new ones
        self._learn(address)
        if request.use_candidate or self.address is None:
            self._choose(address, now)
        else:
            self.note_authentic(address, now)
        return binding_response(request, credentials.password, bare(address))

    def note_authentic(self, address: Address, now: float) -> None:
        """A packet that nobody but the client can have made came from *address*."""
        if address == self.address:
            self._heard_at = now
            if self._heard_others:
                self._heard_others.clear()
        elif address in self._addresses:
            count = self._heard_others[address] = self._heard_others.get(address, 0) + 1
            if now - self._heard_at >= SILENCE and count >= FOLLOWED_PACKETS:
                self.followed += 1
                self._choose(address, now)

    def restart(self, credentials: IceCredentials, now: float) -> None:
        """Take new credentials (RFC 8445 §9); the old ones stay valid for a while, and nothing else changes.

        Of several restarts without a check in between, the last and what was before the first count.
        """
        if self._old is None:
            self._old = self.credentials
        self._old_until = now + OLD_CREDENTIALS
        self.credentials = credentials

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`; None: not as it stands."""
        return self._old_until

    def handle_timeout(self, now: float) -> None:
        """Forget the credentials of before a restart, when their time is over."""
        if self._old_until is not None and now >= self._old_until:
            self._old = self._old_until = None

    def debug_state(self) -> dict[str, object]:
        """What an operator wants to see; no secrets."""
        return {
            "ufrags": list(self.ufrags),
            "address": self.address,
            "addresses": list(self._addresses),
            "checks": self.checks,
            "forged_checks": self.forged_checks,
            "followed": self.followed,
        }

    def _credentials_of(self, request: BindingRequest) -> IceCredentials | None:
        ufrag = request.local_ufrag
        for credentials in (self.credentials, self._old):
            if credentials is not None and credentials.ufrag == ufrag:
                return credentials if verify(request, credentials.password) else None
        return None

    def _learn(self, address: Address) -> None:
        """Make `address` the newest of those the client uses; forget the oldest beyond the bound."""
        self._addresses.pop(address, None)
        self._addresses[address] = None
        if len(self._addresses) > MAX_ADDRESSES:
            oldest = next(known for known in self._addresses if known != self.address)
            del self._addresses[oldest]
            self._heard_others.pop(oldest, None)

    def _choose(self, address: Address, now: float) -> None:
        self.address = address
        self._heard_at = now
        self._heard_others.clear()
