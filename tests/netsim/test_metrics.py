from __future__ import annotations

from relaymesh.netsim.metrics import METRICS, metric_names, quantiles


def test_names_are_flat() -> None:
    names = metric_names()
    assert {"media_gap_ms.p99", "loops", "added_delay_ms.p999", "first_frame_ms.p95"} <= set(names)
    assert "media_gap_ms" not in names
    assert len(names) == len(set(names))
    assert all("." not in name for name in METRICS)


def test_quantiles_are_values_that_were_there() -> None:
    assert quantiles([]) == {"p50": None, "p99": None, "max": None}
    assert quantiles([3.0]) == {"p50": 3.0, "p99": 3.0, "max": 3.0}
    hundred = [float(value) for value in range(1, 101)]
    assert quantiles(reversed(hundred), ("p10", "p50", "p90", "p95", "p99", "p999", "max")) == {
        "p10": 10, "p50": 50, "p90": 90, "p95": 95, "p99": 99, "p999": 100, "max": 100,
    }  # fmt: skip
