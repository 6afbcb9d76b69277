import trio

from relaymesh.runtime.timer import Timer


class Core:
    def __init__(self) -> None:
        self.at: float | None = None
        self.fired: list[float] = []
        self.then: list[float | None] = []

    def next_timeout(self) -> float | None:
        return self.at

    def handle_timeout(self, now: float) -> None:
        self.fired.append(now)
        self.at = self.then.pop(0) if self.then else None


async def test_it_fires_when_due_and_again_when_poked(autojump_clock):
    core = Core()
    timer = Timer(core.next_timeout, core.handle_timeout)
    start = trio.current_time()
    core.at = start + 3
    core.then = [start + 10]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.run)
        await trio.sleep(5)
        core.at = start + 6  # earlier than the 10 it waits for
        timer.poke()
        await trio.sleep(10)
        timer.poke()  # nothing is due: nothing happens
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert [round(t - start, 6) for t in core.fired] == [3, 6]


async def test_a_core_that_always_wants_now_does_not_starve_others(autojump_clock):
    core = Core()
    core.at = trio.current_time()
    core.then = [trio.current_time()] * 1000
    timer = Timer(core.next_timeout, core.handle_timeout)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.run)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert 10 < len(core.fired) < 200
