"""ICE fragments of a session description (RFC 8840 §9), as WHIP and WHEP send them by PATCH.

In: the text of a fragment, from anybody. Out: the credentials in it, and fragments of our own. Its
candidates are not read: a lite agent waits to be called.
"""

from __future__ import annotations

from collections.abc import Sequence

from relaymesh.webrtc.answer import candidates
from relaymesh.webrtc.sdp import MediaSection, ice_value
from relaymesh.webrtc.sdp_lines import first, split


def parse_fragment(text: str) -> tuple[str, str] | None:
    """The first (ufrag, password) in *text*; ``None`` in a fragment that has neither.

    Raises:
        SdpError: not the lines of a fragment, too long, or one of the two without the other.
    """
    session, sections = split("v=0\n" + text)
    levels = [session, *(attributes for _, attributes in sections)]
    if all(first(level, name) is None for level in levels for name in ("ice-ufrag", "ice-pwd")):
        return None
    return ice_value("ice-ufrag", levels, 4), ice_value("ice-pwd", levels, 22)


def build_fragment(
    section: MediaSection, *, ufrag: str, password: str, addresses: Sequence[tuple[str, int]]
) -> str:
    """Our new credentials and all candidates, for the bundle's first *section*."""
    lines = [
        "a=ice-lite",
        f"m={section.kind} 9 {section.protocol} {' '.join(section.formats)}",
        f"a=mid:{section.mid}",
        f"a=ice-ufrag:{ufrag}",
        f"a=ice-pwd:{password}",
        *candidates(addresses),
        "a=end-of-candidates",
    ]
    return "\r\n".join(lines) + "\r\n"
