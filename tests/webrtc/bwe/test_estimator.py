"""The estimator alone: over emulated paths, and against peers that lie or are silent."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relaymesh.bench.access_path import Flow, FlowSettings
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.webrtc.bwe.estimator import MIN_BPS, START_BPS, BandwidthEstimator
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.rtcp import TransportFeedback, parse_rtcp
from relaymesh.webrtc.twcc import TwccReceiver
from tests.webrtc.bwe.paths import back, elastic, path


def p95(sorted_values: list[float]) -> float:
    return sorted_values[int(0.95 * (len(sorted_values) - 1))]


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("rtt_ms", [10.0, 50.0, 150.0, 300.0])
def test_a_path_is_used_and_its_queue_short(rtt_ms: float, loss: float) -> None:
    on = path(rtt_ms, 2e6, loss=loss)
    flow = elastic(on, rtt_ms)
    on.advance(30.0)
    assert flow.mbps(10.0, 30.0) >= 2.0 * 0.85 * (1.0 - loss)
    assert p95(on.queue(10.0, 30.0)) <= 60.0


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("rtt_ms", [10.0, 50.0])
def test_two_share_a_bottleneck(rtt_ms: float, seed: int) -> None:
    on = path(rtt_ms, 2e6, seed)
    flows = [elastic(on, rtt_ms, seed), elastic(on, rtt_ms, seed + 1, start=5.0)]
    on.advance(90.0)
    rates = [flow.mbps(30.0, 90.0) for flow in flows]
    assert sum(rates) ** 2 / (2 * sum(rate * rate for rate in rates)) >= 0.9, rates
    assert p95(on.queue(30.0, 90.0)) <= 60.0


@pytest.mark.parametrize("rtt_ms", [10.0, 50.0, 100.0])
def test_a_cut_is_followed_within_a_second_and_forgotten_within_ten(rtt_ms: float) -> None:
    on = path(rtt_ms, 2e6)
    flow = elastic(on, rtt_ms, most_bps=1.7e6)
    on.at(15.0, lambda: on.forth.apply(15.0, rate_bps=300e3))
    on.at(30.0, lambda: on.forth.apply(30.0, rate_bps=2e6))
    on.advance(45.0)
    below = next(at for at, bps in flow.estimates if at > 15.0 and bps <= 300e3)
    assert below - 15.0 <= 1.0
    assert flow.mbps(20.0, 30.0) >= 0.3 * 0.8
    back = next(at for at, bps in flow.estimates if at > 30.0 and bps >= 1.5e6)
    assert back - 30.0 <= 10.0


@pytest.mark.parametrize(
    "conditions",
    [{"jitter_ms": 5.0}, {"reorder": 0.02}, {"duplicate": 0.02}],
    ids=["jitter", "reordering", "duplicates"],
)
def test_noise_of_the_path_does_not_collapse_the_rate(conditions: dict[str, float]) -> None:
    on = path(50.0, 2e6, **conditions)
    flow = elastic(on, 50.0)
    on.advance(30.0)
    assert flow.mbps(10.0, 30.0) >= 1.2


@pytest.mark.parametrize(("offset", "drift"), [(1e6, 0.0), (0.0, 1e-4), (1073741.0, -1e-4)])
def test_the_peers_clock_may_be_anything(offset: float, drift: float) -> None:
    """Also where its reference time turns over within the run."""
    on = path(50.0, 2e6)
    flow = elastic(on, 50.0, clock_offset=offset, clock_drift=drift)
    on.advance(30.0)
    assert flow.mbps(10.0, 30.0) >= 1.6
    assert p95(on.queue(10.0, 30.0)) <= 60.0


def test_lost_feedback_costs_little() -> None:
    on = path(50.0, 2e6)
    flow = elastic(on, 50.0)
    flow._back.apply(0.0, loss=0.3)
    on.advance(30.0)
    assert flow.mbps(10.0, 30.0) >= 1.5
    assert flow.estimator.timeouts == 0


# --- one estimator by hand


class Peer:
    """Receives all that is sent, after a constant delay, and reports each 100 ms."""

    def __init__(self, estimator: BandwidthEstimator) -> None:
        self.estimator, self.now, self.sequence = estimator, 0.0, 65_000
        self.receiver = TwccReceiver()

    def run(self, seconds: float, bps: float, *, reports: bool = True) -> None:
        end = self.now + seconds
        turn = 0
        while self.now < end:
            self.now += 0.01
            turn += 1
            self.estimator.handle_timeout(self.now)
            self.estimator.on_sent(self.sequence, int(bps / 800), self.now)
            self.receiver.record(self.sequence, self.now + 0.02)
            self.sequence = (self.sequence + 1) & 0xFFFF
            if reports and turn % 10 == 0:
                data = self.receiver.feedback(1, 2)
                assert data is not None
                (feedback,) = parse_rtcp(data)
                assert isinstance(feedback, TransportFeedback)
                self.estimator.handle_feedback(feedback, self.now)


def test_an_application_limited_sender_neither_grows_nor_decays() -> None:
    estimator = BandwidthEstimator(now=0.0)
    peer = Peer(estimator)
    peer.run(20.0, 250e3)
    assert estimator.estimate_bps <= 1.03 * (1.5 * 250e3 + 10e3)  # a window holds 50 or 51 packets
    grown = estimator.estimate_bps
    peer.run(20.0, 60e3)
    assert estimator.estimate_bps == grown


def test_silence_reduces_and_its_end_is_noticed() -> None:
    estimator = BandwidthEstimator(now=0.0)
    peer = Peer(estimator)
    peer.run(3.0, 250e3)
    before = estimator.estimate_bps
    peer.run(1.4, 250e3, reports=False)
    assert estimator.timeouts == 1
    assert estimator.estimate_bps == pytest.approx(before / 2)
    peer.run(20.0, 250e3, reports=False)
    assert estimator.estimate_bps == MIN_BPS
    peer.run(20.0, 250e3)
    assert estimator.estimate_bps > MIN_BPS


def test_nothing_sent_is_no_silence() -> None:
    estimator = BandwidthEstimator(now=0.0)
    estimator.handle_timeout(1000.0)
    assert estimator.timeouts == 0
    assert estimator.estimate_bps == START_BPS


def test_remb_is_a_cap_that_lapses() -> None:
    estimator = BandwidthEstimator(now=0.0)
    peer = Peer(estimator)
    peer.run(5.0, 300e3)
    free = estimator.estimate_bps
    estimator.handle_remb(120e3, peer.now)
    assert estimator.estimate_bps == 120e3
    peer.run(11.0, 300e3)
    assert estimator.estimate_bps >= free


def test_remb_alone_is_followed() -> None:
    estimator = BandwidthEstimator(now=0.0, transport_feedback=False)
    estimator.on_sent(None, 1000, 0.1)
    estimator.handle_remb(900e3, 1.0)
    assert estimator.estimate_bps == 900e3
    estimator.handle_remb(200e3, 2.0)
    assert estimator.estimate_bps == 200e3
    estimator.handle_remb(1e30, 3.0)
    estimator.handle_remb(-5.0, 4.0)
    assert estimator.estimate_bps == MIN_BPS


def sending(bps: float) -> BandwidthEstimator:
    """One that follows REMB, after two seconds of sending so much, with a REMB of twice that."""
    estimator = BandwidthEstimator(now=0.0, transport_feedback=False)
    for tick in range(200):
        estimator.on_sent(None, int(bps / 800), tick / 100)
    estimator.handle_remb(2 * bps, 2.0)
    return estimator


def send_on(estimator: BandwidthEstimator, bps: float, now: float, remb: float) -> None:
    for tick in range(100):
        estimator.on_sent(None, int(bps / 800), now + tick / 100)
    estimator.handle_remb(remb, now + 1.0)


def test_a_dip_of_remb_costs_nothing_that_is_sent() -> None:
    estimator = sending(400e3)
    estimator.handle_remb(0.85 * 400e3, 2.0)
    assert 400e3 <= estimator.estimate_bps <= 1.1 * 400e3
    for second, remb in enumerate((0.86, 0.9, 0.93, 0.96, 1.2)):
        send_on(estimator, 400e3, 2.0 + second, remb * 400e3)
        assert estimator.estimate_bps >= 400e3, "it rises again"


def test_a_dip_that_stays_is_followed() -> None:
    estimator = sending(400e3)
    estimator.handle_remb(0.85 * 400e3, 2.0)
    send_on(estimator, 400e3, 2.0, 0.87 * 400e3)
    assert estimator.estimate_bps >= 400e3
    send_on(estimator, 400e3, 3.0, 0.85 * 400e3)
    send_on(estimator, 400e3, 4.0, 0.87 * 400e3)
    assert estimator.estimate_bps == 0.87 * 400e3


def test_a_deep_fall_of_remb_is_followed_at_once() -> None:
    estimator = sending(400e3)
    estimator.handle_remb(0.7 * 400e3, 2.0)
    assert estimator.estimate_bps == pytest.approx(0.7 * 400e3)


def test_loss_that_reports_tell_of_leads_below_remb_and_up_to_it() -> None:
    estimator = sending(400e3)
    estimator.handle_receiver_report(0.4, None, 2.5, 100)
    reduced = estimator.estimate_bps
    assert reduced == pytest.approx(0.8 * 800e3)
    estimator.handle_remb(800e3, 6.0)
    assert estimator.estimate_bps == reduced, "what is lost is lost, whatever REMB says"
    for second in range(7, 30):
        for tick in range(100):
            estimator.on_sent(None, 1000, second + tick / 100)
        estimator.handle_receiver_report(0.0, None, second + 1.0, 100)
        estimator.handle_remb(800e3, second + 1.0)
    assert estimator.estimate_bps == 800e3


def test_the_loss_of_few_packets_means_little() -> None:
    estimator = sending(400e3)
    estimator.handle_receiver_report(3 / 25, None, 2.5, 25)
    assert estimator.estimate_bps == 800e3
    estimator.handle_receiver_report(20 / 100, None, 3.5, 100)
    assert estimator.estimate_bps == pytest.approx(0.9 * 800e3)


def test_without_a_word_the_rate_of_a_remb_peer_is_halved_each_five_seconds() -> None:
    estimator = sending(400e3)
    for step in range(1, 161):
        estimator.handle_timeout(2.0 + step / 10)
    assert estimator.timeouts == 3
    assert estimator.estimate_bps == 100e3


def test_receiver_reports_alone() -> None:
    estimator = BandwidthEstimator(now=0.0, transport_feedback=False)
    for second in range(1, 21):
        for packet in range(100):
            estimator.on_sent(None, 500, second + packet / 100)
        estimator.handle_receiver_report(0.0, 0.05, second + 1.0)
    assert 400e3 * 1.2 <= estimator.estimate_bps <= 1.5 * 400e3 + 10e3 + 1.0
    before = estimator.estimate_bps
    estimator.handle_receiver_report(0.05, 0.05, 22.0)
    assert estimator.estimate_bps == before
    estimator.handle_receiver_report(0.4, 0.05, 23.0)
    assert estimator.estimate_bps == pytest.approx(before * 0.8)


def send_blindly(estimator: BandwidthEstimator, start: float, end: float, bps: float) -> None:
    """Send *bps* with transport-wide numbers to a peer of which nothing is heard."""
    for tick in range(round(start * 50), round(end * 50)):
        now = tick / 50
        estimator.on_sent(tick & 0xFFFF, int(bps / 50 / 8), now)
        due = estimator.next_timeout()
        if due is not None and now >= due:
            estimator.handle_timeout(now)
            estimator.poll_probe(now)


@pytest.mark.parametrize("reports", [True, False])
def test_a_peer_that_agreed_to_report_arrivals_but_never_does_is_followed_by_reports(reports: bool) -> None:
    estimator = BandwidthEstimator(now=0.0)
    for second in range(3):
        send_blindly(estimator, second, second + 1, 130e3)
        if reports:
            estimator.handle_receiver_report(0.0, 0.05, second + 1.0)
    assert estimator.timeouts > 0, "silence was taken for a path that carries nothing"
    assert estimator.may_try
    for second in range(3, 14):
        send_blindly(estimator, second, second + 1, 130e3)
        if reports:
            estimator.handle_receiver_report(0.0, 0.05, second + 1.0)
        assert estimator.estimate_bps >= START_BPS
    probes = estimator.debug_state()["probes"]
    send_blindly(estimator, 14, 17, 130e3)
    assert estimator.debug_state()["probes"] == probes, "nobody would tell what became of a probe"
    if reports:
        estimator.handle_receiver_report(0.4, 0.05, 18.0)
        assert estimator.estimate_bps == pytest.approx(0.8 * START_BPS, rel=0.01)
        assert not estimator.may_try


def test_arrivals_that_are_reported_late_are_followed() -> None:
    estimator = BandwidthEstimator(now=0.0)
    peer = Peer(estimator)
    peer.run(5.0, 130e3, reports=False)
    peer.run(10.0, 250e3)
    assert estimator.estimate_bps > START_BPS
    before = estimator.estimate_bps
    timeouts = estimator.timeouts
    peer.run(1.4, 250e3, reports=False)
    assert estimator.timeouts == timeouts + 1
    assert estimator.estimate_bps == pytest.approx(before / 2)


def test_loss_that_was_reported_is_not_forgotten_when_arrivals_are_given_up() -> None:
    estimator = BandwidthEstimator(now=0.0)
    send_blindly(estimator, 0, 1, 130e3)
    estimator.handle_receiver_report(0.5, 0.05, 1.0)
    send_blindly(estimator, 1, 5, 130e3)
    assert estimator.estimate_bps < START_BPS
    assert not estimator.may_try


# --- hostile feedback


def feedback(body: bytes) -> TransportFeedback:
    return TransportFeedback(1, 2, body)


def about(base: int, count: int, reference: int = 5) -> TransportFeedback:
    """*count* packets from *base* on have arrived at once."""
    body = pack("!HHI", base, count, (reference & 0xFFFFFF) << 8) + pack("!H", 1 << 13 | count) + bytes(count)
    return feedback(body + bytes(-len(body) % 4))


def fresh() -> BandwidthEstimator:
    estimator = BandwidthEstimator(now=0.0)
    for number in range(50):
        estimator.on_sent(1000 + number, 1000, number / 100)
    return estimator


@pytest.mark.parametrize("base", [0, 999 - 300, 1050, 1051, 40_000])
def test_numbers_that_were_never_sent(base: int) -> None:
    estimator = fresh()
    estimator.handle_feedback(about(base, 200), 1.0)
    assert estimator.estimate_bps == START_BPS
    assert estimator.ignored == 1
    assert estimator.debug_state()["history"]["unmatched"] == 200  # type: ignore[index]


def test_a_repeated_feedback_changes_nothing() -> None:
    estimator = fresh()
    estimator.handle_feedback(about(1000, 50), 1.0)
    before = estimator.debug_state()
    estimator.handle_feedback(about(1000, 50, reference=77), 1.1)
    after = estimator.debug_state()
    assert estimator.ignored == 1
    assert {k: v for k, v in after.items() if k not in ("ignored", "history")} == {
        k: v for k, v in before.items() if k not in ("ignored", "history")
    }


def test_a_huge_feedback() -> None:
    estimator = fresh()
    with pytest.raises(RtpError):
        estimator.handle_feedback(feedback(pack("!HHI", 1000, 0xFFFF, 0) + bytes(8)), 1.0)
    assert estimator.malformed == 1
    assert estimator.estimate_bps == START_BPS


@given(st.lists(st.tuples(st.integers(900, 1100), st.integers(1, 80), st.integers(0, 1 << 24)), max_size=30))
@settings(max_examples=50)
def test_a_lying_peer_keeps_the_estimate_within_bounds(
    lies: list[tuple[int, int, int]],
) -> None:
    estimator = fresh()
    for turn, (base, count, reference) in enumerate(lies):
        estimator.handle_feedback(about(base, count, reference), 1.0 + turn / 10)
        estimator.poll_probe(1.0 + turn / 10)
        assert MIN_BPS <= estimator.estimate_bps <= 20e6


def test_random_bytes() -> None:
    rng = random.Random(1)
    estimator = fresh()
    refused = 0
    for _ in range(2000):
        try:
            estimator.handle_feedback(feedback(rng.randbytes(rng.randrange(60))), 1.0)
        except RtpError:
            refused += 1
    assert estimator.malformed == refused > 100
    assert MIN_BPS <= estimator.estimate_bps <= 20e6


def test_a_number_that_does_not_follow_is_the_callers_fault() -> None:
    estimator = fresh()
    with pytest.raises(ValueError, match="does not follow"):
        estimator.on_sent(1000, 100, 1.0)


def test_what_is_under_way_is_bounded() -> None:
    estimator = BandwidthEstimator(now=0.0)
    for number in range(20_000):
        estimator.on_sent(number & 0xFFFF, 1000, number / 1e5)
    assert estimator.debug_state()["history"]["packets"] == 8192  # type: ignore[index]


def test_links_of_the_tests_are_what_they_say() -> None:
    model = LinkModel(LinkConditions(rate_bps=2e6), random.Random(1))
    assert sum(len(model.due(0.0, 1250)) for _ in range(10)) == 10
    assert model.backlog(0.0) == pytest.approx(0.05)


# --- what the sender does to itself ------------------------------------------------------------------


def uneven(mean_bps: float, every: int, times: float) -> Callable[[Flow, float], float]:
    """Pictures of which one in *every* is so many times as large as the mean."""
    count, others = itertools.count(), (every - times) / (every - 1)
    return lambda flow, now: mean_bps * (times if next(count) % every == 0 else others)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_keyframes_of_a_rate_well_within_the_path_cost_no_layer(seed: int) -> None:
    on = path(40.0, 700e3, seed, queue_ms=200.0)
    flow = Flow(on, back(40.0, seed), uneven(370e3, 60, 10.0), FlowSettings(), seed)
    flow.estimator.set_wanted(1.5e6, 0.0)
    on.advance(40.0)
    least = min(bps for at, bps in flow.estimates if at > 3.0)
    assert least > 500e3, "audio and the layer, with the margin for going up"


@pytest.mark.parametrize("rtt_ms", [20.0, 50.0])
def test_a_queue_that_stands_counts_though_pictures_could_explain_it(rtt_ms: float) -> None:
    """Two flows of 150 kbit/s: each picture is as long as the queue that may stand."""
    on = path(rtt_ms, 500e3)
    on.cross_traffic(200e3, 0.0, 60.0, 60.0, 0.0)
    for seed, start in ((1, 0.0), (2, 5.0)):
        elastic(on, rtt_ms, seed, start=start)
    on.advance(60.0)
    assert p95(on.queue(30.0, 60.0)) <= 180.0


@pytest.mark.parametrize("rtt_ms", [20.0, 40.0, 100.0])
def test_what_a_probe_overflows_is_no_loss_of_the_path(rtt_ms: float) -> None:
    """900 kbit/s into a line of 150 with a short queue: most is lost, and that says nothing of media."""
    on = path(rtt_ms, 150e3, queue_ms=60.0)
    flow = Flow(on, back(rtt_ms), lambda flow, now: 50e3, FlowSettings(), 1)
    flow.estimator.set_wanted(480e3, 0.0)
    on.advance(5.0)
    loss = flow.estimator.debug_state()["loss"]
    assert isinstance(loss, dict) and loss["reductions"] == 0
