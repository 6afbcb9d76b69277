"""A stand-in for one node: WHIP and WHEP over aiortc, decoding and encoding what passes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay
from aiortc.mediastreams import MediaStreamTrack


class FakeNode:
    def __init__(self) -> None:
        self.port = 0
        self.requests: list[str] = []  # "METHOD path"
        self.brought: list[str] = []  # what stood behind Authorization in each of them
        self.streams: dict[str, list[MediaStreamTrack]] = {}
        self.sessions: dict[str, RTCPeerConnection] = {}
        self.refuse: tuple[int, str] | None = None
        self._relay = MediaRelay()

    def url(self, kind: str, name: str = "demo/clock") -> str:
        return f"http://127.0.0.1:{self.port}/{kind}/{name}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            writer.close()
            return
        method, target, _ = head.split("\r\n")[0].split(" ")
        length = next((int(x.split(":")[1]) for x in head.lower().split("\r\n") if "content-length" in x), 0)
        body = (await reader.readexactly(length)).decode()
        self.requests.append(f"{method} {target}")
        brought = [x for x in head.split("\r\n") if x.lower().startswith("authorization:")]
        self.brought += [x.split(":", 1)[1].strip() for x in brought]
        status, headers, answer = await self.respond(method, target.split("?")[0], body)
        head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        head += "access-control-allow-origin: *\r\naccess-control-expose-headers: Location\r\n"
        head += f"content-length: {len(answer)}\r\nconnection: close\r\n"
        writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n{answer}".encode())
        await writer.drain()
        writer.close()

    async def respond(self, method: str, path: str, body: str) -> tuple[int, dict[str, str], str]:
        if method == "OPTIONS":
            return 204, {"access-control-allow-methods": "*", "access-control-allow-headers": "*"}, ""
        if self.refuse:
            return self.refuse[0], {}, self.refuse[1]
        if method == "DELETE":
            pc = self.sessions.pop(path, None)
            if pc:
                await pc.close()
            return (200 if pc else 404), {}, ""
        _, kind, room, name = path.split("/")
        stream = f"{room}/{name}"
        if kind == "whep" and stream not in self.streams:
            return 404, {}, f"nobody publishes {stream}"
        pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        location = f"/session/{len(self.requests)}"
        self.sessions[location] = pc
        if kind == "whip":
            tracks: list[MediaStreamTrack] = []
            pc.on("track", tracks.append)
        else:
            for track in self.streams[stream]:
                pc.addTrack(self._relay.subscribe(track))
        await pc.setRemoteDescription(RTCSessionDescription(body, "offer"))
        if kind == "whip":
            self.streams[stream] = tracks
        await pc.setLocalDescription(await pc.createAnswer())
        return 201, {"location": location, "content-type": "application/sdp"}, pc.localDescription.sdp

    async def close(self) -> None:
        for pc in self.sessions.values():
            await pc.close()


@asynccontextmanager
async def fake_node(port: int = 0) -> AsyncIterator[FakeNode]:
    node = FakeNode()
    server = await asyncio.start_server(node.handle, "127.0.0.1", port)
    node.port = server.sockets[0].getsockname()[1]
    try:
        yield node
    finally:
        server.close()
        await server.wait_closed()
        await node.close()


async def _serve(port: int) -> None:
    async with fake_node(port) as node:
        print(node.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
