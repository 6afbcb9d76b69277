"""H264 profiles as ``profile-level-id`` names them (RFC 6184 §8.1), and who decodes which.

In: the parameters of a format. Out: names and ranks. Levels are not compared:
decoders take more than they name (RFC 6184 §8.2.2 has them independent for each direction with
``level-asymmetry-allowed``). Nor is the packetization mode a reason to refuse: what
decodes mode 1 decodes mode 0, and in practice the other way round, since browsers and
players all take aggregates and fragments apart whatever they list.
"""

from __future__ import annotations

from collections.abc import Mapping

# Without the parameter it is Constrained Baseline: the RFC says Baseline, whose extras nobody uses.
ABSENT = "42e01f"

# Which profiles decode a stream of a profile for sure, nearest first. Nobody uses what Baseline has
# beyond Constrained Baseline, so the two stand for each other.
_DECODED_BY = {
    "constrained-baseline": (
        "constrained-baseline",
        "baseline",
        "main",
        "constrained-high",
        "high",
        "extended",
    ),
    "baseline": ("baseline", "constrained-baseline", "extended"),
    "main": ("main", "high", "constrained-high"),
    "constrained-high": ("constrained-high", "high"),
    "high": ("high", "constrained-high"),
    "extended": ("extended",),
}
# For the rest: a decoder that lists one of these decodes all of 4:2:0 in 8 bits, as every browser's does;
# the greater the profile it names, the surer.
_RICHEST_FIRST = ("high", "constrained-high", "main", "extended", "baseline", "constrained-baseline")
# What takes other decoders: more bits or more chroma (H.264 §A.2). profile_idc → its name
_BEYOND = {
    "6e": "High 10 (10 bits)",
    "7a": "High 4:2:2",
    "f4": "High 4:4:4 Predictive",
    "2c": "CAVLC 4:4:4 Intra",
}


def profile(value: str) -> str:
    """The profile that a ``profile-level-id`` names (RFC 6184 table 5), or its first digits."""
    value = value.lower()
    try:
        idc, constraints = int(value[0:2], 16), int(value[2:4], 16)
    except ValueError:
        return value
    set0, set1 = constraints & 0x80 != 0, constraints & 0x40 != 0
    match idc:
        case 0x42:
            return "constrained-baseline" if set1 else "baseline"
        case 0x4D:
            return "constrained-baseline" if set0 else "main"
        case 0x58 if set0:
            return "constrained-baseline" if set1 else "baseline"
        case 0x58:
            return "extended"
        case 0x64:
            return "constrained-high" if constraints & 0x0C == 0x0C else "high"
    return value[:4]


def _named(parameters: Mapping[str, str]) -> str:
    return profile(parameters.get("profile-level-id", ABSENT))


def why_undecodable(parameters: Mapping[str, str]) -> str | None:
    """The reason why no ordinary decoder plays such a stream; ``None`` where they do."""
    if parameters.get("packetization-mode", "0") not in ("0", "1"):
        return f"with packetization-mode={parameters['packetization-mode']}"  # interleaved: not in WebRTC
    found = _named(parameters)
    if found in _RICHEST_FIRST:
        return None
    return f"of profile {_BEYOND.get(found[:2], found or 'unknown')}"


def publishing_rank(parameters: Mapping[str, str]) -> int:
    """How widely a publisher's variant is decodable, 0 the most."""
    return {"constrained-baseline": 0, "baseline": 1}.get(_named(parameters), 2)


def decoding_rank(sent: Mapping[str, str], offered: Mapping[str, str]) -> int | None:
    """How far a player's variant is from the one sent, 0 the nearest; ``None`` if it cannot decode that."""
    wanted, has = _named(sent), _named(offered)
    # A publisher that names no mode is of mode 0 by the RFC and often of mode 1 in fact.
    mode_sent, mode_offered = sent.get("packetization-mode", "1"), offered.get("packetization-mode", "0")
    if not {mode_sent, mode_offered} <= {"0", "1"}:
        return None
    # A player of mode 1 takes a stream of mode 0 apart; the other way round is a last resort.
    mode = 0 if mode_sent == mode_offered else 1 if mode_offered == "1" else 32
    if wanted == has:
        return mode
    if wanted not in _DECODED_BY or has not in _RICHEST_FIRST:
        return None
    sure = _DECODED_BY[wanted]
    near = sure.index(has) if has in sure else len(sure) + _RICHEST_FIRST.index(has)
    return 2 * near + mode
