"""Firefox driven by WebDriver BiDi over a plain socket: as much as a page needs to publish and to play."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request, TextMessage

FIREFOX = ("firefox-esr", "firefox")
PREFERENCES = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}
START_S = 60.0


def find_firefox() -> str | None:
    return next((path for name in FIREFOX if (path := shutil.which(name))), None)


class Firefox:
    """One headless browser with one page."""

    def __init__(self, path: str, profile: Path) -> None:
        profile.mkdir(parents=True, exist_ok=True)
        lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines))
        self._log = profile / "firefox.log"
        # As the other browsers, it gives way to the mesh.
        command = ["nice", "-n", "10", path, "-headless", "-no-remote", "-profile", str(profile)]
        command += ["--remote-debugging-port", "0"]
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._number = 0
        self._socket: socket.socket | None = None
        self._messages: list[dict[str, Any]] = []
        self._connect(self._port())
        self._call("session.new", capabilities={})
        self._context = self._call("browsingContext.create", type="tab")["context"]

    def _port(self) -> int:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            found = re.search(
                r"WebDriver BiDi listening on ws://[^:]+:(\d+)", self._log.read_text(errors="replace")
            )
            if found:
                return int(found[1])
            time.sleep(0.1)
        self.close()
        raise AssertionError(f"Firefox did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def _connect(self, port: int) -> None:
        self._socket = opened = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._ws = WSConnection(ConnectionType.CLIENT)
        opened.sendall(self._ws.send(Request(host=f"127.0.0.1:{port}", target="/session")))
        self._text = ""
        self._accepted = False
        while not self._accepted:
            self._receive()

    def _receive(self) -> None:
        data = self._socket.recv(1 << 16)
        assert data, "Firefox hung up"
        self._ws.receive_data(data)
        for event in self._ws.events():
            if isinstance(event, AcceptConnection):
                self._accepted = True
            elif isinstance(event, Ping):
                self._socket.sendall(self._ws.send(event.response()))
            elif isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self._messages.append(json.loads(self._text))
                    self._text = ""

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        self._socket.sendall(self._ws.send(TextMessage(json.dumps(command))))
        while True:
            for message in self._messages:
                if message.get("id") == self._number:
                    self._messages.clear()
                    assert message["type"] == "success", message
                    return message["result"]
            self._receive()

    def goto(self, url: str) -> None:
        self._call("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, function: str, argument: Any = None) -> Any:
        """The awaited result of *function*, an expression of one, called with *argument*; as plain values."""
        told = self._call(
            "script.evaluate",
            expression=f"({function})({json.dumps(argument)}).then(JSON.stringify)",
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        assert told["type"] == "success", told.get("exceptionDetails", {}).get("text", told)
        value = told["result"].get("value")
        return json.loads(value) if value is not None else None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
