"""Parameter sets of H264 and H265 (SPS, PPS, VPS), kept for decoders that begin later.

Some publishers send them once, or only in the session description
(``sprop-parameter-sets``, RFC 6184 §8.1; ``sprop-vps``, ``-sps``, ``-pps``, RFC 7798
§7.1). In: a publisher's payloads and fmtp. Out: payloads to put before a
keyframe that comes without them. Of a set only its number is read.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec

from relaymesh.webrtc import h264, h265
from relaymesh.webrtc.codecs import parameters
from relaymesh.webrtc.errors import RtpError
from relaymesh.webrtc.nal import Unit

MAX_SET_BYTES = 1_000  # of one; encoders write 10 … 200
MAX_SETS = 16
AGGREGATE_BYTES = 1_100  # above that each goes alone: a payload is to cross every path


class _Format(msgspec.Struct, frozen=True):
    """One codec's units."""

    kinds: tuple[int, ...]  # of parameter sets, in the order in which a decoder wants them
    sprops: tuple[str, ...]
    unit_type: Callable[[bytes], int]
    units: Callable[[bytes], list[Unit]]
    fragment: Callable[[bytes], tuple[int, bool, bytes] | None]
    number: Callable[[bytes], int]
    aggregate: Callable[[list[bytes]], bytes]
    header_bytes: int


_FORMATS = {
    "h264": _Format(
        h264.PARAMETER_SETS,
        ("sprop-parameter-sets",),
        h264.unit_type,
        h264.units,
        h264.fragment,
        h264.parameter_set_number,
        h264.aggregate,
        1,
    ),
    "h265": _Format(
        h265.PARAMETER_SETS,
        ("sprop-vps", "sprop-sps", "sprop-pps"),
        h265.unit_type,
        h265.units,
        h265.fragment,
        h265.parameter_set_number,
        h265.aggregate,
        2,
    ),
}


class ParameterSets:
    """The newest set of each kind and number of one encoding. For other codecs it stays empty."""

    __slots__ = ("_format", "_partial", "_sets", "refused")

    def __init__(self, codec_name: str, fmtp: str = "") -> None:
        self._format = _FORMATS.get(codec_name.lower())
        self._sets: dict[tuple[int, int], bytes] = {}  # (kind, number) → unit; the longest unchanged first
        self._partial: tuple[int, bytes] | None = None  # (sequence of its last piece, bytes so far)
        self.refused = 0  # too large, or unreadable
        if self._format is not None and fmtp:
            self._learn_fmtp(self._format, fmtp)

    def __bool__(self) -> bool:
        return bool(self._sets)

    def learn(self, payload: bytes, sequence: int) -> bool:
        """Keep the parameter sets in a packet; true when something new was among them.

        *sequence*, extended, joins one that comes in pieces.

        Raises:
            RtpError: a malformed payload.
        """
        if self._format is None:
            return False
        before = dict(self._sets)
        piece = self._format.fragment(payload)
        if piece is not None:
            self._continue(self._format, piece, sequence)
        for unit in self._format.units(payload):
            if self._format.unit_type(unit.data) in self._format.kinds:
                if unit.whole:
                    self._keep(self._format, unit.data)
                else:
                    self._partial = sequence, unit.data
        return self._sets != before

    def brings(self, payload: bytes) -> bool:
        """A keyframe's first packet carries a parameter set: the rest of them follow in it or behind it."""
        if self._format is None:
            return False
        kinds = {self._format.unit_type(unit.data) for unit in self._format.units(payload)}
        return not kinds.isdisjoint(self._format.kinds)

    def before(self, payload: bytes) -> tuple[bytes, ...]:
        """The payloads to send before *payload*, a keyframe's first, under its timestamp and without marker.

        Nothing when it brings its own, or none are known.

        Raises:
            RtpError: a malformed payload.
        """
        if self._format is None or not self._sets or self.brings(payload):
            return ()
        units = [self._sets[key] for key in sorted(self._sets, key=self._order)]
        if len(units) > 1 and sum(len(unit) + 2 for unit in units) <= AGGREGATE_BYTES:
            return (self._format.aggregate(units),)
        return tuple(units)

    def _order(self, key: tuple[int, int]) -> tuple[int, int]:
        assert self._format is not None, "only such a codec has sets"
        return self._format.kinds.index(key[0]), key[1]

    def _continue(self, form: _Format, piece: tuple[int, bool, bytes], sequence: int) -> None:
        kind, last, data = piece
        partial, self._partial = self._partial, None
        if partial is None or sequence != partial[0] + 1 or form.unit_type(partial[1]) != kind:
            return
        unit = partial[1] + data
        if last:
            self._keep(form, unit)
        elif len(unit) <= MAX_SET_BYTES:
            self._partial = sequence, unit

    def _keep(self, form: _Format, unit: bytes) -> None:
        if not form.header_bytes < len(unit) <= MAX_SET_BYTES:
            self.refused += 1
            return
        try:
            key = form.unit_type(unit), form.number(unit)
        except RtpError:
            self.refused += 1
            return
        if self._sets.get(key) == unit:
            return
        self._sets.pop(key, None)
        self._sets[key] = unit
        if len(self._sets) > MAX_SETS:
            del self._sets[next(iter(self._sets))]

    def _learn_fmtp(self, form: _Format, fmtp: str) -> None:
        found = parameters(fmtp)
        for name in form.sprops:
            for text in found.get(name, "").strip('"').split(","):
                try:
                    unit = base64.b64decode(text, validate=True)
                except ValueError:  # binascii.Error is one
                    self.refused += 1
                    continue
                if unit and form.unit_type(unit) in form.kinds:
                    self._keep(form, unit)
