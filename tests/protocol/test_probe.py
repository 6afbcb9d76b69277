import random

import pytest

from relaymesh.protocol.frames import Echo, Probe
from relaymesh.protocol.probe import LOSS_WINDOW, MAX_OUTSTANDING, STEP_SAMPLES, LossWindow, Prober

INTERVAL = 0.05


def exchange(
    one: Prober,
    other: Prober,
    seconds: float,
    *,
    rtt: float = 0.04,
    loss: float = 0.0,
    start: float = 0.0,
    seed: int = 1,
) -> float:
    """One side probes, *loss* of its probes are lost; returns the time it ended."""
    rng = random.Random(seed)
    now = start
    for _ in range(round(seconds / INTERVAL)):
        probe = one.probe(now)
        if rng.random() >= loss:
            one.handle_echo(other.handle_probe(probe, now + rtt / 2), now + rtt)
        now += INTERVAL
    return now


def test_rtt_is_the_median_and_jitter_the_spread_above_it() -> None:
    one, other = Prober(0), Prober(0)
    for step, rtt in enumerate([0.010, 0.011, 0.012, 0.013, 0.014, 0.015, 0.016, 0.017, 0.018, 5.0]):
        probe = one.probe(step * 10.0)
        one.handle_echo(other.handle_probe(probe, step * 10.0), step * 10.0 + rtt)
    assert one.rtt == pytest.approx(0.0145)
    assert one.jitter == pytest.approx(0.018 - 0.0145)  # one outlier in ten moves neither


@pytest.mark.parametrize("first", [0, 0xFFFFFFF0])
def test_both_sides_see_the_loss_of_the_one_direction(first: int) -> None:
    one, other = Prober(first), Prober(1)
    now = exchange(one, other, 30, loss=0.25)
    assert one.loss_out(now) == pytest.approx(0.25, abs=0.1)
    assert other.loss_in(now) == pytest.approx(one.loss_out(now), abs=0.02)
    assert one.loss_in(now) == other.loss_out(now) == 0.0


def test_loss_is_forgotten_after_its_window() -> None:
    one, other = Prober(5), Prober(1)
    now = exchange(one, other, 10, loss=0.5)
    assert one.loss_out(now) > 0.3
    now = exchange(one, other, LOSS_WINDOW + 2 * INTERVAL, start=now)
    assert one.loss_out(now) == other.loss_in(now) == 0.0


def test_reordered_probes_are_not_lost() -> None:
    one, other = Prober(0xFFFFFFFE), Prober(1)
    probes = [one.probe(i * INTERVAL) for i in range(40)]
    for i in range(0, 40, 4):
        probes[i : i + 4] = reversed(probes[i : i + 4])
    echoes = [other.handle_probe(probe, i * INTERVAL + 0.2) for i, probe in enumerate(probes)]
    for i in range(0, 40, 4):
        echoes[i : i + 4] = reversed(echoes[i : i + 4])
    for i, echo in enumerate(echoes):
        assert one.handle_echo(echo, i * INTERVAL + 0.4)
    assert one.loss_out(2.4) <= 0.08  # the edges of the window may cut a group in two
    assert other.loss_in(2.4) <= 0.08


@pytest.mark.parametrize(
    "forged",
    [Echo(8, 0, 1, 8), Echo(7, 1, 1, 7)],
    ids=["never sent", "another send time"],
)
def test_an_echo_of_nothing_we_sent_is_ignored_and_counted(forged: Echo) -> None:
    one = Prober(7)
    one.probe(0.0)
    assert not one.handle_echo(forged, 0.5)
    assert (one.rtt, one.echoes_unmatched) == (0.0, 1)


def test_a_second_echo_is_ignored_and_counted() -> None:
    one, other = Prober(7), Prober(0)
    echo = other.handle_probe(one.probe(0.0), 0.1)
    assert one.handle_echo(echo, 0.2)
    assert not one.handle_echo(echo, 9.0)
    assert one.rtt == pytest.approx(0.2)
    assert one.echoes_unmatched == 1


