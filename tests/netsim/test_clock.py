"""Virtual time itself: jumps, stalls, failures, and that nothing stays changed."""

import random
import signal
import sys
import threading
import time

import pytest
import trio
import trio._core._run as trio_run
import trio.testing

from relaymesh.netsim import clock
from relaymesh.netsim.clock import Timeline, TrioMoved, VirtualSpin, VirtualStall, check_trio, run_virtual
from relaymesh.netsim.net import Network
from tests.netsim.links import FixedLink

A, B = "10.0.0.1", "10.0.0.2"


def make_network(**more) -> Network:
    return Network(1, lambda source, target: FixedLink(0.025), **more)


def run(main, seed=1, **more):
    return run_virtual(main, seed=seed, network=make_network(), **more)


def changeable() -> tuple[object, ...]:
    """What a run changes and must put back."""
    return (
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING,
        trio_run._r.getstate(),
        random.getstate(),
        threading.Thread.start,
        trio.lowlevel.start_thread_soon,
        time.time,
        time.monotonic,
        time.perf_counter,
    )


def test_hours_take_no_time():
    async def main(network):
        await trio.sleep(3600)
        return trio.current_time()

    began = time.monotonic()
    assert run(main) == 3600.0
    assert time.monotonic() - began < 5


def test_time_is_exactly_what_was_asked_for():
    deadlines = [random.Random(3).uniform(0, 1e6) for _ in range(1000)]

    async def main(network):
        woken = []
        for deadline in sorted(deadlines):
            await trio.sleep_until(deadline)
            woken.append(trio.current_time())
        return woken

    assert run(main) == sorted(deadlines)


def test_the_run_may_start_later():
    async def main(network):
        began = trio.current_time()
        await trio.sleep(1)
        return began, network.now

    assert run_virtual(main, seed=1, network=make_network(start=1000.0)) == (1000.0, 1001.0)


def test_events_and_tasks_share_one_time():
    async def main(network):
        seen = []
        network.at(1.0, lambda: seen.append(("event", network.now)))
        network.at(3.0, lambda what: seen.append((what, network.now)), "another")
        network.at(-5.0, lambda: seen.append(("past", network.now)))
        await trio.sleep(2)
        seen.append(("task", trio.current_time()))
        await trio.sleep(2)
        return seen

    assert run(main) == [("past", 0.0), ("event", 1.0), ("task", 2.0), ("another", 3.0)]


def test_a_timeline_keeps_the_order_of_what_is_due_together():
    timeline, seen = Timeline(), []
    for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b")):
        timeline.at(when, seen.append, name)
    assert (timeline.next_time(), len(timeline)) == (1.0, 3)
    assert timeline.step(2.0)
    assert (timeline.now, seen) == (1.0, ["a", "b"])
    assert timeline.step(1.5)
    assert (timeline.now, seen) == (1.5, ["a", "b"])
    assert timeline.step(2.5)
    assert (timeline.now, seen) == (2.0, ["a", "b", "c"])
    assert timeline.step(1.0), "a deadline may have passed; the time does not go back"
    assert (timeline.now, timeline.next_time(), len(timeline)) == (2.0, float("inf"), 0)
    assert not timeline.step(float("inf"))


def test_a_stall_names_who_waits_and_where():
    async def wait_for_ever(port):
        await port.receive()

    async def wait_for_event():
        await trio.Event().wait()

    async def main(network):
        cleaned_up = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_ever, network.udp_port(A, 1), name="node london-1")
                nursery.start_soon(wait_for_event)
                await trio.sleep(5)
        finally:
            cleaned_up.append(True)

    with pytest.raises(VirtualStall) as caught:
        run(main)
    text = str(caught.value)
    assert "at 5.000000 s every task waits" in text
    assert "node london-1: relaymesh.netsim.ports:" in text
    assert "test_clock:" in text
    assert "wait_for_event, waits in trio's Event.wait" in text
    assert text.count("\n") == 3


def test_a_stall_lets_tasks_clean_up():
    cleaned_up = []

    async def main(network):
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            cleaned_up.append(trio.current_time())

    with pytest.raises(VirtualStall):
        run(main)
    assert cleaned_up == [1.0]


def test_a_stall_that_is_shielded_from_cancellation_ends_all_the_same():
    cleaned_up = []

    async def child():
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.append(True)

    async def main(network):
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)

    before = changeable()
    with pytest.raises(VirtualStall):
        run(main)
    assert changeable() == before
    assert cleaned_up == [True]


