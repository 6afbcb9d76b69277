"""Links whose behaviour a test decides."""

from random import Random


class FixedLink:
    """A constant delay; every packet comes *copies* times, or never."""

    def __init__(self, delay: float, copies: int = 1) -> None:
        self.delay, self.copies = delay, copies
        self.sizes: list[int] = []

    def due(self, now: float, size: int) -> tuple[float, ...]:
        self.sizes.append(size)
        return (now + self.delay,) * self.copies


class RandomLink:
    """Seeded jitter, loss, reordering and duplication."""

    def __init__(self, seed: str, delay: float = 0.02, loss: float = 0.1, doubled: float = 0.05) -> None:
        self._rng = Random(seed)
        self._delay, self._loss, self._doubled = delay, loss, doubled

    def due(self, now: float, size: int) -> tuple[float, ...]:
        rng = self._rng
        if rng.random() < self._loss:
            return ()
        copies = 2 if rng.random() < self._doubled else 1
        return tuple(now + self._delay * (1 + rng.random()) for _ in range(copies))


class DroppingLink:
    """Loses the packets whose number (from 0) is in *lost*."""

    def __init__(self, delay: float, lost=()) -> None:
        self._delay, self.lost = delay, set(lost)
        self.sizes: list[int] = []

    def due(self, now: float, size: int) -> tuple[float, ...]:
        self.sizes.append(size)
        return () if len(self.sizes) - 1 in self.lost else (now + self._delay,)
