"""Link reports for tests: only what a test is about needs saying."""

from __future__ import annotations

from relaymesh.protocol.messages import LinkReport


def up(
    peer: int,
    rtt_ms: float = 10.0,
    *,
    jitter_ms: float = 0.0,
    loss_out: float = 0.0,
    loss_in: float = 0.0,
) -> LinkReport:
    return LinkReport(peer, True, rtt_ms, jitter_ms, loss_out, loss_in, 100, 100)


def down(peer: int) -> LinkReport:
    return LinkReport(peer, False, 0.0, 0.0, 1.0, 1.0, 100, 0)
