"""How a player's path is to be estimated: which feedback and which header extensions its answer accepts.

In: the sections that will be played, with the player's codecs. Out: one kind of feedback for the whole
session, for its packets share a path. Transport-wide feedback tells of each packet, so it goes first, and
REMB is then not accepted beside it: a second estimator, slower to rise, would only hold ours down. REMB
(draft-alvestrand-rmcat-remb-03) is for players that have nothing better; their estimators need to know
when a packet was sent, so it goes with abs-send-time.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from relaymesh.webrtc import rtp
from relaymesh.webrtc.codecs import Codec, audio_within
from relaymesh.webrtc.sdp import MediaSection

TRANSPORT_FEEDBACK = "transport-cc"  # a=rtcp-fb (draft-holmer-rmcat-transport-wide-cc-extensions-01)
REMB_FEEDBACK = "goog-remb"


class PathFeedback(Enum):
    """What a player tells of its path; the value is its name in a=rtcp-fb."""

    ARRIVALS = TRANSPORT_FEEDBACK
    REMB = REMB_FEEDBACK
    NONE = ""  # receiver reports, which nobody has to offer, at most

    @classmethod
    def choose(cls, played: Iterable[tuple[MediaSection, Codec]]) -> PathFeedback:
        """The best kind that one of the *played* sections offers; video's, if any is played.

        Feedback that left out the most of what is sent would tell little.
        """
        sections = list(played)
        sections = [one for one in sections if one[0].kind == "video"] or sections
        kinds = {kind for section, codec in sections for kind in cls if kind.is_offered(section, codec)}
        return next((kind for kind in cls if kind in kinds), cls.NONE)

    def is_offered(self, section: MediaSection, codec: Codec) -> bool:
        """Whether *section* has all of it for *codec*; REMB may do without the time of sending."""
        within = audio_within(section.codecs, codec)  # RED is listed without feedback of its own
        feedback = codec.feedback if within is None else (*codec.feedback, *within.feedback)
        match self:
            case PathFeedback.ARRIVALS:
                return TRANSPORT_FEEDBACK in feedback and rtp.TRANSPORT_CC in section.extensions
            case PathFeedback.REMB:
                return REMB_FEEDBACK in feedback
            case PathFeedback.NONE:
                return True

    def accepted(self, section: MediaSection, codec: Codec) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(kinds of feedback, URIs of header extensions) that a section is answered with."""
        match self:
            case PathFeedback.ARRIVALS if self.is_offered(section, codec):
                return (TRANSPORT_FEEDBACK,), (rtp.TRANSPORT_CC,)
            case PathFeedback.REMB:
                # Audio too where it is offered: what the receiver does not count it cannot set aside.
                return (REMB_FEEDBACK,), (rtp.ABS_SEND_TIME,)
            case _:
                return (), ()
