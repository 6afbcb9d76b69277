"""Layer shedding on a short link: enhancement layers are left out whole, never single packets.

In: the packets of class 3 as they are offered (which layer, how high, how large, where a
picture begins and ends), what all else needs, the rate. Out: whether a packet goes.

While a link is short, the highest layers of all streams are left out first, as many as it
takes. They come back a few at a time, the lowest first, when there is room and the last
that came back did not fill the path. A layer goes out and comes back between
pictures only, and comes back where a decoder can take it up.

This is soft state of the link, bounded, and kept of what is offered now: a node
that passes streams on still keeps nothing of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MAX_LAYERS = 4096
WINDOW = 0.25  # seconds over which rates are measured
KEPT = 2.0  # seconds a silent layer is known
FULL_SHARE = 0.97  # of the rate may be asked for; more sheds
ROOM_SHARE = 0.9  # of the rate may be asked for with the layer that comes back
BACK_SHARE = 0.07  # of the rate may come back at once, or one layer
BACK_RTT = 0.1  # seconds; on longer ways less, since a mistake shows later
BACK_AFTER = 0.2  # seconds between layers that come back, and one round trip
FAILED_AFTER = 1.5  # seconds without another try when one filled the path


@dataclass(slots=True)
class _Layer:
    level: int  # higher ones go first …
    own: int  # … and of these the higher layer of its encoding, spatial × 8 + temporal
    rate: float = 0.0  # bytes/s
    counted: int = 0  # bytes in the window
    seen_at: float = 0.0
    shed: bool = False
    out: bool = False  # what comes now is left out; follows *shed* between pictures
    inside: bool = False  # a picture has begun and not ended


class Layers:
    """The enhancement layers offered to one link."""

    def __init__(self) -> None:
        self.shed_packets = 0
        self.shed_now = 0  # layers
        self._layers: dict[bytes, _Layer] = {}
        self._window_at = -math.inf
        self._may_return_at = -math.inf
        self._returned: list[_Layer] = []  # recently: whether they fill the path is not known yet

    @property
    def rate(self) -> float:
        """Bytes per second that all layers offered."""
        return sum(layer.rate for layer in self._layers.values())

    @property
    def shed_rate(self) -> float:
        """Bytes per second of the layers that are left out."""
        return sum(layer.rate for layer in self._layers.values() if layer.shed)

    def offer(self, key: bytes, level: int, size: int, *, end: bool, entry: bool, now: float) -> bool:
        """Count a packet of a layer, and tell whether it goes.

        *key*: the encoding, then one byte spatial × 8 + temporal; *level*: layers of a higher one are left
        out first; *end*: it is the last of its layer's frame; *entry*: a decoder that has what is below can
        begin with it.
        """
        if now - self._window_at >= WINDOW:
            self._roll(now)
        layer = self._layers.get(key)
        if layer is None:
            if len(self._layers) >= MAX_LAYERS:
                return True  # not counted, not shed: the pacer bounds it
            layer = self._layers[key] = _Layer(level, key[-1])
        layer.counted += size
        layer.seen_at = now
        if not layer.inside and layer.out != layer.shed and (layer.shed or (entry and self._stands(key))):
            layer.out = layer.shed
        layer.inside = not end
        if layer.out:
            self.shed_packets += 1
        return not layer.out

    def _stands(self, key: bytes) -> bool:
        """Tell whether all that the layer *key* is built on goes: a decoder has no use for it alone."""
        stream, spatial, temporal = key[:-1], key[-1] >> 3, key[-1] & 7
        return not any(
            (below := self._layers.get(stream + bytes((s << 3 | t,)))) is not None and below.out
            for s in range(spatial + 1)
            for t in range(temporal + 1)
            if (s, t) != (spatial, temporal)
        )

    def _roll(self, now: float) -> None:
        passed, self._window_at = now - self._window_at, now
        for key, layer in list(self._layers.items()):
            if layer.seen_at < now - KEPT:
                del self._layers[key]
                continue
            if passed < 4 * WINDOW:
                # The first measurement counts at once, later ones are smoothed.
                rate = layer.counted / passed
                layer.rate += (rate - layer.rate) * (0.5 if layer.rate else 1.0)
            layer.counted = 0

    def fit(self, rate: float, others: float, *, rtt: float, filled: bool, now: float) -> None:
        """Leave out what does not fit into *rate*; *others*: what all else needs. Both bytes/s.

        *filled*: the path was just found full. Infinite *rate*: everything goes.
        """
        kept = sorted(
            (la for la in self._layers.values() if not la.shed), key=lambda la: (-la.level, -la.own)
        )
        asked = others + sum(layer.rate for layer in kept)
        if filled and self._returned:
            self._may_return_at = now + FAILED_AFTER
            for layer in self._returned:
                layer.shed = True
            self._returned.clear()
        for layer in kept:
            if asked <= FULL_SHARE * rate:
                break
            if not layer.shed:
                layer.shed = True
                asked -= layer.rate
                self._may_return_at = max(self._may_return_at, now + BACK_AFTER + rtt)
        self._let_back(rate, asked, rtt, now)
        self.shed_now = sum(layer.shed for layer in self._layers.values())

    def _let_back(self, rate: float, asked: float, rtt: float, now: float) -> None:
        if now < self._may_return_at:
            return
        self._returned.clear()  # the last ones did no harm
        out = [layer for layer in self._layers.values() if layer.shed]
        if not out:
            return
        if rate == math.inf:
            for layer in out:
                layer.shed = False
            return
        share = BACK_SHARE * min(1.0, BACK_RTT / rtt) if rtt else BACK_SHARE
        room = min(ROOM_SHARE * rate - asked, share * rate)
        for layer in sorted(out, key=lambda layer: (layer.level, layer.own, layer.rate)):
            room -= layer.rate
            if room < 0.0 and (self._returned or asked + layer.rate > ROOM_SHARE * rate):
                break
            layer.shed = False
            self._returned.append(layer)
            self._may_return_at = now + BACK_AFTER + rtt

    def forget(self) -> None:
        """The link went down: the path may be another when it is back."""
        for layer in self._layers.values():
            layer.shed = False
        self._returned.clear()
        self._may_return_at = -math.inf
        self.shed_now = 0

    def debug_state(self) -> dict[str, object]:
        return {
            "layers": len(self._layers),
            "shed": self.shed_now,
            "shed_packets": self.shed_packets,
            "rate_kbps": self.rate / 125,
        }
