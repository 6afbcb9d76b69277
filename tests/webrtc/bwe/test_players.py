"""Players on layers: at the start, after a cut, after its end."""

from __future__ import annotations

import pytest

from relaymesh.node.allocation import Layer
from tests.webrtc.bwe.paths import Player, path


@pytest.mark.parametrize("rtt_ms", [20.0, 60.0, 150.0])
@pytest.mark.parametrize(("rate_bps", "level"), [(150e3, 0), (700e3, 1), (None, 2)])
def test_each_player_settles_on_the_fitting_layer(rtt_ms: float, rate_bps: float | None, level: int) -> None:
    on = path(rtt_ms, rate_bps)
    player = Player(on, rtt_ms)
    on.advance(20.0)
    assert player.settled(level, 0.0, 20.0) <= 3.0, player.steps


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("stalled_bps", [20e3, 60e3])
def test_a_video_that_a_stall_paused_goes_on_soon_after_it(stalled_bps: float, seed: int) -> None:
    """The line has room for audio and one layer, and hardly any more; audio alone shows none of it."""
    on = path(40.0, 150e3, seed, queue_ms=200.0)
    player = Player(on, 40.0, seed, (Layer(0, 0, 2, 80e3),))
    on.at(10.0, lambda: on.forth.apply(10.0, rate_bps=stalled_bps))
    on.at(11.0, lambda: on.forth.apply(11.0, rate_bps=150e3))
    on.advance(30.0)
    assert [level for _, level in player.steps] == [0, -1, 0], player.steps
    assert player.settled(0, 11.0, 30.0) <= 2.5, player.steps


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("rtt_ms", [20.0, 60.0, 150.0])
def test_down_after_a_cut_and_back_after_it(rtt_ms: float, seed: int) -> None:
    on = path(rtt_ms, 3e6, seed)
    player = Player(on, rtt_ms, seed)
    on.at(10.0, lambda: on.forth.apply(10.0, rate_bps=700e3))
    on.at(25.0, lambda: on.forth.apply(25.0, rate_bps=3e6))
    on.advance(40.0)
    assert player.settled(2, 0.0, 10.0) <= 3.0
    down = next(at for at, level in player.steps if at > 10.0 and level < 2)
    assert down - 10.0 <= 2.0
    assert all(level < 2 for at, level in player.steps if down <= at < 25.0)
    assert player.settled(2, 25.0, 40.0) <= 10.0, player.steps
