"""The difference between an offer and what was agreed on before, and what of it is not allowed.

In: the sections agreed on and the offer they came from, and the new offer. Out: which sections
are new, stopped, turned or sent from other sources. It does not know when an offer may come.

What must stay (RFC 3264 §8, RFC 8829 §5.2.2, RFC 8842 §5.5, RFC 9143 §7.5): the order of the
sections, kind and mid of each, the meaning of its payload types and extension identifiers, the
bundle, fingerprints and DTLS roles. The place of a section that either end has stopped may be
taken by a new one, as browsers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relaymesh.webrtc.codecs import Codec, parameters
from relaymesh.webrtc.errors import NegotiationError
from relaymesh.webrtc.sdp import MediaSection, SessionDescription

# The format parameters that make another format of the same codec name (RFC 6184 §8.2.2, RFC 9628).
_IDENTIFYING = ("packetization-mode", "profile-id", "profile")


@dataclass(frozen=True, slots=True)
class AgreedSection:
    """What the last answer left of a section."""

    mid: str
    kind: str
    protocol: str
    direction: str  # as offered
    live: bool  # neither end has stopped it
    sources: tuple[object, ...] = ()
    payload_types: dict[int, str] = field(default_factory=dict)  # → what each has ever meant
    extensions: dict[int, str] = field(default_factory=dict)  # identifier → URI it has ever meant


@dataclass(frozen=True, slots=True)
class Offered:
    """A new offer and what is new in it; sections by their index in ``offer.media``."""

    offer: SessionDescription
    first: bool  # of the session
    added: tuple[int, ...] = ()  # live now, and were not agreed on or were stopped
    stopped: tuple[int, ...] = ()  # live until now
    turned: tuple[int, ...] = ()  # of another direction than before
    resourced: tuple[int, ...] = ()  # that would send other SSRCs or rids
    ice_restart: bool = False  # the answer needs new credentials


def agree(offered: MediaSection, accepted: bool, before: AgreedSection | None) -> AgreedSection:
    """What is left of *offered* after an answer that accepts it or not; *before* is its state until then."""
    live = accepted and not offered.rejected
    past = before if before is not None and before.live and before.mid == offered.mid else None
    return AgreedSection(
        mid=offered.mid,
        kind=offered.kind,
        protocol=offered.protocol,
        direction=offered.direction,
        live=live,
        sources=_sources(offered),
        payload_types={**(past.payload_types if past else {}), **_meanings(offered.codecs)} if live else {},
        extensions={**(past.extensions if past else {}), **_uris(offered)} if live else {},
    )


def compare(
    agreed: Sequence[AgreedSection], before: SessionDescription, role: str, offer: SessionDescription
) -> Offered:
    """What *offer* changes of *agreed*, which came of the offer *before*; *role* is our DTLS role.

    Raises:
        NegotiationError: of the kind "change".
    """
    if len(offer.media) < len(agreed):
        raise _change(f"an offer may only add sections: there were {len(agreed)}, now {len(offer.media)}")
    _check_transport(before, role, offer)
    added, stopped, turned, resourced = [], [], [], []
    for index, section in enumerate(offer.media):
        past = agreed[index] if index < len(agreed) else None
        if past is None or not past.live:
            if not section.rejected:
                added.append(index)
            continue
        _check_section(index, past, section)
        if section.rejected:
            stopped.append(index)
            continue
        if section.direction != past.direction:
            turned.append(index)
        if _sources(section) != past.sources:
            resourced.append(index)
    restart = restarts_ice(before, offer)
    return Offered(
        offer, False, tuple(added), tuple(stopped), tuple(turned), tuple(resourced), ice_restart=restart
    )


def _check_transport(before: SessionDescription, role: str, offer: SessionDescription) -> None:
    if set(offer.fingerprints) != set(before.fingerprints):
        raise _change("the fingerprint changed: another certificate needs another session")
    if offer.setup != "actpass" and offer.dtls_role != role:
        raise _change(f"the DTLS roles changed: this node is the {role}, and setup:{offer.setup} denies it")
    if before.bundle and not offer.bundle:
        raise _change("the sections left the BUNDLE group")


def _check_section(index: int, past: AgreedSection, section: MediaSection) -> None:
    name = f"section {index} (mid {past.mid})"
    if section.mid != past.mid and not (section.rejected and not section.mid):
        raise _change(f"{name} has another mid now")
    if section.kind != past.kind:
        raise _change(f"{name} was {past.kind} and is of another kind now")
    if section.rejected:
        return
    if section.protocol != past.protocol:
        raise _change(f"{name} has another protocol now")
    for payload_type, meaning in _meanings(section.codecs).items():
        if past.payload_types.get(payload_type, meaning) != meaning:
            raise _change(f"payload type {payload_type} of {name} means another format now")
    uris = _uris(section)
    identifiers = {uri: identifier for identifier, uri in past.extensions.items()}
    for identifier, uri in uris.items():
        if past.extensions.get(identifier, uri) != uri or identifiers.get(uri, identifier) != identifier:
            raise _change(f"extension {identifier} of {name} means another one now")


def restarts_ice(before: SessionDescription, offer: SessionDescription) -> bool:
    """Whether both credentials are new; one alone is not a restart (RFC 8839 §4.4.3.1.1)."""
    same = (offer.ice_ufrag == before.ice_ufrag, offer.ice_password == before.ice_password)
    if any(same) and not all(same):
        raise _change("an ICE restart changes both ice-ufrag and ice-pwd")
    return not all(same)


def _meanings(codecs: Sequence[Codec]) -> dict[int, str]:
    """Payload type → the format it stands for, those of retransmissions with whose they are."""
    found = {}
    for codec in codecs:
        found[codec.payload_type] = (
            f"{codec.name.lower()}/{codec.clock_rate}/{codec.channels} {_variant(codec)}"
        )
        if codec.rtx is not None:
            found[codec.rtx] = f"rtx {codec.payload_type}"
    return found


def _variant(codec: Codec) -> str:
    """What tells a format from others of the same name: of H264's profile-level-id the profile only."""
    given = parameters(codec.fmtp)
    words = [f"{name}={given[name]}" for name in _IDENTIFYING if name in given]
    return " ".join([*words, given.get("profile-level-id", "")[:4].lower()])


def _uris(section: MediaSection) -> dict[int, str]:
    return {identifier: uri for uri, identifier in section.extensions.items()}


def _sources(section: MediaSection) -> tuple[object, ...]:
    return (section.ssrcs, section.rids, section.layer_ssrcs)


def _change(reason: str) -> NegotiationError:
    return NegotiationError(reason, kind="change")
