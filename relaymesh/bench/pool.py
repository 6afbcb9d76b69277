"""Many cells of a benchmark in virtual time, several at once in processes of their own, results in order.

In: a function and its arguments, both of a module, so that another process finds them. Out: what it gives.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")


def run_cells(run: Callable[[Given], Result], cells: Sequence[Given], processes: int) -> Iterator[Result]:
    """``run(cell)`` for each of *cells*, *processes* at a time; with one, in this process."""
    if processes <= 1 or len(cells) <= 1:
        yield from map(run, cells)
        return
    pool = ProcessPoolExecutor(min(processes, len(cells)), mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(run, cells)
    finally:
        pool.shutdown(cancel_futures=True)  # whoever stops early does not wait for what has not begun
