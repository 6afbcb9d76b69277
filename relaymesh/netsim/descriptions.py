"""Session descriptions of synthetic clients: the media sections of their offers, what answers say.

In: what is sent or wanted. Out: SDP lines for both kinds of clients (with and without cryptography), and
what a node's answer tells of SSRCs. It knows no transport.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["audio", "video"]
Direction = Literal["sendonly", "recvonly"]

AUDIO_TYPE, VIDEO_TYPE, RTX_TYPE = 111, 96, 97  # as synthetic media has them


@dataclass(frozen=True, slots=True)
class Section:
    """One media section of an offer: a track we send (with its SSRCs), or want."""

    kind: Kind
    ssrc: int | None = None
    rtx_ssrc: int | None = None


def payload_types(section: Section) -> str:
    """The payload types of *section*, as its m-line lists them."""
    return f"{VIDEO_TYPE} {RTX_TYPE}" if section.kind == "video" else str(AUDIO_TYPE)


def codec_lines(section: Section) -> list[str]:
    """The attributes of the section's payload types."""
    if section.kind == "audio":
        return [f"a=rtpmap:{AUDIO_TYPE} opus/48000/2", f"a=fmtp:{AUDIO_TYPE} minptime=10;useinbandfec=1"]
    return [
        f"a=rtpmap:{VIDEO_TYPE} VP8/90000",
        f"a=rtcp-fb:{VIDEO_TYPE} nack",
        f"a=rtcp-fb:{VIDEO_TYPE} nack pli",
        f"a=rtpmap:{RTX_TYPE} rtx/90000",
        f"a=fmtp:{RTX_TYPE} apt={VIDEO_TYPE}",
    ]


def source_lines(section: Section) -> list[str]:
    """The attributes that say by which SSRCs the section is sent."""
    if section.ssrc is None:
        return []
    lines = [f"a=ssrc:{section.ssrc} cname:synthetic"]
    if section.rtx_ssrc is not None:
        lines.insert(0, f"a=ssrc-group:FID {section.ssrc} {section.rtx_ssrc}")
        lines.append(f"a=ssrc:{section.rtx_ssrc} cname:synthetic")
    return lines


def answer_sections(answer: str) -> list[str]:
    """The media sections of *answer*, each without its ``m=``."""
    return re.split(r"(?m)^m=", answer)[1:]


def answered_sources(answer: str) -> list[tuple[int, int | None] | None]:
    """For each media section of *answer*: the SSRC the node sends by and that of its retransmissions.

    ``None`` for a section in which it sends nothing.
    """
    found: list[tuple[int, int | None] | None] = []
    for section in answer_sections(answer):
        group = re.search(r"(?m)^a=ssrc-group:FID (\d+) (\d+)", section)
        single = re.search(r"(?m)^a=ssrc:(\d+)", section)
        if group is not None:
            found.append((int(group[1]), int(group[2])))
        else:
            found.append(None if single is None else (int(single[1]), None))
    return found
