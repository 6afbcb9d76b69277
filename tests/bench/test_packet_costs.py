"""What the packet benchmarks make of what they counted: medians, ratios, notes, the search, the reports."""

from __future__ import annotations

import json
import os
import time
from random import Random
from xml.etree import ElementTree

import pytest

from relaymesh.bench import edge, hop, janus, packet_page, packet_report, saturation
from relaymesh.bench.arrivals import Tally
from relaymesh.bench.edge import Run, Setting
from relaymesh.bench.edge_feed import Sent
from relaymesh.bench.edge_players import WATCHED, is_watched
from relaymesh.bench.idle import IdleResult, JoinResult
from relaymesh.bench.packet_mesh import Shape, machine, process_cpu_s
from relaymesh.bench.packet_rows import Row
from relaymesh.bench.simulation import ScenarioCost, StackRate
from relaymesh.bench.virtual_network import NetworkRate
from relaymesh.netsim.descriptions import Section
from relaymesh.netsim.rtp_client import RtpClient
from relaymesh.topology import parse_topology
from relaymesh.webrtc.certificate import Certificate

TEN = Setting(players=10)


def run(
    cpu_s: float, *, sent: int = 400, arrived: int = 4000, p99_ms: float = 1.0, late_ms: float = 0.1
) -> Run:
    tally = Tally(arrived, other=0, watched=40, gaps=0, refused=0, p50_ms=p99_ms / 2, p99_ms=p99_ms)
    return Run(cpu_s, seconds=2.0, sent=Sent(sent, 2.0, late_ms), tally=tally)


def a_round(idle: float, node: Run, floor: Run, **others: Run) -> edge.Round:
    runs = {edge.NODE: node, edge.FLOOR: floor, **others}
    return edge.Round(runs, dict.fromkeys(runs, 0.0) | {edge.NODE: idle})


def test_a_cost_is_the_median_less_what_idleness_costs() -> None:
    rounds = [
        a_round(0.01, run(0.06), run(0.02)),
        a_round(0.02, run(0.09), run(0.02)),
        a_round(0.01, run(0.9), run(0.2)),
    ]
    result = edge.conclude(TEN, Row(400, 8), rounds)
    assert result.cost_us == pytest.approx((0.09 - 0.04) / 4000 * 1e6)
    assert result.floor_us == pytest.approx(5.0)
    assert result.ratio == pytest.approx(2.5), "each round's own: a slow third of the machine slows both"
    assert result.idle_ms == pytest.approx(10.0)
    assert result.verified
    assert result.note == ""


def test_a_row_says_what_speaks_against_it() -> None:
    result = edge.conclude(TEN, Row(100), [a_round(0.0, run(0.1, arrived=3990), run(0.1, arrived=3000))])
    assert result.note == "only 99.75 % arrived, only 75.00 % of the floor's"
    torn = run(0.1)
    torn = Run(torn.cpu_s, torn.seconds, torn.sent, Tally(4000, 0, 40, 1, 0, 0.5, 1.0))
    assert edge.conclude(TEN, Row(100), [a_round(0.0, run(0.1), torn)]).note == "what arrived was not whole"


def test_janus_stands_beside_where_it_was_measured() -> None:
    rounds = [a_round(0.01, run(0.06), run(0.02), janus=run(0.08, arrived=3990))]
    result = edge.conclude(TEN, Row(100), rounds)
    assert (result.janus_us, result.janus_ratio) == (
        pytest.approx(20.05, abs=0.01),
        pytest.approx(0.5, abs=0.01),
    )
    assert result.note == "only 99.75 % of Janus's"
    assert "Janus" in packet_report.edge_table([result]).text()
    assert len(packet_page.edge_groups([result])[0][1]) == 3
    without = edge.conclude(TEN, Row(100), [a_round(0.01, run(0.06), run(0.02))])
    assert without.janus_us is without.janus_ratio is None
    assert "Janus" not in packet_report.edge_table([without]).text()


