"""Real browsers with simulcast and SVC: each player gets the layer that its access line carries.

A camera at one edge publishes three layers; players two hops away have access lines of 150 kbit/s, 700 kbit/s
and without a limit. The machine that runs this encodes and decodes all of it, so that bounds are of what
arrives and is chosen, not of how smoothly two cores show it.
"""

from __future__ import annotations

import time

import pytest

from tests.e2e import adaptive
from tests.e2e.adaptive import Player, encodes, live_layers, publish
from tests.e2e.firefox import Firefox, find_firefox
from tests.e2e.processes import own_address, square_mesh, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.processes]

# The figures are printed; `tests/netsim/test_adaptive.py` holds their bounds in virtual time. Here two cores
# encode three layers and decode three players, and only what is chosen at all is judged.
SETTLES_S = 20.0
CUT_S = 8.0
CLIMBS_S = 25.0


def test_each_player_settles_on_the_layer_its_access_carries(mesh, browsers, capsys):
    camera = browsers[0].new_context().new_page()
    answer = publish(mesh, camera, "simulcast")
    assert "a=simulcast:recv q;h;f" in answer
    wait_for(lambda: len(live_layers(mesh, "simulcast")) == 3, 30.0, "three live layers")
    players = {rate: Player(mesh, browsers[1], "simulcast", rate) for rate in (150_000.0, 700_000.0, None)}
    try:
        for player in players.values():
            player.play()
        wait_for(lambda: players[700_000.0].height() == 360, SETTLES_S, "360 lines at 700 kbit/s")
        wait_for(lambda: players[None].height() == 720, SETTLES_S, "720 lines without a limit")
        wait_for(lambda: players[150_000.0].height() == 180, SETTLES_S, "180 lines at 150 kbit/s")
        narrow = players[700_000.0]
        narrow.line.down_bps = 150_000.0
        began = time.monotonic()
        wait_for(lambda: narrow.height() == 180, CUT_S, "a step down after the cut")
        down = time.monotonic() - began
        narrow.line.down_bps = 700_000.0
        began = time.monotonic()
        wait_for(lambda: narrow.height() == 360, CLIMBS_S, "a climb back")
        up = time.monotonic() - began
        seen = {rate: player.look() for rate, player in players.items()}
    finally:
        for player in players.values():
            player.close()
        camera.close()
    with capsys.disabled():
        print(f"\n  down {down:.1f} s after the cut, up {up:.1f} s after its end")
        for rate, look in seen.items():
            stats = look["stats"]
            print(
                f"  {'no limit' if rate is None else f'{rate / 1e3:.0f} kbit/s'}: lines over time "
                f"{[(round(at), lines) for at, lines in look['heights']]}, {stats['framesDecoded']} decoded, "
                f"dropped {stats['framesDropped']}, freezes {stats['freezeCount']}"
            )


def test_what_nobody_takes_does_not_cross(mesh, browsers):
    camera = browsers[0].new_context().new_page()
    publish(mesh, camera, "unwatched")
    wait_for(lambda: len(live_layers(mesh, "unwatched")) == 3, 30.0, "three live layers")

    def demanded() -> set[str]:
        for publication in mesh.status("a")["publications"]:
            if publication["participant"] == "unwatched":
                return {key for wishes in publication["demand"].values() for key in wishes}
        return set()

    player = Player(mesh, browsers[1], "unwatched", None).play()
    try:
        wait_for(lambda: any(key.endswith("/2") for key in demanded()), 15.0, "demand for the top layer")
    finally:
        player.close()
    wait_for(lambda: not demanded(), 10.0, "the end of all demand")
    camera.close()


