"""The lease: when it may be taken, when its holder stops, and that epochs only grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relaymesh.controller.lease import (
    LEASE_S,
    MARGIN_S,
    MAX_BELIEVED_EPOCH,
    Lease,
    LeaseRecord,
    RecordError,
    decode_record,
)

OTHER = LeaseRecord(7, "other", "ws://other:1", 3)


def leading(now: float = 10.0, epoch_before: int = 0) -> Lease:
    lease = Lease("me", "ws://me:1")
    lease.handle_seen(LeaseRecord(epoch_before, "") if epoch_before else None, epoch_before, now)
    assert lease.may_claim(now)
    lease.handle_written(lease.claim(), 100, now)
    return lease


def test_an_empty_store_and_a_lease_given_back_are_taken_at_once() -> None:
    assert (leading().epoch, leading(epoch_before=4).epoch) == (1, 5)


def test_a_held_lease_is_taken_when_it_did_not_change_for_its_whole_length() -> None:
    lease = Lease("me", "")
    lease.handle_seen(OTHER, 5, 10.0)
    assert not lease.may_claim(10.0 + LEASE_S - 0.01)
    lease.handle_seen(OTHER, 6, 12.0)  # renewed
    assert not lease.may_claim(12.0 + LEASE_S - 0.01)
    lease.handle_seen(OTHER, 6, 14.0)
    assert lease.may_claim(12.0 + LEASE_S)
    assert (lease.claim().epoch, lease.revision, lease.leader_url) == (8, 6, "ws://other:1")


def test_who_could_not_look_does_not_know_that_nothing_changed() -> None:
    lease = Lease("me", "")
    lease.handle_seen(OTHER, 5, 10.0)
    lease.handle_blind()
    assert not lease.may_claim(100.0)
    lease.handle_seen(OTHER, 5, 100.0)
    assert not lease.may_claim(100.0 + LEASE_S - 0.01)
    assert lease.may_claim(100.0 + LEASE_S)


def test_a_leader_stops_before_anybody_else_may_begin_and_counts_from_when_it_asked() -> None:
    lease = leading(now=10.0)
    lease.handle_written(lease.renewal(), 101, 11.0)  # whenever the answer came
    assert lease.until == 11.0 + LEASE_S - MARGIN_S
    assert lease.check(lease.until - 0.01) == "leading"
    assert lease.check(lease.until) == "lapsed"
    observer = Lease("other", "")
    observer.handle_seen(LeaseRecord(1, "me", "", 1), 101, 11.0)  # at the earliest
    assert not observer.may_claim(lease.until)


def test_a_lapsed_leader_goes_on_with_its_epoch_if_nobody_took_over() -> None:
    lease = leading(now=10.0)
    assert lease.check(100.0) == "lapsed"
    renewal = lease.renewal()
    lease.handle_written(renewal, 101, 100.0)
    assert (lease.check(100.1), lease.epoch) == ("leading", 1)


@pytest.mark.parametrize("rival", [OTHER, LeaseRecord(7, ""), None])
def test_a_leader_whose_record_is_anothers_or_gone_leads_no_more(rival: LeaseRecord | None) -> None:
    lease = leading()
    lease.handle_seen(rival, 0 if rival is None else 200, 11.0)
    assert lease.role == "standby"
    assert lease.claim().epoch > 1


def test_a_write_whose_answer_was_lost_is_recognized() -> None:
    lease = leading()
    lease.handle_seen(LeaseRecord(1, "me", "ws://me:1", 9), 109, 11.0)
    assert (lease.role, lease.revision) == ("leading", 109)
    lease.handle_seen(LeaseRecord(4, "me", "ws://me:1", 0), 110, 11.5)
    assert (lease.role, lease.epoch) == ("leading", 4)


def test_a_higher_epoch_that_a_node_has_heard_of_is_exceeded() -> None:
    lease = leading()
    lease.handle_outranked(40)
    assert lease.renewal() == LeaseRecord(41, "me", "ws://me:1")
    lease.handle_outranked(MAX_BELIEVED_EPOCH + 1)
    assert lease.renewal().epoch == 41, "a lie does not use the numbers up"


def test_a_store_of_our_own_is_never_waited_for_and_its_lease_never_ends() -> None:
    lease = Lease("me", "", exclusive=True)
    lease.handle_seen(OTHER, 5, 10.0)
    assert lease.may_claim(10.0)
    lease.handle_written(lease.claim(), 6, 10.0)
    assert (lease.check(1e9), lease.epoch) == ("leading", 8)


@given(
    st.builds(
        LeaseRecord,
        st.integers(0, 0xFFFFFFFF),
        st.text(max_size=20),
        st.text(max_size=20),
        st.integers(0, 1 << 40),
    )
)
def test_records_are_read_as_they_were_written(record: LeaseRecord) -> None:
    assert decode_record(record.encode()) == record


@given(st.one_of(st.binary(max_size=80), st.sampled_from([b"{}", b"[]", b"null", b"[" * 9999])))
def test_what_is_no_record_is_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(RecordError):
        decode_record(data)


@pytest.mark.parametrize("epoch", ["-1", "4294967296", "true", "1.5", '"1"'])
def test_an_epoch_out_of_range_is_no_record(epoch: str) -> None:
    with pytest.raises(RecordError):
        decode_record(f'{{"epoch": {epoch}, "holder": "x", "url": "", "beat": 0}}'.encode())
