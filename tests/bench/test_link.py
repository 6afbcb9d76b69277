from relaymesh.bench import link, report
from relaymesh.bench.link import Cell, Result, run


def without_cpu(result: Result) -> dict[str, object]:
    return {name: getattr(result, name) for name in Result.__slots__ if name != "cpu_us"}


def test_on_a_clean_link_every_policy_costs_nothing() -> None:
    for policy in link.POLICY_NAMES:
        result = run(Cell(40.0, 0.0, 1, policy, 2.0))
        assert (result.residual, result.overhead, result.p999_ms, result.duplicates) == (0.0, 0.0, 0.0, 0)
        assert 0 < result.ack_overhead < 0.01


def test_the_same_seed_gives_the_same_result() -> None:
    cell = Cell(40.0, 0.05, 3, "adaptive", 2.0, seed=5)
    assert without_cpu(run(cell)) == without_cpu(run(cell))
    assert without_cpu(run(Cell(40.0, 0.05, 3, "adaptive", 2.0, seed=6))) != without_cpu(run(cell))


def test_adaptive_meets_its_bounds_in_short() -> None:
    for rtt, burst, residual in ((40.0, 1, 2e-4), (160.0, 1, 4e-4), (40.0, 8, 2e-3), (300.0, 8, 4e-3)):
        result = run(Cell(rtt, 0.05, burst, "adaptive", 10.0))
        assert result.residual <= residual  # 10,000 packets: the bounds themselves need more
        assert result.p99_ms <= result.bound_ms
        assert result.overhead <= 2 * 0.05 + 0.02
        assert result.duplicates == 0


def test_nothing_repaired_is_what_was_lost() -> None:
    result = run(Cell(40.0, 0.05, 1, "none", 10.0))
    assert abs(result.residual - 0.05) < 0.01
    assert result.overhead == 0.0


def test_percentiles() -> None:
    assert link.percentile([], 0.5) == 0.0
    assert link.percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert link.percentile([1.0, 2.0, 3.0], 0.999) == 3.0


def test_the_grid_is_whole() -> None:
    cells = link.grid()
    assert len(cells) == len(set(cells)) == 5 * (1 + 5 * 3) * 4
    assert {cell.seconds for cell in link.grid(quick=True)} == {3.0}


def test_the_page_stands_alone() -> None:
    results = [run(Cell(40.0, loss, burst, "adaptive", 1.0)) for loss in (0.0, 0.05) for burst in (1, 8)]
    text = report.page(results)
    assert text.count("<svg") == 6
    assert "<script" not in text
    assert text.count("http") == text.count('xmlns="http://www.w3.org/2000/svg"')
    assert len(report.table(results).splitlines()) == 2 + len(results)