@pytest.mark.parametrize(("codec", "mode"), [("VP9", "L3T3_KEY"), ("AV1", "L1T3"), ("H264", None)])
def test_other_codecs_and_scalable_layers(mesh, browsers, codec, mode, capsys):
    camera = browsers[0].new_context().new_page()
    name = f"codec-{codec.lower()}"
    if not encodes(mesh, camera, codec, mode):
        pytest.skip(f"this Chromium does not encode {codec} {mode or ''}")
    publish(mesh, camera, name, codec, mode)
    wait_for(lambda: live_layers(mesh, name), 30.0, "a live layer")
    player = Player(mesh, browsers[1], name, None).play()
    try:
        # The pictures since the last keyframe come first, all at once: a renderer shows the last of them.
        wait_for(lambda: (player.look()["stats"] or {}).get("framesDecoded", 0) > 60, 30.0, "sixty frames")
        before = player.look()["stats"]
        wanted = before["framesDecoded"] + 100
        wait_for(lambda: player.look()["stats"]["framesDecoded"] >= wanted, 30.0, "a hundred more")
        stats = player.look()["stats"]
        decoded = stats["framesDecoded"] - before["framesDecoded"]
        dropped = stats["framesDropped"] - before["framesDropped"]
        with capsys.disabled():
            layers = live_layers(mesh, name)[-1]["layers"]
            print(
                f"\n  {codec} {mode}: {decoded} decoded, {dropped} dropped, lines {player.height()}, {layers}"
            )
        assert dropped <= 0.1 * decoded
    finally:
        player.close()
        camera.close()


def test_firefox_publishes_simulcast_and_plays(tmp_path, capsys):
    path = find_firefox()
    if path is None:
        pytest.skip("no Firefox here")
    mesh = square_mesh(tmp_path, media_host=own_address())  # Firefox makes no checks to loopback
    opened: list[Firefox] = []
    try:
        mesh.start()
        opened.append(Firefox(path, tmp_path / "publisher"))
        answer = publish(mesh, opened[0], "fox")
        assert "a=simulcast:recv q;h;f" in answer
        wait_for(lambda: len(live_layers(mesh, "fox")) == 3, 30.0, "three live layers")
        opened.append(Firefox(path, tmp_path / "player"))
        opened[1].goto(mesh.http("c", "/healthz"))
        opened[1].evaluate(adaptive.PLAY, [mesh.http("c", "/whep/e2e/fox"), 0, True])

        def look() -> dict:
            return opened[1].evaluate(adaptive.INBOUND)

        wait_for(lambda: (look()["stats"] or {}).get("framesDecoded", 0) > 60, 30.0, "sixty frames")
        wait_for(lambda: look()["heights"][-1][1] > 360, 15.0, "the top layer")
        with capsys.disabled():
            print(f"\n  Firefox: lines over time {look()['heights']}")
    finally:
        for browser in opened:
            browser.close()
        mesh.stop()


def test_the_check_of_pictures_finds_wrong_ones(mesh, browsers):
    """A camera that draws every twentieth picture wrong is seen to do so, and one that does not, is not."""
    found = {}
    for name, spoil in (("sound", 0), ("spoilt", 20)):
        camera = browsers[0].new_context().new_page()
        marked = {"width": 640, "height": 360, "fps": 20, "noise": 0.1, "spoil": spoil}
        publish(mesh, camera, name, "VP8", "L1T1", marked)
        player = Player(mesh, browsers[1], name, None, watch=True).play()
        try:
            wait_for(lambda player=player: player.seen()["pictures"] > 100, 30.0, "a hundred pictures")
            found[name] = player.seen()
        finally:
            player.close()
            camera.close()
    assert not found["sound"]["corrupted"]
    numbers = {wrong["number"] % 20 for wrong in found["spoilt"]["corrupted"]}
    assert numbers == {0}


@pytest.mark.parametrize("described", [True, False])
def test_av1_in_spatial_layers_with_and_without_the_descriptor(mesh, browsers, described):
    """Without it a player cannot put the layers together, and Chromium does not ask for it by itself."""
    camera = browsers[0].new_context().new_page()
    name = f"av1-{described}"
    marked = {"width": 640, "height": 360, "fps": 15, "noise": 0.1, "spoil": 0}
    if not encodes(mesh, camera, "AV1", "L2T1"):
        pytest.skip("this Chromium does not encode AV1 in L2T1")
    publish(mesh, camera, name, "AV1", "L2T1", marked)
    player = Player(mesh, browsers[1], name, None, watch=True, described=described).play()
    try:
        wait_for(
            lambda: player.height() in (range(340, 361) if described else range(170, 181)), 30.0, "layers"
        )
        shown = player.seen()["pictures"]
        wait_for(lambda: player.seen()["pictures"] > shown + 60, 30.0, "sixty pictures more")
        assert not player.seen()["corrupted"]
    finally:
        player.close()
        camera.close()