def test_a_viewer_answers_with_one_codec_and_the_mid_it_is_told() -> None:
    client = RtpClient(Certificate.generate(1_700_000_000), Random(1).randbytes)
    own = client.offer("recvonly", [Section("video")], ("192.0.2.9", 4000))
    answer = janus.answer_to("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:v\r\n", own)
    assert "\r\nm=video 4000 UDP/TLS/RTP/SAVPF 96\r\n" in answer
    assert "a=mid:v\r\n" in answer and "a=group:BUNDLE v\r\n" in answer
    assert "a=setup:active" in answer and "actpass" not in answer
    assert "rtx" not in answer


@pytest.mark.parametrize("carried", [30, 100, 3000, 77_000])
def test_the_search_ends_near_what_is_carried(carried: int) -> None:
    low, high, rate, tried = 0, 0, saturation.FIRST_RATE, []
    while rate:
        tried.append(rate)
        low, high = (rate, high) if rate <= carried else (low, rate)
        rate = saturation.next_rate(low, high)
    assert len(tried) <= saturation.MOST_STEPS
    assert low <= carried < high
    assert high / low <= saturation.FINEST_STEP or high - low <= 2


def test_the_search_ends_where_nothing_is_carried() -> None:
    rate, tried = saturation.FIRST_RATE, []
    while rate:
        tried.append(rate)
        rate = saturation.next_rate(0, rate)
    assert tried[-1] >= saturation.SATURATION_BURST > tried[-1] // 2


def test_what_is_not_carried_says_why() -> None:
    assert saturation.why_not_carried(run(0.1), 10) == ""
    assert "99.50 %" in saturation.why_not_carried(run(0.1, arrived=3980), 10)
    assert "p99 5.1 ms" in saturation.why_not_carried(run(0.1, p99_ms=5.1), 10)
    assert "feed was late" in saturation.why_not_carried(run(0.1, late_ms=5.1), 10)


@pytest.mark.parametrize("count", [1, 2, 7, 50, 1000])
def test_few_are_watched_and_the_last_among_them(count: int) -> None:
    watched = [number for number in range(count) if is_watched(number, count)]
    assert watched[-1] == count - 1
    assert min(count, WATCHED) <= len(watched) <= 2 * WATCHED


def test_a_hop_costs_per_packet_passed_on() -> None:
    rounds = [(0.01, run(0.06, arrived=400), 400, 20.0), (0.01, run(0.04, arrived=396), 400, 30.0)]
    result = hop.conclude(Row(400, 8), rounds)
    assert result.cost_us == pytest.approx((100 + 50) / 2)
    assert result.srt_us == 25.0
    assert result.ratio == pytest.approx((100 / 20 + 50 / 30) / 2)
    assert result.note == "only 99.00 % arrived"
    alone = hop.conclude(Row(400, 8), [(idle, one, passed, None) for idle, one, passed, _ in rounds])
    assert (alone.srt_us, alone.ratio) == (None, None)


def test_the_shape_is_a_topology() -> None:
    topology = parse_topology(Shape(("a", "t", "c"), (("a", "t"), ("c", "t"))).topology().encode(), "bench")
    assert [node.name for node in topology.node_list()] == ["a", "t", "c"]
    assert topology.link("a", "t") is not None
    assert topology.link("a", "c") is None


def test_the_cpu_clock_of_a_process_is_its_own() -> None:
    before = time.process_time()
    told = process_cpu_s(os.getpid())
    assert before <= told <= time.process_time()
    with pytest.raises(OSError):
        process_cpu_s(2**22 + 1)  # above the highest number that Linux gives


def test_the_machine_is_told() -> None:
    assert machine(["processor : 0", "model name\t: Fast 9000", "flags : a"]).startswith("Fast 9000, ")
    assert "unknown processor" in machine([])


# --- reports -----------------------------------------------------------------------------------------

