"""The router: which worker a request reaches, and that requests and answers arrive as they were."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from relaymesh.node.whip import MAX_OFFER_BYTES
from relaymesh.site.channel import Report
from relaymesh.site.roster import Roster
from relaymesh.site.router import Router

SDP = {"content-type": "application/sdp"}


class Site:
    """A router and workers that note what they are asked."""

    def __init__(self, workers: int = 2) -> None:
        self.asked: list[tuple[int, httpx.Request]] = []
        self.answer: Callable[[int, httpx.Request], httpx.Response] = self.plain_answer
        self.roster = Roster([(f"s.{n}", f"http://site/worker/{n}") for n in range(1, workers + 1)])
        self.clients = {}
        for number in range(1, workers + 1):
            self.report(number)
            self.clients[number] = httpx.AsyncClient(transport=self._worker(number))
        app = Router(self.roster, self.clients, {"site": "s"}).app()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://site")

    def report(self, number: int, sessions: int = 0) -> None:
        self.roster.handle_report(number, Report(sessions, True, "", ""), 0.0)

    def _worker(self, number: int) -> httpx.MockTransport:
        def handle(request: httpx.Request) -> httpx.Response:
            self.asked.append((number, request))
            return self.answer(number, request)

        return httpx.MockTransport(handle)

    @staticmethod
    def plain_answer(number: int, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            headers = [
                ("Location", f"/worker/{number}/session/abc"),
                ("ETag", '"t"'),
                ("Link", "a"),
                ("Link", "b"),
            ]
            return httpx.Response(201, headers=headers, content=b"v=0 answer")
        return httpx.Response(204, headers={"Date": "long ago", "Connection": "close"})

    def reached(self) -> list[tuple[int, str, bytes]]:
        return [(number, request.method, request.url.raw_path) for number, request in self.asked]


async def test_offers_are_spread_and_later_requests_follow_the_location() -> None:
    site = Site()
    for _ in range(2):
        answer = await site.http.post("/whep/room/me?codec=VP8", content=b"offer", headers=SDP)
        assert answer.status_code == 201
        assert (await site.http.delete(answer.headers["location"])).status_code == 204
    assert site.reached() == [
        (1, "POST", b"/whep/room/me?codec=VP8"),
        (1, "DELETE", b"/session/abc"),
        (2, "POST", b"/whep/room/me?codec=VP8"),
        (2, "DELETE", b"/session/abc"),
    ]


async def test_the_controllers_choice_of_a_worker_holds_whatever_the_load() -> None:
    site = Site()
    site.report(2, 100)
    await site.http.post("/worker/2/whip/room/me", content=b"offer", headers=SDP)
    assert site.reached() == [(2, "POST", b"/whip/room/me")]


async def test_requests_and_answers_arrive_as_they_were() -> None:
    site = Site()
    headers = SDP | {
        "authorization": "Bearer x",
        "origin": "https://page",
        "connection": "x",
        "te": "trailers",
    }
    answer = await site.http.patch("/worker/1/session/a%2Fb%20c?x=%20y", content=b"v=0\r\n", headers=headers)
    ((_, request),) = site.asked
    assert request.url.raw_path == b"/session/a%2Fb%20c?x=%20y" and request.content == b"v=0\r\n"
    assert request.headers["host"] == "site" and request.headers["authorization"] == "Bearer x"
    assert not {"connection", "te", "accept-encoding", "transfer-encoding"} & set(request.headers)
    assert request.headers.get_list("content-length") == ["5"]
    assert answer.status_code == 204 and not {"date", "connection"} & set(answer.headers)
    answer = await site.http.post("/whip/room/me", content=b"offer", headers=SDP)
    assert answer.headers["etag"] == '"t"' and answer.headers.get_list("link") == ["a", "b"]
    assert answer.content == b"v=0 answer"


async def test_refusals_of_workers_are_passed_on_and_count_for_nothing() -> None:
    site = Site()
    site.answer = lambda number, request: httpx.Response(404, text="nobody publishes")
    for _ in range(3):
        answer = await site.http.post("/whep/room/me", content=b"offer", headers=SDP)
        assert (answer.status_code, answer.text) == (404, "nobody publishes")
    assert [number for number, _, _ in site.reached()] == [1, 1, 1]


async def test_what_a_token_lacks_is_told_by_workers_as_it_is() -> None:
    site = Site()
    challenge = {"WWW-Authenticate": 'Bearer realm="relaymesh"', "Access-Control-Allow-Origin": "*"}
    site.answer = lambda number, request: httpx.Response(401, text="a token is needed", headers=challenge)
    answer = await site.http.post("/whip/room/me", content=b"offer", headers=SDP)
    assert (answer.status_code, answer.text) == (401, "a token is needed")
    assert all(answer.headers[name] == value for name, value in challenge.items())


def dies(error: type[httpx.TransportError]) -> Callable[[int, httpx.Request], httpx.Response]:
    """Worker 1 fails like this; the other one answers."""

    def answer(number: int, request: httpx.Request) -> httpx.Response:
        if number == 1:
            raise error("dead")
        return Site.plain_answer(number, request)

    return answer


async def test_an_offer_that_nobody_took_goes_to_the_next_worker() -> None:
    site = Site()
    site.answer = dies(httpx.ConnectError)
    answer = await site.http.post("/whep/room/me", content=b"offer", headers=SDP)
    assert answer.status_code == 201
    assert [(number, request.content) for number, request in site.asked] == [(1, b"offer"), (2, b"offer")]


async def test_an_offer_that_may_have_been_taken_is_not_sent_twice() -> None:
    site = Site()
    site.answer = dies(httpx.ReadError)
    answer = await site.http.post("/whep/room/me", content=b"offer", headers=SDP)
    assert (answer.status_code, answer.headers["retry-after"], len(site.asked)) == (503, "1", 1)


async def test_a_worker_that_does_not_run_is_asked_nothing_and_its_siblings_are() -> None:
    site = Site()
    site.roster.handle_ended(1, -9, 1.0)
    answer = await site.http.delete("/worker/1/session/abc")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert (await site.http.get("/play.html")).status_code == 204
    assert (await site.http.get("/healthz")).status_code == 200
    site.roster.handle_ended(2, -9, 1.0)
    for path in ("/play.html", "/healthz"):
        assert (await site.http.get(path)).status_code == 503
    assert site.reached() == [(2, "GET", b"/play.html")]


@pytest.mark.parametrize("path", ["/worker/3/status", "/worker/999/x"])
async def test_workers_that_are_none(path: str) -> None:
    site = Site()
    assert (await site.http.get(path)).status_code == 404 and not site.asked


@pytest.mark.parametrize(
    "path", ["/worker/0/x", "/worker/01/x", "/worker/1000/x", "/worker/1", "/worker/%31/x"]
)
async def test_paths_that_name_no_worker_are_a_workers_own(path: str) -> None:
    site = Site()
    await site.http.get(path)
    assert site.reached() == [(1, "GET", path.encode())], "which says that there is no such page"


async def test_long_bodies_are_refused_here() -> None:
    site = Site()
    for path in ("/whip/room/me", "/worker/1/session/abc"):
        answer = await site.http.post(path, content=bytes(MAX_OFFER_BYTES + 1), headers=SDP)
        assert answer.status_code == 413
    assert not site.asked


async def test_the_site_tells_how_its_workers_fare() -> None:
    site = Site()
    site.report(2, 5)
    shown = (await site.http.get("/status")).json()
    assert shown["site"] == "s"
    assert [(w["name"], w["state"], w["sessions"], w["url"]) for w in shown["workers"]] == [
        ("s.1", "up", 0, "http://site/worker/1"),
        ("s.2", "up", 5, "http://site/worker/2"),
    ]
    assert (await site.http.get("/worker/1/status")).status_code == 204
    assert site.reached() == [(1, "GET", b"/status")]
