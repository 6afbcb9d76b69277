from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from relaymesh.client.participant import Player, Publisher
from relaymesh.client.run import Order, Report, play, publish
from relaymesh.client.sources import BeepAudio, ClockVideo
from relaymesh.client.whip import SignallingError, endpoint
from tests.client.fake_node import FakeNode, fake_node


def with_node(test: Callable[[FakeNode], Awaitable[None]]) -> None:
    async def run() -> None:
        async with fake_node() as node:
            await asyncio.wait_for(test(node), 30)

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    """Poll for what a real connection takes its time for; the caller's timeout bounds it."""
    while not condition():
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_published_pictures_are_played_and_both_leave(codec: str) -> None:
    async def test(node: FakeNode) -> None:
        # At 320 pixels a block of the stamp is smaller than a macroblock: VP8 does not redraw each in time.
        video = ClockVideo(640, 360, 25)
        async with Publisher(node.url("whip"), video=video, audio=BeepAudio(), codec=codec) as publisher:
            assert publisher.state == "connected"
            async with Player(node.url("whep"), codec=codec) as player:
                await until(lambda: player.seen().frames_distinct >= 15 and player.seen().audio_frames >= 20)
                seen = player.seen()
        assert seen.frames_unreadable == 0
        assert seen.first_frame_ms is not None
        assert seen.latency is not None
        assert 0 <= seen.latency.min_ms < 2000
        assert seen.last_number is not None
        assert seen.last_number < video.frames
        assert [line.split()[0] for line in node.requests] == ["POST", "POST", "DELETE", "DELETE"]
        assert f"codec={codec}" in node.requests[0]
        assert node.sessions == {}

    with_node(test)


@pytest.mark.parametrize("side", [Player, Publisher])
def test_a_refusal_says_what_the_server_said(side: type[Player] | type[Publisher]) -> None:
    async def test(node: FakeNode) -> None:
        node.refuse = (503, "the controller is out of reach")
        with pytest.raises(SignallingError, match="503: the controller is out of reach") as caught:
            async with side(node.url(side.kind)):
                pass
        assert caught.value.status == 503

    with_node(test)


def test_playing_what_nobody_publishes_is_404() -> None:
    async def test(node: FakeNode) -> None:
        with pytest.raises(SignallingError, match="nobody publishes demo/clock") as caught:
            async with Player(node.url("whep")):
                pass
        assert caught.value.status == 404

    with_node(test)


def test_a_server_that_is_not_there() -> None:
    async def test(node: FakeNode) -> None:
        with pytest.raises(SignallingError, match="no answer from") as caught:
            async with Player("http://127.0.0.1:1/whep/demo/clock"):
                pass
        assert caught.value.status is None

    with_node(test)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "demo",
        "ftp://a/whep/r/p",
        "http://a/whip/r/p",
        "http://a/whep/r",
        "http://a/whep/r/",
        "http:///whep/r/p",
        "http://a/x//whep/r/p",
    ],
)
def test_a_url_that_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        endpoint(url, "whep")


@pytest.mark.parametrize("prefix", ["", "/mesh", "/mesh/worker/2"])
def test_an_endpoint_may_stand_behind_a_prefix(prefix: str) -> None:
    url = f"https://a{prefix}/whep/r/p"
    assert endpoint(url, "whep") == url


def test_runs_report_and_end_by_themselves(tmp_path: Path) -> None:
    async def test(node: FakeNode) -> None:
        stop, told, frame = asyncio.Event(), [], tmp_path / "frame.png"

        async def player() -> Report:
            order = Order(node.url("whep"), 20, report_every=0.1, retry=True)  # starts before the publisher

            def tell(report: Report) -> None:
                told.append(report)
                if report["frames_distinct"] >= 10:  # type: ignore[operator]
                    stop.set()

            return await play(order, stop, tell, save_frame=frame)

        playing = asyncio.create_task(player())
        sent = await publish(Order(node.url("whip")), stop, told.append, size=(320, 180))
        played = await playing
        assert sent["event"] == played["event"] == "summary"
        assert sent["frames"] >= played["frames_distinct"] >= 10  # type: ignore[operator]
        assert {"connected", "report"} <= {report["event"] for report in told}
        assert frame.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert node.sessions == {}

    with_node(test)


def test_a_time_limit_and_a_refusal_without_retry() -> None:
    async def test(node: FakeNode) -> None:
        stop = asyncio.Event()
        summary = await publish(Order(node.url("whip"), 0.3), stop, lambda _: None, size=(320, 180))
        assert summary["state"] == "connected"
        node.refuse = (409, "demo/clock is published already")
        with pytest.raises(SignallingError, match="409"):
            await publish(Order(node.url("whip"), 5), stop, lambda _: None)

    with_node(test)
