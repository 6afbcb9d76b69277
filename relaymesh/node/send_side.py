"""Everything one session sends as media: its order, its pace, its transport-wide numbers.

In: rows of its senders. Out: RTP packets to its transport, each with the next
transport-wide sequence number, in the order in which they leave.
"""

from __future__ import annotations

from collections.abc import Callable

from relaymesh.node.egress import EgressRow
from relaymesh.webrtc.twcc import ArrivalReport


class SendSide:
    """The sending half of one session."""

    def __init__(self, send_rtp: Callable[[bytes], None], now: float) -> None:
        self._send_rtp = send_rtp
        self._transport_sequence = 0
        self.feedback_packets = 0
        self.feedback_lost = 0

    def send(self, row: EgressRow, now: float) -> None:
        """Send *row* when its turn comes."""
        number: int | None = None
        if row.transport_id is not None:
            # One counter for the whole transport (draft-holmer-rmcat-transport-wide-cc-extensions-01 §2).
            number = self._transport_sequence = (self._transport_sequence + 1) & 0xFFFF
        self._send_rtp(row.build(number))

    def handle_feedback(self, report: ArrivalReport, now: float) -> None:
        """Transport-wide feedback of the player."""
        self.feedback_packets += len(report.arrivals)
        self.feedback_lost += sum(1 for _, arrival in report.arrivals if arrival is None)

    def debug_state(self) -> dict[str, object]:
        return {"feedback_packets": self.feedback_packets, "feedback_lost": self.feedback_lost}
