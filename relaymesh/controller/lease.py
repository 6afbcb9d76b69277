"""The lease of the leader: a record in the store that it renews, and the time when others may take it.

In: what the store says of the record, and ``now``. Out: whether we lead, until
when, and what to write next. There are no expiry events: whoever waits measures
with its own clock how long the record did not change, and a leader measures
with its own how long ago it last *asked* for the renewal that succeeded. The
leader gives up earlier than anybody else may take over, whatever their clocks
show, so long as they run at the same speed within :data:`MARGIN_S` of
:data:`LEASE_S`.

    standby ── claimed ──▶ leading ── not renewed in time ──▶ lapsed ── renewed ──▶ leading
       ▲                      └────────── lost to another ──────┴──────▶ standby

A lapsed leader may find that nobody took over while the store was down: its
renewal then succeeds, with the same epoch. PURE but for the words of the record.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

LEASE_KEY = "leader"
LEASE_S = 3.0  # a record that did not change for so long may be taken
RENEW_S = 0.5
MARGIN_S = 0.6  # a fifth of the lease: clocks are far better, pauses of a process are seen
MAX_BELIEVED_EPOCH = 1 << 31  # half the range; the other half is left to count in, whatever nodes say

Role = Literal["standby", "leading", "lapsed"]


class RecordError(Exception):
    """These bytes are no lease record."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """The record in the store."""

    epoch: int
    holder: str  # a name that no other process has; empty: nobody leads, it was given back
    url: str = ""  # where its nodes connect
    beat: int = 0  # counts renewals

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def decode_record(data: bytes) -> LeaseRecord:
    """The record that *data* is.

    Raises:
        RecordError: none.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise RecordError("no JSON") from None
    kinds = {"epoch": int, "holder": str, "url": str, "beat": int}
    if not isinstance(fields, dict) or any(type(fields.get(key)) is not kind for key, kind in kinds.items()):
        raise RecordError("not the fields of a lease")
    record = LeaseRecord(fields["epoch"], fields["holder"], fields["url"], fields["beat"])
    if not 0 <= record.epoch <= 0xFFFFFFFF:
        raise RecordError(f"epoch {record.epoch}")
    return record


class Lease:
    """One controller's part in it."""

    def __init__(self, holder: str, url: str, *, exclusive: bool = False) -> None:
        """*exclusive*: nobody else can have this store open, so there is nobody to wait for."""
        self._holder = holder
        self._url = url
        self._exclusive = exclusive
        self._role: Role = "standby"
        self._record = LeaseRecord(0, "")  # the newest known, our own included
        self._revision = 0
        self._unchanged_since: float | None = None  # None: not looked at, or the store was down since
        self._until = float("-inf")  # of ours
        self._heard = 0  # the highest epoch a node spoke of

    @property
    def role(self) -> Role:
        return self._role

    @property
    def epoch(self) -> int:
        """Ours while we lead, or else the leader's."""
        return self._record.epoch

    @property
    def leader_url(self) -> str:
        """URL of the leader; empty: unknown."""
        return self._record.url if self._record.holder else ""

    @property
    def revision(self) -> int:
        """The record's, for the next compare-and-set."""
        return self._revision

    @property
    def until(self) -> float:
        """Time at which we stop leading if no renewal succeeds."""
        return self._until

    def handle_seen(self, record: LeaseRecord | None, revision: int, now: float) -> None:
        """The store has *record* at *revision* (None and 0: it has none); a leader hears of a rival so."""
        if self._role != "standby":
            if record is not None and record.holder == self._holder and record.epoch >= self._record.epoch:
                self._record, self._revision = record, revision  # a write of ours whose answer was lost
                return
            self._role = "standby"
            self._unchanged_since = None
        if revision != self._revision or self._unchanged_since is None:
            self._unchanged_since = now
        self._revision = revision
        self._record = record or LeaseRecord(self._record.epoch, "")

    def handle_blind(self) -> None:
        """The store did not answer: how long the record is unchanged is not known any more."""
        self._unchanged_since = None

    def may_claim(self, now: float) -> bool:
        """True when the record as it was just seen may be taken."""
        if self._role != "standby" or self._unchanged_since is None:
            return False
        vacant = self._record.holder in ("", self._holder)
        return vacant or self._exclusive or now - self._unchanged_since >= LEASE_S

    def claim(self) -> LeaseRecord:
        """The record that takes over: the next epoch, ours."""
        return LeaseRecord(max(self._record.epoch, self._heard) + 1, self._holder, self._url)

    def renewal(self) -> LeaseRecord:
        """The record that renews; with a higher epoch if a node has heard of one."""
        if self._heard > self._record.epoch:
            return self.claim()
        return LeaseRecord(self._record.epoch, self._holder, self._url, self._record.beat + 1)

    def farewell(self) -> LeaseRecord:
        """The record that gives the lease back: the next may lead at once."""
        return LeaseRecord(self._record.epoch, "", "", self._record.beat + 1)

    def handle_written(self, record: LeaseRecord, revision: int, asked_at: float) -> None:
        """Our *record* is in the store; it was asked for at *asked_at*."""
        self._record, self._revision = record, revision
        if not record.holder:
            self._role = "standby"
            self._unchanged_since = None
            return
        self._role = "leading"
        self._until = float("inf") if self._exclusive else asked_at + LEASE_S - MARGIN_S

    def handle_outranked(self, epoch: int) -> None:
        """A node has heard of *epoch*, which is above ours: a newer leader's, or one this store forgot."""
        if epoch <= MAX_BELIEVED_EPOCH:
            self._heard = max(self._heard, epoch)

    def check(self, now: float) -> Role:
        """The role at *now*: a leader that was not renewed in time has lapsed."""
        if self._role == "leading" and now >= self._until:
            self._role = "lapsed"
        return self._role
