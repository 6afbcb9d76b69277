import threading

from relaymesh.runtime.fair_lock import FairLock


def test_who_takes_it_again_and_again_gives_way_to_who_waits() -> None:
    """As packets to signalling, which with a plain lock would wait for thousands of turns."""
    lock = FairLock()
    turns = 0
    waits, done = threading.Event(), threading.Event()
    seen: list[int] = []

    def ask() -> None:
        for _ in range(20):
            waits.wait()
            before = turns
            with lock:
                seen.append(turns - before)
            waits.clear()
        done.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while not done.is_set():
        with lock:
            turns += 1
            waits.set()
    thread.join()
    # It may be a while until the other thread runs and asks; from then on it is a turn or two.
    assert len(seen) == 20
    assert sorted(seen)[10] <= 3


def test_it_is_released_when_what_it_guards_fails() -> None:
    lock = FairLock()
    try:
        with lock:
            raise ValueError
    except ValueError:
        pass
    with lock:
        pass