ROWS = [
    edge.conclude(TEN, Row(100), [a_round(0.01, run(0.06), run(0.02))]),
    edge.conclude(TEN, Row(400, 8), [a_round(0.01, run(0.05, arrived=3000), run(0.02))]),
]
HOPS = [hop.conclude(Row(400, 8), [(0.0, run(0.06, arrived=400), 400, None)])]


def report(table: packet_report.Table) -> packet_report.Report:
    metrics = packet_report.as_metrics("rows", ROWS)
    return packet_report.Report(
        "A <title>", "relaymesh bench edge", "a machine", "kernels: x", table, metrics
    )


def test_a_table_for_people_has_columns() -> None:
    lines = packet_report.edge_table(ROWS).text().splitlines()
    assert lines[0].startswith("row")
    assert lines[1].startswith("100/s ") and lines[2].startswith("400/s b8 ")
    assert lines[0].index("ratio") + len("ratio") == lines[1].index("2.00") + len("2.00")
    assert lines[3] == "400/s b8: only 75.00 % arrived"


def test_a_section_of_markdown() -> None:
    text = report(packet_report.edge_table(ROWS)).markdown()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(ROWS)
    assert len({line.count("|") for line in table}) == 1
    assert "    relaymesh bench edge\n" in text
    assert "a machine; kernels: x." in text


def test_json_has_every_field_and_what_is_derived() -> None:
    told = json.loads(report(packet_report.edge_table(ROWS)).to_json())
    assert told["passed"] is True
    assert [row["row"] for row in told["metrics"]["rows"]] == ["100/s", "400/s b8"]
    assert told["metrics"]["rows"][1]["note"] == "only 75.00 % arrived"
    assert told["kernels"] == "kernels: x"
    stack = StackRate(packets=1000, virtual_s=3.0, packets_per_cpu_s=50_000.0, aes_gcm_us=2.0)
    (derived,) = packet_report.as_metrics("stack", [stack])["stack"]
    assert (derived["packet_us"], derived["ratio"]) == (20.0, 10.0)


def test_rounding_never_makes_all_of_nearly_all() -> None:
    assert packet_report.per_cent(0.99999) == "99.99 %"
    assert packet_report.per_cent(1.0) == "100.00 %"


def test_every_benchmark_has_its_table() -> None:
    found = saturation.Saturation(
        10, "gcm", "none", 4000.0, 40_000.0, 60_000.0, 0.66, 3.2, "5000/s: p99 6.0 ms"
    )
    tables = [
        packet_report.saturation_table(found),
        packet_report.hop_table(HOPS),
        packet_report.idle_table(IdleResult(3, 60, 4.0, 1.0, 0.1, 140.0, 78.0, 30.0, 60)),
        packet_report.join_table(JoinResult(50, 5.0, 30.0, 140.0, 20.0)),
        packet_report.simulate_table(
            StackRate(1000, 3.0, 50_000.0, 2.0),
            NetworkRate(2e6, 1e5, 2e5, 4e5),
            [ScenarioCost("cut", 1, 30.0, 1_500_000, "passed", "ab" * 32)],
        ),
    ]
    for table in tables:
        assert all(len(row) == len(table.head) for row in table.rows)
        assert table.rows[0][0] in table.text()
    assert "60000/s" in tables[0].text()
    assert "20.0 operations of a bare heap" in tables[4].text()
    assert "50000" in tables[4].rows[-1][1]


def test_the_page_has_a_bar_for_each_value() -> None:
    groups = packet_page.edge_groups(ROWS) + packet_page.hop_groups(HOPS)
    text = packet_page.page(report(packet_report.edge_table(ROWS)), groups)
    assert "A &lt;title&gt;" in text
    drawing = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + len("</svg>")])
    bars = drawing.findall("{*}rect")
    assert len(bars) == 5, "two rows with a floor, a hop without SRT"
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[0] / widths[1] == pytest.approx(2.0, rel=0.01)
    assert max(widths) == widths[4], "150 µs"
