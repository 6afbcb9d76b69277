from __future__ import annotations

from typing import Any

from relaymesh.demo.checks import Evidence, judge, verdict

WAY = ("dallas-1", "washington-dc-1", "london-1")


def evidence(*, seconds: float = 10, decoded_fps: float = 25, **changes: Any) -> Evidence:
    published, played = [], []
    for step in range(int(seconds * 4) + 1):
        at = step / 4
        published.append({"at_ms": 1_000_000 + at * 1000, "frames": 100 + round(at * 25)})
        frames = 50 + int(at * decoded_fps)
        latency = {"min_ms": 60.0, "p50_ms": 70.0, "p95_ms": 80.0, "max_ms": 99.0}
        played.append(
            {
                "at_ms": 1_000_100 + at * 1000,
                "frames_decoded": frames,
                "frames_distinct": frames,
                "audio_frames": int(at * 50),
                "latency": latency,
            }
        )
    found = Evidence("Dallas", "London", 53.5, published, played, [WAY], {"washington-dc-1": [0, 900]})
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def failed(found: Evidence) -> list[str]:
    return [check.name.split(",")[0].split(" in ")[0] for check in judge(found) if not check.passed]


def test_media_that_crossed_the_mesh_passes() -> None:
    result = verdict(evidence(), 4.5)
    assert result["passed"] is True
    checks = result["checks"]
    assert isinstance(checks, list)
    assert checks[0]["name"] == "frames decoded in London, 2 hops from Dallas"
    assert set(checks[0]) == {"name", "value", "bound", "passed"}
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["path"] == list(WAY)
    assert metrics["startup_s"] == 4.5
    assert metrics["forwarded_packets"] == {"washington-dc-1": 900}


def test_nothing_at_all_fails_everything() -> None:
    found = Evidence("Dallas", "London", 53.5)
    assert len(failed(found)) == 5
    assert verdict(found, 0.0)["passed"] is False


def test_each_thing_that_must_hold_can_fail_alone() -> None:
    assert failed(evidence(decoded_fps=23)) == ["frames decoded"]
    assert failed(evidence(paths=[("dallas-1", "london-1")])) == [
        "hops on the path",
        "packets passed on by the transit node",
    ]
    assert failed(evidence(forwarded={"washington-dc-1": [900, 900]})) == [
        "packets passed on by the transit node"
    ]
    assert failed(evidence(path_delay_ms=61.0)) == ["from drawing to decoding"]
    silent = evidence()
    for report in silent.played:
        report["audio_frames"] = 0
    assert failed(silent) == ["audio frames decoded"]


def test_a_player_that_stops_halfway_fails() -> None:
    found = evidence()
    half = found.played[20]
    for report in found.played[21:]:
        report["frames_distinct"] = half["frames_distinct"]
    assert "frames decoded" in failed(found)


def test_too_short_a_window_is_no_proof() -> None:
    assert "frames decoded" in failed(evidence(seconds=1))


def test_a_path_seen_only_for_a_while_counts() -> None:
    assert failed(evidence(paths=[WAY, ("dallas-1", "london-1")])) == []
