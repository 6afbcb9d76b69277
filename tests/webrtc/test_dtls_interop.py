"""The handshake against another implementation of its other end: aiortc's."""

import asyncio

from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport

from relaymesh.webrtc.certificate import Certificate
from relaymesh.webrtc.dtls import DtlsEndpoint
from relaymesh.webrtc.srtp import SrtpReceiver, SrtpSender

PACKET = b"\x80\x60\0\1\0\0\0\1\0\0\0\1payload"


class WireToServer:
    """Stands in for aiortc's ICE transport: what it sends goes straight into our endpoint."""

    role = "controlling"

    def __init__(self, server):
        self.server = server
        self.media = []
        self._incoming = asyncio.Queue()

    async def _send(self, data):
        if data[0] >= 128:
            self.media.append(data)
            return
        self.server.handle_datagram(data, 0.0)
        for reply in self.server.poll_datagrams():
            self._incoming.put_nowait(reply)

    async def _recv(self):
        return await self._incoming.get()


async def handshake_with_aiortc():
    theirs = RTCCertificate.generateCertificate()
    ours = Certificate.generate(1_800_000_000)
    fingerprints = [(print_.algorithm, print_.value) for print_ in theirs.getFingerprints()]
    server = DtlsEndpoint(ours, "server", fingerprints, 0.0)
    wire = WireToServer(server)
    client = RTCDtlsTransport(wire, [theirs])
    client._set_role("client")
    await asyncio.wait_for(
        client.start(
            RTCDtlsParameters(fingerprints=[RTCDtlsFingerprint("sha-256", ours.fingerprint)], role="server")
        ),
        timeout=10,
    )
    assert client.state == "connected"
    await client._send_rtp(PACKET)
    to_client = SrtpSender(server.keys.local, server.keys.profile).protect_rtp(PACKET)
    opened_by_client = client._rx_srtp.unprotect(to_client)
    await client.stop()
    return server, wire.media, opened_by_client


def test_aiortc_as_client():
    server, media, opened_by_client = asyncio.run(handshake_with_aiortc())
    assert server.keys is not None
    (packet,) = media
    assert SrtpReceiver(server.keys.remote, server.keys.profile).unprotect_rtp(packet) == PACKET
    assert opened_by_client == PACKET
    assert (server.state, server.reason) == ("closed", "closed by the peer")
