"""Stands in for `relaymesh` under the demo: controller, node, publish and play, without any media.

FAKE_DIES names a command that ends at once; FAKE_DEAF one that ignores SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from tests.demo.fake_mesh import FakeMesh

STARTED = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    mesh: ClassVar[FakeMesh] = FakeMesh()
    node: ClassVar[str | None] = None

    def do_GET(self) -> None:
        if self.node:
            status = self.mesh.node_status(self.node)
            if status["forwarded"]["packets"]:  # it passes on 100 packets a second
                status["forwarded"]["packets"] = int((time.monotonic() - STARTED) * 100)
            self.answer(status)
        else:
            self.answer(self.mesh.controller_state())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.answer(body)

    def answer(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        print(format % args, file=sys.stderr)


def serve(endpoint: str) -> None:
    host, port = endpoint.split(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def report(kind: str) -> dict[str, object]:
    at = time.monotonic() - STARTED
    base: dict[str, object] = {"event": "report", "at_ms": int(time.time() * 1000), "state": "connected"}
    if kind == "publish":
        return base | {"frames": int(at * 25), "audio_frames": int(at * 50)}
    frames = int(at * 25)
    latency = {"min_ms": 58.0, "p50_ms": 70.0, "p95_ms": 80.0, "max_ms": 90.0}
    return base | {
        "frames_decoded": frames, "frames_distinct": frames, "frames_lost": 0, "frames_repeated": 0,
        "frames_unreadable": 0, "first_frame_ms": 80.0, "latency": latency, "gaps_over_200ms": 0,
        "longest_gap_ms": 41.0, "audio_frames": int(at * 50),
    }  # fmt: skip


def main() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    command, options = sys.argv[1], dict(zip(sys.argv[2:], sys.argv[3:], strict=False))
    if os.environ.get("FAKE_DIES") == command:
        print("I cannot go on", file=sys.stderr)
        sys.exit(3)
    if os.environ.get("FAKE_DEAF") == command:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if command == "node":
        Handler.node = options["--name"]
        assert "RELAYMESH_NODE_TOKEN" in os.environ
        serve(options["--http"])
    elif command == "controller":
        assert os.environ["RELAYMESH_CONTROLLER_JOIN_SECRET"]
        serve(options["--api-listen"])
    while command not in ("publish", "play"):
        signal.pause()
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)  # the pace of reports; nothing is waited for
    while True:
        signal.pause()
        print(json.dumps(report(command)), flush=True)


if __name__ == "__main__":
    main()
