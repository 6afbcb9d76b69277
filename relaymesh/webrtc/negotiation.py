"""The negotiation of one session, as its answering end: the client offers, always.

In: offers as text with `now`, what the node decided about each, and our credentials. Out: what
an offer changes, and answers as text. It knows no transport, no media and no HTTP; who makes
one session with one offer (WHIP, WHEP) and who renegotiates for hours use it alike.

    stable ──offer──▶ have-remote-offer ──answer──▶ stable
                      have-remote-offer ──reject──▶ stable, with all as it was
    stable ──fragment──▶ stable
    any state ──close──▶ closed

Since only one end offers there is no glare, and no rollback but `reject`. What is absent from
the table is an error that leaves everything as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from relaymesh.webrtc.answer import AnswerSection, build_answer
from relaymesh.webrtc.errors import NegotiationError, SdpError
from relaymesh.webrtc.offer_changes import AgreedSection, Offered, agree, compare, restarts_ice
from relaymesh.webrtc.sdp import SessionDescription, parse_offer
from relaymesh.webrtc.sdp_fragment import parse_fragment

__all__ = ["INPUTS", "STATES", "TRANSITIONS", "Input", "Negotiation", "Offered", "State"]

State = Literal["stable", "have-remote-offer", "closed"]
Input = Literal["offer", "answer", "reject", "fragment", "close"]

STATES: tuple[State, ...] = ("stable", "have-remote-offer", "closed")
INPUTS: tuple[Input, ...] = ("offer", "answer", "reject", "fragment", "close")
TRANSITIONS: dict[tuple[State, Input], State] = {
    ("stable", "offer"): "have-remote-offer",
    ("have-remote-offer", "answer"): "stable",
    ("have-remote-offer", "reject"): "stable",
    ("stable", "fragment"): "stable",
    ("stable", "close"): "closed",
    ("have-remote-offer", "close"): "closed",
    ("closed", "close"): "closed",
}

# An offer costs us some milliseconds and a client a line of code. A page that adds the tracks of
# everybody in a room one by one needs some at once; nobody needs many for long.
OFFERS_AT_ONCE = 20
OFFERS_PER_SECOND = 2.0


class Negotiation:
    """Offers and answers of one session; *session_id* (63 bits) goes into o= of every answer."""

    def __init__(self, session_id: int, now: float) -> None:
        self.state: State = "stable"
        self.version = 0
        """Of the last answer, 0 before the first. Rises by one with each (RFC 8829 §5.3.2)."""
        self.offer: SessionDescription | None = None
        """The last one that was answered."""
        self.sections: tuple[AgreedSection, ...] = ()
        """What is agreed on, by index."""
        self.dtls_role: Literal["server", "client"] | None = None
        """Ours; settled by the first answer for as long as the session lasts."""
        self.refused: Counter[str] = Counter()
        """Offers and calls that raised, by the error's kind."""
        self._session_id = session_id
        self._pending: SessionDescription | None = None
        self._tokens = float(OFFERS_AT_ONCE)
        self._counted_at = now

    def handle_offer(self, text: str, now: float) -> Offered:
        """Take an offer; `answer` or `reject` must follow before the next.

        Raises:
            NegotiationError: of any kind; nothing changed but the tokens that are left.
        """
        try:
            state = self._next("offer")
            self._take_token(now)
            offered = self._compare(_parse(text))
        except NegotiationError as error:
            self.refused[error.kind] += 1
            raise
        self.state, self._pending = state, offered.offer
        return offered

    def handle_fragment(self, text: str, now: float, *, may_restart: bool = True) -> bool:
        """Take an ICE fragment of the client (RFC 9725 §4.3). True: it restarts ICE, where it *may_restart*.

        Then new credentials of ours must go to the transport and to the client, by `build_fragment`.
        False: it has candidates at most, which a lite agent does not need.

        Raises:
            NegotiationError: of any kind; nothing changed but the tokens that are left.
        """
        try:
            state = self._next("fragment")
            self._take_token(now)
            offer, credentials = self.offer, _parse_fragment(text)
            if offer is None:
                raise NegotiationError("no fragment before the first offer", kind="state")
            if credentials is None:
                return False
            ufrag, password = credentials
            fresh = replace(offer, ice_ufrag=ufrag, ice_password=password)
            restart = restarts_ice(offer, fresh)
            if restart and not may_restart:
                raise NegotiationError("this would restart ICE", kind="precondition")
        except NegotiationError as error:
            self.refused[error.kind] += 1
            raise
        self.state, self.offer = state, fresh
        return restart

    def answer(
        self,
        sections: Sequence[AnswerSection],
        *,
        ufrag: str,
        password: str,
        fingerprint: str,
        addresses: Sequence[tuple[str, int]],
    ) -> str:
        """The answer to the offer: one of *sections* for each of its sections, in its order.

        *addresses* are those under which clients reach us, the preferred first. After an ICE restart
        *ufrag* and *password* must be new ones; else the same as before.
        """
        state = self._next_of_ours("answer")
        offer = self._pending
        assert offer is not None, "an offer is pending in this state"
        role = self.dtls_role or offer.dtls_role
        text = build_answer(
            offer,
            sections,
            ufrag=ufrag,
            password=password,
            fingerprint=fingerprint,
            host=addresses[0][0],
            port=addresses[0][1],
            further_addresses=addresses[1:],
            session_id=self._session_id,
            version=self.version + 1,
            dtls_role=role,
        )
        past = [*self.sections, *[None] * (len(sections) - len(self.sections))]
        self.sections = tuple(
            agree(media, section.accepted, before)
            for media, section, before in zip(offer.media, sections, past, strict=True)
        )
        self.state, self.offer, self._pending = state, offer, None
        self.version += 1
        self.dtls_role = role
        return text

    def reject(self) -> None:
        """Drop the offer: what was agreed on before it stands."""
        self.state = self._next_of_ours("reject")
        self._pending = None

    def close(self) -> None:
        """Take no more offers; idempotent."""
        self.state = self._next_of_ours("close")
        self._pending = None

    def debug_state(self) -> dict[str, object]:
        """What an operator wants to see."""
        return {
            "state": self.state,
            "version": self.version,
            "dtls_role": self.dtls_role,
            "sections": [f"{s.mid} {s.kind} {s.direction if s.live else 'stopped'}" for s in self.sections],
            "refused": dict(self.refused),
        }

    def _next(self, event: Input) -> State:
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            fault: Literal["client", "node"] = "client" if event in ("offer", "fragment") else "node"
            raise NegotiationError(f"no {event} in the state {self.state}", kind="state", fault=fault)
        return state

    def _next_of_ours(self, event: Input) -> State:
        try:
            return self._next(event)
        except NegotiationError as error:
            self.refused[error.kind] += 1
            raise

    def _take_token(self, now: float) -> None:
        earned = (now - self._counted_at) * OFFERS_PER_SECOND
        self._tokens = min(float(OFFERS_AT_ONCE), self._tokens + earned)
        self._counted_at = now
        if self._tokens < 1.0:
            raise NegotiationError(
                f"more than {OFFERS_AT_ONCE} offers at once and {OFFERS_PER_SECOND:g} per second", kind="rate"
            )
        self._tokens -= 1.0

    def _compare(self, offer: SessionDescription) -> Offered:
        if self.offer is None or self.dtls_role is None:
            live = tuple(index for index, section in enumerate(offer.media) if not section.rejected)
            return Offered(offer, first=True, added=live)
        return compare(self.sections, self.offer, self.dtls_role, offer)


def _parse(text: str) -> SessionDescription:
    try:
        return parse_offer(text)
    except SdpError as error:
        raise NegotiationError(str(error), kind="syntax") from error


def _parse_fragment(text: str) -> tuple[str, str] | None:
    try:
        return parse_fragment(text)
    except SdpError as error:
        raise NegotiationError(str(error), kind="syntax") from error
