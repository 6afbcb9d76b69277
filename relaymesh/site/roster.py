"""The roster of a site: how each worker fares, when one that died starts again, who takes the next client.

In: starts, reports and ends of workers, requests under way, time. Out: delays before restarts, and
choices. Whoever ends before it ever ran could not start, which waiting does not mend: the site fails
at once. Later on a worker is started again, ever later while it keeps failing, and its siblings go
on; the site gives up only when none runs and all have failed time and again. Pure: `now` is given.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Literal

from relaymesh.site.channel import Report

FIRST_WAIT = 0.5  # s before a worker starts again
LONGEST_WAIT = 30.0  # s
STEADY = 60.0  # s; whoever ran for so long begins anew with the first wait
HOPELESS = 5  # failures in a row of every worker

State = Literal["starting", "up", "waiting"]


@dataclass(slots=True)
class Worker:
    """One worker, as its supervisor knows it."""

    number: int
    name: str
    url: str
    state: State = "starting"
    pid: int = 0
    sessions: int = 0
    connected: bool = False  # to a controller
    media: str = ""
    relay: str = ""
    restarts: int = 0
    failures: int = 0  # in a row
    was_up: bool = False  # in any of its lives
    up_since: float = 0.0
    asked: int = 0  # clients that were sent to it and are not in ``sessions`` yet

    @property
    def load(self) -> int:
        return self.sessions + self.asked


class Roster:
    """All workers of a site."""

    def __init__(self, workers: Collection[tuple[str, str]]) -> None:
        """*workers*: name and URL of each, the first one first."""
        self._workers = {
            number: Worker(number, name, url) for number, (name, url) in enumerate(workers, start=1)
        }
        self.failure = ""  # why the site cannot go on; empty while it can

    def __contains__(self, number: int) -> bool:
        return number in self._workers

    def is_up(self, number: int) -> bool:
        """Whether that worker takes requests."""
        return self._workers[number].state == "up"

    def all_up(self) -> bool:
        """Whether all workers take requests."""
        return all(worker.state == "up" for worker in self._workers.values())

    # --- lives -------------------------------------------------------------------------------

    def handle_started(self, number: int, pid: int) -> None:
        """A process was started; it is up with its first report."""
        worker = self._workers[number]
        worker.state, worker.pid = "starting", pid

    def handle_report(self, number: int, report: Report, now: float) -> None:
        """Take in what a worker says of itself."""
        worker = self._workers[number]
        if worker.state != "up":
            worker.state, worker.up_since, worker.was_up = "up", now, True
        worker.sessions, worker.connected = report.sessions, report.connected
        worker.media, worker.relay = report.media, report.relay

    def handle_ended(self, number: int, code: int, now: float) -> float | None:
        """A process ended with *code* (negative: a signal) unasked.

        Returns the seconds after which to start it again; None: the site has failed, see :attr:`failure`.
        """
        worker = self._workers[number]
        if worker.state == "up" and now - worker.up_since >= STEADY:
            worker.failures = 0
        worker.state, worker.pid, worker.sessions, worker.connected = "waiting", 0, 0, False
        if not worker.was_up:
            self.failure = f"worker {worker.name} could not start (exit code {code}); its log line says why"
            return None
        if code == 0:  # somebody stopped this one alone, perhaps to have it read its files again
            worker.restarts += 1
            return FIRST_WAIT
        worker.failures += 1
        if all(one.failures >= HOPELESS and one.state != "up" for one in self._workers.values()):
            self.failure = f"no worker runs, and each has failed {HOPELESS} times in a row or more"
            return None
        worker.restarts += 1
        doublings = min(worker.failures - 1, 16)
        return min(FIRST_WAIT * float(1 << doublings), LONGEST_WAIT)

    # --- clients -----------------------------------------------------------------------------

    def choose(self, but: Collection[int] = ()) -> int | None:
        """The worker with the fewest clients of those that run, if possible of those in the mesh.

        None: none runs, or only those in *but*.
        """
        able = [one for one in self._workers.values() if one.state == "up" and one.number not in but]
        if not able:
            return None
        return min(able, key=lambda one: (not one.connected, one.load, one.number)).number

    def handle_asked(self, number: int) -> None:
        """A client's offer is on its way to this worker."""
        self._workers[number].asked += 1

    def handle_answered(self, number: int, *, opened: bool) -> None:
        """Its answer came; *opened*: with a session, which counts until the next report does."""
        worker = self._workers[number]
        worker.asked -= 1
        if opened and worker.state == "up":
            worker.sessions += 1

    def debug_state(self) -> list[dict[str, object]]:
        """All workers, for /status."""
        hidden = ("was_up", "up_since", "asked")
        return [
            {key: value for key, value in asdict(worker).items() if key not in hidden}
            for worker in self._workers.values()
        ]
