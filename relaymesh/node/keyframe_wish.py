"""Everybody's wishes for keyframes, merged into requests that a publisher can bear. PURE.

A keyframe is many times as large as another picture, and libwebrtc answers a request for one encoding of
a simulcast track with a keyframe of each. So what players ask for may come at their rate, what the
publisher is asked for may not: requests for one track are counted together (:class:`Requests`), and
who has a picture already and only wants a better one leaves the publisher in peace for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

KEYFRAME_INTERVAL = 0.3  # s between two requests for one track: the first one's answer may serve both
KEYFRAME_RETRY = 0.5  # s; a request can be lost, so it is repeated until a keyframe is seen; …
IGNORED_RETRY = 2.0  # … s, where the last one brought none
IN_PEACE = 1.0  # s after a request for which who only wants a better picture does not ask for another
ANSWERED_WITHIN = 0.35  # s; what begins with a keyframe does not wait for it longer
CAME_BY_ITSELF = 0.7  # s; a keyframe that comes later is no answer (OBS and ffmpeg ignore PLI)


class Requests:
    """The requests for keyframes of one track: how often they may go, and what is known of their answers."""

    __slots__ = ("_last_sent", "ignored", "touch")

    def __init__(self) -> None:
        self.touch: Callable[[], None] | None = None  # told when one is wanted that was not
        self.ignored = False  # the last one brought no keyframe
        self._last_sent = -inf

    @property
    def next_at(self) -> float:
        """When the next may go."""
        return self._last_sent + KEYFRAME_INTERVAL

    def note_sent(self, now: float) -> None:
        """One goes."""
        self._last_sent = now

    def patience(self, now: float) -> float:
        """Seconds for which a wish that has time should wait: the publisher was asked so lately."""
        return max(0.0, self._last_sent + IN_PEACE - now)


class KeyframeWish:
    """Merges everybody's wish for a keyframe of one encoding into requests at a bounded rate.

    Wishes arrive by :meth:`ask`; :meth:`due` says when one request must go out; :meth:`seen` ends
    the wish. Unanswered requests are repeated.
    """

    __slots__ = ("_asked_at", "_first_sent", "_last_sent", "_requests", "_wanted", "requests")

    def __init__(self, requests: Requests | None = None) -> None:
        """*requests*: one for all encodings of a track."""
        self._requests = requests if requests is not None else Requests()
        self._wanted = False
        self._asked_at = -inf
        self._last_sent = -inf
        self._first_sent = inf  # of the requests for what is wanted now
        self.requests = 0

    def ask(self, now: float, *, patience: float = 0.0) -> None:
        """Want a keyframe; with *patience* (seconds) only if none comes by itself within that time."""
        if not self._wanted:
            self._wanted = True
            self._asked_at = now + patience
        elif now + patience < self._asked_at:
            self._asked_at = now + patience
        else:
            return
        if self._requests.touch is not None:
            self._requests.touch()

    def seen(self, now: float) -> None:
        """A keyframe came."""
        if self._wanted and self._first_sent < inf:
            self._requests.ignored = now - self._first_sent > CAME_BY_ITSELF
        self.drop()

    def drop(self) -> None:
        """It is not wanted any more."""
        self._wanted, self._first_sent = False, inf

    def is_ignored(self, now: float) -> bool:
        """Whether a keyframe does not come for being asked for, as far as this was tried or is known."""
        return self._requests.ignored or now - self._first_sent > ANSWERED_WITHIN

    def note_ignored(self) -> None:
        """The ingress says so."""
        self._requests.ignored = True

    @property
    def wanted(self) -> bool:
        """A keyframe is waited for."""
        return self._wanted

    def next_timeout(self) -> float | None:
        """When the next request is due; ``None`` while nobody wants one."""
        if not self._wanted:
            return None
        # A new wish waits for the rate limit only, a repeated one for an answer.
        retry = IGNORED_RETRY if self._requests.ignored else KEYFRAME_RETRY
        repeated = self._last_sent + retry if self._last_sent >= self._asked_at else -inf
        return max(self._asked_at, repeated, self._requests.next_at)

    def due(self, now: float) -> bool:
        """Whether a request must go out now; if so it counts as sent."""
        at = self.next_timeout()
        if at is None or at > now:
            return False
        self._last_sent = now
        self._first_sent = min(self._first_sent, now)
        self._requests.note_sent(now)
        self.requests += 1
        return True
