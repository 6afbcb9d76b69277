"""The errors of the WebRTC edge.

One type per decoder. Whatever bytes or text a client sends, a decoder raises
its own type and nothing else, so a caller needs one `except` beside each call.
All of them mean "the peer's input was wrong"; a fault of ours is an assertion.
The one exception says itself whose fault it is: :class:`NegotiationError`.
"""

from typing import Literal

__all__ = [
    "DtlsError",
    "FramingError",
    "NegotiationError",
    "RtpError",
    "SdpError",
    "SrtpError",
    "StunError",
    "WebRtcError",
]


class WebRtcError(Exception):
    """Base of every error about what a WebRTC client sent us."""


class StunError(WebRtcError):
    """Not a STUN Binding request that can be answered (RFC 8489)."""


class FramingError(WebRtcError):
    """A stream has a packet that no client sends; what follows cannot be told apart (RFC 4571)."""


class DtlsError(WebRtcError):
    """The DTLS association cannot do what was asked of it (RFC 6347, RFC 5764)."""


class SrtpError(WebRtcError):
    """A packet could not be protected or unprotected (RFC 3711, RFC 7714)."""


class SdpError(WebRtcError):
    """A session description is malformed or cannot be answered (RFC 8866, RFC 8829)."""


class RtpError(WebRtcError):
    """An RTP or RTCP packet, or a payload inside one, is malformed (RFC 3550)."""


class NegotiationError(WebRtcError):
    """An offer or an answer that does not fit into the negotiation so far (RFC 3264, RFC 8829).

    ``kind``: "state" (not now), "rate" (too often), "syntax" (an :class:`SdpError` is its cause),
    "change" (of what must stay) or "precondition" (only under a condition that was not stated).
    ``fault``: of the "client", which offers, or of the "node", which answers.
    """

    def __init__(
        self,
        reason: str,
        *,
        kind: Literal["state", "rate", "syntax", "change", "precondition"],
        fault: Literal["client", "node"] = "client",
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.fault = fault
