"""What a node says of itself at ``/status``: links, publications, sessions, counters."""

from __future__ import annotations

from relaymesh.node.core import NodeCore
from relaymesh.node.publications import AnyPublication, LocalPublication, Track

JsonObject = dict[str, object]


class RateMeter:
    """Turns ever-growing counters into packets per second, sample by sample."""

    def __init__(self) -> None:
        self._counts: dict[object, tuple[float, int]] = {}
        self._rates: dict[object, float] = {}

    def sample(self, counts: dict[object, int], now: float) -> None:
        """Take all counters at once; those that are not given any more are forgotten."""
        for key, count in counts.items():
            before = self._counts.get(key)
            if before is not None and now > before[0]:
                self._rates[key] = max(0.0, (count - before[1]) / (now - before[0]))
        self._counts = {key: (now, count) for key, count in counts.items()}
        self._rates = {key: rate for key, rate in self._rates.items() if key in counts}

    def rate(self, key: object) -> float:
        """Per second over the last interval; 0 while unknown."""
        return round(self._rates.get(key, 0.0), 1)


class NodeStatus:
    """Reads a core; call :meth:`sample` once a second so that rates mean something."""

    def __init__(self, name: str, region: str, core: NodeCore) -> None:
        self._name = name
        self._region = region
        self._core = core
        self._rates = RateMeter()

    def sample(self, now: float) -> None:
        counts: dict[object, int] = {"forwarded": self._core.forwarder.forwarded}
        for publication in self._core.publications:
            for track in publication.tracks.values():
                counts[track.id] = sum(encoding.received for encoding in track.encodings.values())
        self._rates.sample(counts, now)

    def snapshot(self, now: float) -> JsonObject:
        core = self._core
        return {
            "node": self._name,
            "region": self._region,
            "index": core.index,
            "generation": core.tables.active,
            "controller": "connected" if core.outbox.connected else "disconnected",
            "links": self._links(now),
            "publications": self._publications(),
            "sessions": [session.debug_state() for session in core.edge.sessions()],
            "ended": [
                {
                    "session": ended.session[:8],
                    "role": ended.role,
                    "room": ended.room,
                    "participant": ended.participant,
                    "reason": ended.reason,
                }
                for ended in core.admission.ended
            ],
            "forwarded": {
                "packets": core.forwarder.forwarded,
                "packets_per_s": self._rates.rate("forwarded"),
            },
            "hitless": {
                "second_copies": core.forwarder.second_copies,
                "merged": core.forwarder.merged,
            },
            "counters": {
                "media_refused": dict(core.edge.refused),
                "relay_refused": dict(core.relay.refused),
                "dropped": dict(core.forwarder.dropped),
                "messages_refused": dict(core.outbox.refused),
                "unknown_generations": core.tables.unknown_generations,
            },
        }

    def _links(self, now: float) -> list[JsonObject]:
        return [
            {
                "peer": self._core.relay.name_of(report.peer),
                "peer_index": report.peer,
                "up": report.up,
                "rtt_ms": round(report.rtt_ms, 2),
                "jitter_ms": round(report.jitter_ms, 2),
                "loss_out": round(report.loss_out, 4),
                "loss_in": round(report.loss_in, 4),
                "burst": round(report.burst, 2),
                "residual_loss": round(report.residual_loss, 6),
                "sent_packets": report.sent_packets,
                "received_packets": report.received_packets,
                "available_kbps": round(report.available_kbps),
                "used_kbps": round(report.used_kbps),
                "shed_kbps": round(report.shed_kbps),
                "queue_ms": round(report.queue_ms, 1),
            }
            for report in self._core.relay.reports(now)
        ]

    def _publications(self) -> list[JsonObject]:
        return [self._publication(publication) for publication in self._core.publications]

    def _publication(self, publication: AnyPublication) -> JsonObject:
        return {
            "room": publication.name.room,
            "participant": publication.name.participant,
            "source": "relay" if publication.is_remote else "local",
            "ended": publication.ended_at is not None,
            "subscribers": len(publication.sessions),
            "duplicates": sum(encoding.duplicates for encoding in publication.encodings()),
            "merged": sum(encoding.merged for encoding in publication.encodings()),
            **(
                {"demand": publication.demand.debug_state()}
                if isinstance(publication, LocalPublication)
                else {}
            ),
            "tracks": [self._track(track) for track in publication.tracks.values()],
        }

    def _track(self, track: Track) -> JsonObject:
        return {
            "track": track.number,
            "kind": track.info.kind,
            "source": track.info.source,
            "codec": track.info.codec,
            "muted": track.muted,
            "hitless": track.info.hitless,
            "packets": sum(encoding.received for encoding in track.encodings.values()),
            "lost": sum(encoding.lost for encoding in track.encodings.values()),
            "packets_per_s": self._rates.rate(track.id),
            "encodings": [
                {
                    "encoding": info.number,
                    "rid": info.rid,
                    "packets": track.encodings[info.number].received,
                    "live": track.live(info.number),
                    "layers": _layers(track, info.number),
                    "kept_bytes": track.encodings[info.number].since_keyframe.size_bytes,
                }
                for info in track.info.encodings
            ],
        }


def _layers(track: Track, number: int) -> JsonObject | None:
    """What the ingress says of an encoding's layers; ``None`` before it did."""
    layers = track.layers.get(number)
    if layers is None:
        return None
    kbps = [round(rate / 1e3) for rate in layers.rates_bps]
    return {"spatial": layers.spatial, "temporal": layers.temporal, "kbps": kbps}
