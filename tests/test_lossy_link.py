import pytest

from tests.lossy_link import Conditions, Pair


class Parrot:
    """Sends *count* numbers, one every 10 ms, and keeps what it hears."""

    def __init__(self, count: int = 0) -> None:
        self._left = count
        self._at = 0.0
        self._outbox: list[bytes] = []
        self.heard: list[tuple[float, int]] = []

    def handle_datagram(self, datagram: bytes, now: float) -> None:
        if datagram == b"bad":
            raise KeyError
        self.heard.append((round(now, 6), int.from_bytes(datagram, "big")))

    def poll_datagrams(self, now: float) -> list[bytes]:
        outbox, self._outbox = self._outbox, []
        return outbox

    def next_timeout(self) -> float | None:
        return self._at if self._left else None

    def handle_timeout(self, now: float) -> None:
        self._outbox.append(self._left.to_bytes(4, "big"))
        self._left -= 1
        self._at += 0.01


def heard(conditions: Conditions, count: int = 1000, seed: int = 1) -> list[tuple[float, int]]:
    a, b = Parrot(count), Parrot()
    Pair(a, b, forth=conditions, seed=seed).run(60.0)
    return b.heard


def test_a_clean_network_delivers_all_in_order_and_on_time() -> None:
    assert heard(Conditions(0.02), 3) == [(0.02, 3), (0.03, 2), (0.04, 1)]


def test_conditions_do_what_they_say_and_a_seed_repeats_them() -> None:
    assert len(heard(Conditions(loss=0.3))) == pytest.approx(700, abs=60)
    assert len(heard(Conditions(duplicate=0.3))) == pytest.approx(1300, abs=60)
    numbers = [number for _, number in heard(Conditions(reorder=0.2))]
    assert sorted(numbers, reverse=True) != numbers
    assert sum(number > 1000 for _, number in heard(Conditions(corrupt=0.5))) > 200
    bad = Conditions(jitter=0.1, loss=0.1, duplicate=0.1)
    assert heard(bad, seed=5) == heard(bad, seed=5) != heard(bad, seed=6)


def test_what_arrives_at_a_sleeper_waits() -> None:
    a, b = Parrot(3), Parrot()
    pair = Pair(a, b)
    pair.asleep.add(b)
    pair.run(5.0)
    assert b.heard == []
    pair.wake(b)
    assert b.heard == [(5.0, 3), (5.0, 2), (5.0, 1)]


def test_errors_fail_the_run_unless_they_are_expected() -> None:
    a, b = Parrot(), Parrot()
    pair = Pair(a, b, errors=(KeyError,))
    pair.send(a, b"bad")
    pair.run(1.0)
    assert [type(error) for error in pair.errors[b]] == [KeyError]
    strict = Pair(a, b)
    strict.send(a, b"bad")
    with pytest.raises(KeyError):
        strict.run(1.0)


def test_a_run_without_end_fails() -> None:
    with pytest.raises(AssertionError, match="no end after 50 steps"):
        Pair(Parrot(1000), Parrot()).run(60.0, max_steps=50)