def test_waiting_probes_are_bounded() -> None:
    one, other = Prober(0), Prober(0)
    probes = [one.probe(i * 0.01) for i in range(MAX_OUTSTANDING + 1)]
    assert one.debug_state()["outstanding"] == MAX_OUTSTANDING
    assert not one.handle_echo(other.handle_probe(probes[0], 3.0), 3.1)
    assert one.handle_echo(other.handle_probe(probes[1], 3.0), 3.1)


def test_a_peer_that_starts_over_is_not_loss() -> None:
    one, other = Prober(100), Prober(9)
    now = exchange(one, other, 20)
    now = exchange(one, Prober(9), 4, start=now)  # its counts begin again
    assert one.loss_out(now) == 0.0
    now = exchange(Prober(0x80000000), other, 4, start=now)  # its sequences begin elsewhere
    assert other.loss_in(now) == 0.0
    assert other.handle_probe(Probe(0x80000000 + 80, 0), now).probes_received == 81


def test_forgetting_drops_measurements_but_not_the_count() -> None:
    one, other = Prober(3), Prober(0)
    now = exchange(one, other, 5, loss=0.5)
    one.forget()
    assert (one.rtt, one.jitter, one.loss_out(now), one.loss_in(now)) == (0, 0, 0, 0)
    assert one.probe(now).sequence == 3 + 100


def test_a_window_with_nothing_to_compare_has_no_loss() -> None:
    window = LossWindow()
    assert window.loss(0.0) == 0.0
    window.add(5, 1, 0.0)
    assert window.loss(100.0) == 0.0


def measure(one: Prober, other: Prober, rtts: list[float], start: float) -> float:
    """A probe each interval, with these round trips; the time after."""
    now = start
    for rtt in rtts:
        one.handle_echo(other.handle_probe(one.probe(now), now), now + rtt)
        now += INTERVAL
    return now


def test_a_step_of_the_rtt_is_known_after_a_few_samples() -> None:
    rng = random.Random(4)
    one, other = Prober(0), Prober(0)
    now = measure(one, other, [0.08 + rng.uniform(0, 0.01) for _ in range(100)], 0.0)
    calm = one.jitter
    measure(one, other, [0.24 + rng.uniform(0, 0.01) for _ in range(STEP_SAMPLES)], now)
    assert one.steps == 1
    assert one.rtt == pytest.approx(0.245, abs=0.005)
    assert one.jitter <= max(calm, 0.01)
    measure(one, other, [0.08] * 2 * STEP_SAMPLES, now + 10.0)
    assert one.rtt == pytest.approx(0.08)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_the_rtt_is_no_step(seed: int) -> None:
    rng = random.Random(seed)
    one, other = Prober(0), Prober(0)
    measure(one, other, [0.1 * rng.uniform(0.8, 1.2) for _ in range(20_000)], 0.0)
    measure(one, other, [0.1 * (1 + 0.16 * abs(rng.gauss(0, 1))) for _ in range(20_000)], 1e4)
    assert one.steps <= 1  # from the one distribution to the other


def test_what_became_of_probes_is_told_once_and_late_ones_are_taken_back() -> None:
    one, other = Prober(0), Prober(0)
    measure(one, other, [0.01] * 5, 0.0)
    assert one.take_fates()[0] == (4, 0)  # the first says where to begin
    assert one.take_fates()[0] == (0, 0)
    late, on_time = one.probe(1.0), one.probe(1.05)
    first = other.handle_probe(on_time, 1.06)
    assert other.take_fates()[1] == (6, 1)
    one.handle_echo(first, 1.07)
    assert one.take_fates()[0] == (2, 1)
    one.handle_echo(other.handle_probe(late, 1.08), 1.09)
    assert one.take_fates()[0] == (0, -1)
    assert other.take_fates()[1] == (0, -1)
