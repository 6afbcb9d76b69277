from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

from click.testing import CliRunner

from relaymesh.cli.main import main
from tests.controller.test_explain import square

TOKEN = "an admin token of some length"


@contextmanager
def controller() -> Iterator[str]:
    """The answers of a real core, by a plain server."""
    mesh = square()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, body = 401, {"error": "the admin token is missing or wrong"}
            elif url.path == "/v1/routes":
                status, body = 200, {"from": query["from"], "routes": mesh.core.routes(query["from"])}
            else:
                found = mesh.core.explanation(query["from"], query["to"])
                status, body = (404, {"error": "there is no path"}) if found is None else (200, found())
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def run(*arguments: str, token: str = TOKEN) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["routes", *arguments], env={"RELAYMESH_ADMIN_TOKEN": token})
    return result.exit_code, result.output


def test_a_path_is_explained_in_words_and_as_json() -> None:
    with controller() as url:
        code, output = run("explain", "a", "d", "--controller-url", url)
        assert code == 0
        assert "path: a → b → d   20.50 ms" in output
        assert "by another next hop: a → c → d   30.50 ms" in output
        assert "10.00 ms more, from a to d" in output
        assert "half the round trip" in output
        code, output = run("explain", "a", "d", "--controller-url", url, "--json")
        assert code == 0 and json.loads(output)["path"]["cost_ms"] == 20.5
        code, output = run("explain", "a", "x", "--controller-url", url)
        assert code == 1 and "there is no path" in output
        code, output = run("explain", "a", "d", "--controller-url", url, token="wrong")
        assert code == 1 and "admin token" in output


def test_a_table_is_shown() -> None:
    with controller() as url:
        code, output = run("show", "a", "--controller-url", url)
        assert code == 0
        shown = "d 20.50 ms a → b → d detour by c"
        assert " ".join(output.splitlines()[2].split()) == shown


def test_no_controller_is_said() -> None:
    code, output = run("show", "a", "--controller-url", "http://127.0.0.1:9")
    assert code == 1 and "no answer from" in output