def test_tasks_that_run_on_the_spot_are_an_error(monkeypatch):
    monkeypatch.setattr(clock, "SPIN_LIMIT", 1000)

    async def main(network):
        await trio.sleep(2)
        while True:
            with trio.CancelScope(deadline=trio.current_time()):
                await trio.sleep_forever()

    with pytest.raises(VirtualSpin, match=r"at 2\.000000 s tasks run and run"):
        run(main)


def test_checkpoints_without_end_are_an_error_too(monkeypatch):
    monkeypatch.setattr(clock, "SPIN_LIMIT", 1000)

    async def main(network):
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(VirtualSpin):
        run(main)


def test_events_that_only_beget_events_leave_trio_its_turn():
    async def main(network):
        def again():
            network.at(network.now + 1e-6, again)

        again()
        await trio.sleep(0.05)
        return network.now

    assert run(main) == 0.05


def test_an_error_in_an_event_ends_the_run():
    async def main(network):
        def fail():
            raise ZeroDivisionError("in an event")

        network.at(1.0, fail)
        await trio.sleep(10)

    before = changeable()
    with pytest.raises(ZeroDivisionError, match="in an event"):
        run(main)
    assert changeable() == before


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_errors_come_out_as_they_are_and_all_is_put_back(error):
    async def main(network):
        assert changeable()[0] is True
        await trio.sleep(1)
        raise error

    before = changeable()
    with pytest.raises(type(error)) as caught:
        run(main)
    assert caught.value is error
    assert changeable() == before


def test_ctrl_c_ends_a_run_that_has_only_events():
    """Also where the tests were started in the background, which makes processes ignore SIGINT."""

    async def main(network):
        def again():
            network.at(network.now + 1e-3, again)

        again()
        network.at(1.0, signal.raise_signal, signal.SIGINT)
        await trio.sleep_forever()

    before = changeable()
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(main)
    finally:
        signal.signal(signal.SIGINT, inherited)
    assert changeable() == before


def test_a_good_run_puts_all_back():
    async def main(network):
        random.random()
        await trio.sleep(1)
        return "done"

    before = changeable()
    assert run(main) == "done"
    assert changeable() == before


def test_pythons_own_generator_is_seeded():
    async def main(network):
        return random.random()

    assert run(main, seed=4) == run(main, seed=4) != run(main, seed=5)


def test_the_order_of_tasks_comes_from_the_seed():
    async def main(network):
        order = []

        async def task(number):
            await trio.sleep(1)
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(task, number)
        return order

    orders = [run(main, seed=seed) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_waiting_for_all_tasks_blocked_takes_no_virtual_time():
    async def main(network):
        await trio.testing.wait_all_tasks_blocked()
        return trio.current_time()

    assert run(main) == 0.0


def test_it_does_not_run_inside_trio():
    async def main(network):
        return run(main)

    with pytest.raises(RuntimeError, match="inside a run"):
        run(main)


def test_this_trio_has_the_inner_parts_the_clock_is_built_on():
    """The one list of private parts. If this fails, a new trio moved them: the message says which."""
    check_trio()


@pytest.mark.parametrize(
    ("owner", "name", "told"),
    [
        (trio_run, "_r", r"trio._core._run._r \(random.Random\)"),
        (trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", "_ALLOW_DETERMINISTIC_SCHEDULING"),
        (trio_run.Deadlines, "next_deadline", "Deadlines.next_deadline"),
        (trio.testing.MockClock, "_autojump", "MockClock._autojump"),
    ],
)
def test_a_trio_that_moved_them_is_told_by_name(monkeypatch, owner, name, told):
    async def main(network):
        pass

    monkeypatch.delattr(owner, name)
    with pytest.raises(TrioMoved, match=rf"does not know trio \d.*{told}"):
        run(main)


def test_the_clock_is_asked_by_the_loop_as_it_expects():
    """What no attribute check shows: trio calls the instance's methods, and jumps when all wait."""

    async def main(network):
        assert type(trio.lowlevel.current_clock()) is trio.testing.MockClock
        await trio.sleep(1)
        network.at(1.5, lambda: None)
        await trio.sleep(1)
        return network.now

    assert run(main) == 2.0
    assert "relaymesh.netsim.clock" in sys.modules
