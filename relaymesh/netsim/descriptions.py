"""Session descriptions of synthetic clients: the media sections of their offers, what answers say.

In: what is sent or wanted. Out: SDP lines for both kinds of clients (with and without cryptography), and
what a node's answer tells of SSRCs. It knows no transport.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from relaymesh.netsim.media import Accepted
from relaymesh.netsim.synthetic_rtp import PAYLOAD_TYPES, RTX_TYPES
from relaymesh.netsim.track_specs import Codec
from relaymesh.webrtc.rtp import MID, REPAIRED_RID, RID, TRANSPORT_CC

Kind = Literal["audio", "video"]
Direction = Literal["sendonly", "recvonly"]

# Numbers of header extensions in our offers.
MID_ID, RID_ID, REPAIRED_RID_ID, TRANSPORT_CC_ID = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Section:
    """One media section of an offer: a track we send (with its SSRCs), or want."""

    kind: Kind
    ssrc: int | None = None
    rtx_ssrc: int | None = None
    codec: Codec = "VP8"  # of video
    rids: tuple[str, ...] = ()  # simulcast encodings we send, the lowest first; their SSRCs are not told
    names_itself: bool = False  # packets may carry the mid
    feedback: bool = False  # transport-wide sequence numbers and feedback are wanted


def payload_types(section: Section) -> str:
    """The payload types of *section*, as its m-line lists them."""
    if section.kind == "audio":
        return str(PAYLOAD_TYPES["opus"])
    return f"{PAYLOAD_TYPES[section.codec]} {RTX_TYPES[section.codec]}"


def codec_lines(section: Section) -> list[str]:
    """The attributes of the section's payload types."""
    if section.kind == "audio":
        number = PAYLOAD_TYPES["opus"]
        lines = [f"a=rtpmap:{number} opus/48000/2", f"a=fmtp:{number} minptime=10;useinbandfec=1"]
        return lines + ([f"a=rtcp-fb:{number} transport-cc"] if section.feedback else [])
    number, rtx = PAYLOAD_TYPES[section.codec], RTX_TYPES[section.codec]
    return [
        f"a=rtpmap:{number} {section.codec}/90000",
        *([f"a=rtcp-fb:{number} transport-cc"] if section.feedback else []),
        f"a=rtcp-fb:{number} nack",
        f"a=rtcp-fb:{number} nack pli",
        f"a=rtpmap:{rtx} rtx/90000",
        f"a=fmtp:{rtx} apt={number}",
    ]


def extension_lines(section: Section) -> list[str]:
    """The header extensions the section offers."""
    offered = [(MID_ID, MID)] if section.names_itself else []
    if section.rids:
        offered += [(RID_ID, RID), (REPAIRED_RID_ID, REPAIRED_RID)]
    if section.feedback:
        offered.append((TRANSPORT_CC_ID, TRANSPORT_CC))
    return [f"a=extmap:{number} {uri}" for number, uri in offered]


def source_lines(section: Section) -> list[str]:
    """The attributes that say by which SSRCs, or under which rids, the section is sent."""
    if section.rids:
        return [
            *(f"a=rid:{rid} send" for rid in section.rids),
            f"a=simulcast:send {';'.join(section.rids)}",
        ]
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


def accepted_in(answer: str) -> list[Accepted]:
    """For each media section of *answer*: what it accepted of simulcast and header extensions."""
    found = []
    for section in answer_sections(answer):
        ids = {uri: int(number) for number, uri in re.findall(r"(?m)^a=extmap:(\d{1,3})\S* (\S+)", section)}
        found.append(
            Accepted(
                simulcast=re.search(r"(?m)^a=simulcast:recv ", section) is not None,
                mid=ids.get(MID),
                rid=ids.get(RID),
                repaired_rid=ids.get(REPAIRED_RID),
                transport_cc=ids.get(TRANSPORT_CC),
            )
        )
    return found


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
