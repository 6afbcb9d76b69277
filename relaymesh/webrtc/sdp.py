"""SDP offers of WebRTC clients (RFC 8866, RFC 8829), as far as a node must understand them.

In: the text of an offer, from anybody. Out: a model of it, whose attributes
are all kept in order, read or not. The ICE candidates are not read: a lite agent waits
to be called. What to answer is decided elsewhere.

The lines are read in `sdp_lines`, sections in `sdp_media`, their simulcast in `sdp_simulcast`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relaymesh.webrtc.errors import SdpError
from relaymesh.webrtc.sdp_lines import MAX_BYTES, MAX_SECTIONS, Attributes, first, split, values, words
from relaymesh.webrtc.sdp_media import MediaSection, parse_section

__all__ = ["MAX_BYTES", "MAX_SECTIONS", "MediaSection", "SessionDescription", "parse_offer"]

MAX_FINGERPRINTS = 16  # one or two are usual

_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]*")  # RFC 8839 §5.4
_FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){15,63}")


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """An offer that can be answered. What ICE and DTLS need is that of the bundle's first section."""

    media: tuple[MediaSection, ...]
    ice_ufrag: str
    ice_password: str
    fingerprints: tuple[tuple[str, str], ...]  # (hash name in lower case, hex pairs in upper case)
    setup: str  # of the offerer (RFC 8842 §5.2): actpass, active or passive
    bundle: tuple[str, ...]  # mids of the BUNDLE group; empty without one
    attributes: tuple[tuple[str, str], ...]  # of the session

    @property
    def dtls_role(self) -> Literal["server", "client"]:
        """Our part in the handshake: the server's, unless the offerer takes no other."""
        return "client" if self.setup == "passive" else "server"


def parse_offer(text: str) -> SessionDescription:
    """The offer in *text*.

    Raises:
        SdpError: not SDP, beyond the bounds of these modules, from an ICE lite agent (which would wait for
            our checks as we wait for its), or without what any answer needs: a section that is not rejected,
            each with a mid and, if there are several, in one BUNDLE group; ICE credentials; a fingerprint;
            rtcp-mux; a DTLS role.
    """
    session, sections = split(text)
    if first(session, "ice-lite") is not None:
        raise SdpError("ICE lite is offered (a=ice-lite) and this node is lite too: nobody would make checks")
    media = tuple(parse_section(line, attributes, session) for line, attributes in sections)
    mids = [section.mid for section in media if section.mid]
    if len(set(mids)) != len(mids):
        raise SdpError("two sections have the same mid")
    live = [section for section in media if not section.rejected]
    if not live:
        raise SdpError("nothing is offered")
    bundle = _bundle(session)
    if len(live) > 1 and not all(section.mid in bundle for section in live):
        raise SdpError("all sections must be in one BUNDLE group")
    leading = next((s for mid in bundle for s in live if s.mid == mid), live[0])
    levels = (leading.attributes, session)  # a section's own attribute goes before the session's
    return SessionDescription(
        media=media,
        ice_ufrag=ice_value("ice-ufrag", levels, 4),
        ice_password=ice_value("ice-pwd", levels, 22),
        fingerprints=_fingerprints(levels),
        setup=_setup(levels),
        bundle=bundle,
        attributes=session,
    )


def _bundle(session: Attributes) -> tuple[str, ...]:
    """The mids of the first BUNDLE group (RFC 9143 §5)."""
    for value in values(session, "group"):
        semantics, *mids = value.split() or [""]
        if semantics == "BUNDLE":
            if len(mids) > MAX_SECTIONS:
                raise SdpError("the BUNDLE group names more sections than an offer may have")
            return tuple(mids)
    return ()


def ice_value(name: str, levels: Sequence[Attributes], shortest: int) -> str:
    """The first attribute *name* of *levels*, an ICE ufrag or password of a possible length."""
    value = next((v for level in levels if (v := first(level, name)) is not None), None)
    if value is None:
        raise SdpError(f"{name} is missing")
    if not shortest <= len(value) <= 256 or not _ICE_CHARS.fullmatch(value):
        raise SdpError(f"{name} is malformed")
    return value


def _fingerprints(levels: Sequence[Attributes]) -> tuple[tuple[str, str], ...]:
    """The section's fingerprints, else the session's (RFC 8122 §5)."""
    for level in levels:
        found = []
        for value in values(level, "fingerprint"):
            algorithm, digest, *_ = words(value, 2, "a fingerprint")
            if not _FINGERPRINT.fullmatch(digest.upper()):
                raise SdpError("a fingerprint is malformed")
            found.append((algorithm.lower(), digest.upper()))
            if len(found) > MAX_FINGERPRINTS:
                raise SdpError("too many fingerprints")
        if found:
            return tuple(dict.fromkeys(found))
    raise SdpError("a fingerprint is missing")


def _setup(levels: Sequence[Attributes]) -> str:
    """The offerer's DTLS role (RFC 8842 §5.2); without one it is ready for both."""
    setup = next((v for level in levels if (v := first(level, "setup")) is not None), "actpass").lower()
    if setup not in ("actpass", "active", "passive"):
        raise SdpError("a DTLS role is needed: setup actpass, active or passive")
    return setup
