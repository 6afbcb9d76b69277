"""The format parameters of Opus in an answer (RFC 7587 §6.1, §7).

In: what the offer says of its opus, and whether stereo comes in or goes out. Out: the fmtp to
answer with. Its parameters say something of one direction each, so an answer must not repeat
those of the offer: browsers send mono to whom did not ask for ``stereo=1`` in its own words.
"""

from __future__ import annotations

from collections.abc import Iterator

from relaymesh.webrtc.codecs import parameters

# What binds both ends of a path that passes packets through as they are.
_KEPT = ("minptime", "maxptime", "ptime", "useinbandfec", "usedtx", "maxplaybackrate", "maxaveragebitrate")


def offers_stereo(fmtp: str) -> bool:
    """Whether the offerer is likely to send two channels.

    ``sprop-stereo`` says so; ``stereo`` only asks for it, but is all that some publishers write.
    """
    found = parameters(fmtp)
    return "1" in (found.get("sprop-stereo"), found.get("stereo"))


def takes_stereo(fmtp: str) -> bool:
    """Whether the offerer would hear two channels; without the parameter it prefers one."""
    return parameters(fmtp).get("stereo") == "1"


def answer_fmtp(fmtp: str, *, receives_stereo: bool = False, sends_stereo: bool = False) -> str:
    """The fmtp that answers an opus offered with *fmtp*.

    *receives_stereo* asks the client to send two channels (`offers_stereo` says when it has them);
    *sends_stereo* tells it that two are coming, which leaves it to the client to mix them.
    """
    return ";".join(_answered(fmtp, receives_stereo, sends_stereo))


def _answered(fmtp: str, receives_stereo: bool, sends_stereo: bool) -> Iterator[str]:
    found = parameters(fmtp)
    for name in _KEPT:
        if name in found:
            yield f"{name}={found[name]}"
    if receives_stereo:
        yield "stereo=1"
    if sends_stereo:
        yield "sprop-stereo=1"
