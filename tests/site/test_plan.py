from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from relaymesh.node.settings import NodeSettings
from relaymesh.site.channel import (
    ChannelError,
    Order,
    Report,
    decode_order,
    decode_report,
    encode,
    make_order,
)
from relaymesh.site.plan import plan_workers, worker_count


def settings(**more: object) -> NodeSettings:
    plain = {
        "name": "fra-1",
        "region": "fra",
        "controller": "ws://127.0.0.1:1",
        "token": SecretStr("the-token"),
        "relay": "127.0.0.1:7500",
        "media": "127.0.0.1:7600",
    }
    return NodeSettings(**(plain | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(("asked", "workers"), [("3", 3), (3, 3), ("auto", 0), ("0", 0)])
def test_the_number_of_workers_is_a_number_or_auto(asked: object, workers: int) -> None:
    assert settings(workers=asked).workers == workers


@pytest.mark.parametrize("asked", ["many", "-1", "65", "1.5", ""])
def test_other_numbers_are_refused(asked: str) -> None:
    with pytest.raises(ValueError, match="workers"):
        settings(workers=asked)


def test_auto_is_one_for_each_core() -> None:
    assert (worker_count(0, 8), worker_count(3, 8), worker_count(0, 0)) == (8, 3, 1)


def test_workers_differ_in_name_ports_and_url_only() -> None:
    site = settings(
        relay="0.0.0.0:7500",
        relay_address="198.51.100.7:8500",
        media="0.0.0.0:7600",
        media_address="198.51.100.7:8600",
        advertise="10.0.0.7,[2001:db8::7]:8700,2001:db8::8",
        max_sessions=500,
        workers=2,
    )
    first, second = plan_workers(site, 2, 7700)
    assert (first.name, second.name) == ("fra-1.1", "fra-1.2")
    assert (first.relay, first.relay_address) == ("0.0.0.0:7500", "198.51.100.7:8500")
    assert (second.relay, second.relay_address) == ("0.0.0.0:7501", "198.51.100.7:8501")
    assert (second.media, second.media_address) == ("0.0.0.0:7601", "198.51.100.7:8601")
    assert second.advertised == (("10.0.0.7", 0), ("2001:db8::7", 8701), ("2001:db8::8", 0))
    assert (first.http_url, second.http_url) == (
        "http://127.0.0.1:7700/worker/1",
        "http://127.0.0.1:7700/worker/2",
    )
    own = {"name", "relay", "relay_address", "media", "media_address", "advertise", "http_url"}
    assert first.model_dump(exclude=own) == second.model_dump(exclude=own)
    assert second.max_sessions == 500 and second.workers == 1 and second.token == site.token


def test_all_workers_look_at_the_same_room_keys() -> None:
    keys = Path("/etc/relaymesh/room-keys.json")
    plans = plan_workers(settings(http="0.0.0.0:7700", plain_http=True, room_keys=keys), 2, 7700)
    for number, plan in enumerate(plans, start=1):
        order = make_order(plan, site="fra-1", number=number, workers=2, http_path="/run/x")
        assert decode_order(encode(order).rstrip()).node_settings().room_keys == keys
    assert plan_workers(settings(http="0.0.0.0:7700", plain_http=True, open_rooms=True), 2, 7700)[
        1
    ].open_rooms


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://proxy.example/mesh/", "https://proxy.example/mesh/worker/2"),
        ("https://proxy.example", "https://proxy.example/worker/2"),
    ],
)
def test_a_proxys_prefix_goes_before_the_workers(url: str, told: str) -> None:
    assert plan_workers(settings(http_url=url, open_rooms=True), 2, 7700)[1].http_url == told


def test_the_router_speaks_tls_for_the_workers(tmp_path: Path) -> None:
    tls = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem", "http": "[::1]:0"}
    worker = plan_workers(settings(**tls), 2, 7443)[0]
    assert worker.http_url == "https://[::1]:7443/worker/1" and worker.tls_cert is None


def test_port_zero_stays_any_free_port() -> None:
    plans = plan_workers(settings(relay="127.0.0.1:0", media="127.0.0.1:0"), 3, 1)
    assert {plan.relay for plan in plans} == {plan.media for plan in plans} == {"127.0.0.1:0"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "f" * 63}, "name: too long"),
        ({"media": "127.0.0.1:65534"}, "media: worker 3 would have port 65536"),
        ({"relay_address": "192.0.2.1:65535"}, "relay_address: worker 2"),
        ({"advertise": "192.0.2.1:65535"}, "advertise: worker 2"),
        ({"media": "127.0.0.1:7498"}, "too near"),
        ({"media": "127.0.0.1:7502"}, "too near"),
        ({"media": "0.0.0.0:7502", "media_address": "192.0.2.1:1"}, "too near"),
    ],
)
def test_what_does_not_fit_so_many_is_refused_with_the_option(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan_workers(settings(**more), 4, 7700)


def test_ranges_that_only_touch_or_are_of_two_addresses_are_fine() -> None:
    assert len(plan_workers(settings(media="127.0.0.1:7504"), 4, 1)) == 4
    assert len(plan_workers(settings(media="127.0.0.2:7500"), 4, 1)) == 4


# --- the channel between supervisor and worker -------------------------------------------------


def order() -> Order:
    plan = plan_workers(settings(advertise="10.0.0.7"), 2, 1)[1]
    return make_order(plan, site="fra-1", number=2, workers=2, http_path="/run/x/2")


def test_an_order_carries_all_settings_and_the_token_that_is_never_shown() -> None:
    line = encode(order())
    assert line.count(b"\n") == 1
    found = decode_order(line)
    assert found.node_settings() == plan_workers(settings(advertise="10.0.0.7"), 2, 1)[1]
    assert found.node_settings().token.get_secret_value() == "the-token"
    assert "the-token" not in f"{found!r} {found}"


def test_a_report_round_trips() -> None:
    report = Report(7, True, "127.0.0.1:7600", "127.0.0.1:7500")
    assert decode_report(encode(report)) == report


def test_lines_that_are_cut_or_of_something_else_are_one_error() -> None:
    lines = [encode(order())[:-1], encode(Report(7, True, "a", "b"))[:-1]]
    for line in lines:
        for decode in (decode_order, decode_report):
            for end in range(len(line)):
                with pytest.raises(ChannelError):
                    decode(line[:end])
    hostile = (
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"sessions": "many"}',
        b'{"sessions":1}',
        b" " * (2 << 20),
        b"null",
    )
    for line in (*hostile, lines[0].replace(b"the-token", b"\xff-token")):
        with pytest.raises(ChannelError) as caught:
            decode_report(line)
        with pytest.raises(ChannelError):
            decode_order(line)
        assert "token" not in str(caught.value)
