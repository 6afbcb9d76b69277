"""What a simulated run is measured by: samples while it runs, figures when it is over.

In: the mesh, the crowd of clients, the network's time. Out: the metrics, series
and player tracks of :mod:`relaymesh.netsim.result`. Sampling happens in timers
of the network, between the steps of tasks; it changes nothing it looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from relaymesh.netsim.crowd import Crowd, PlayingClient
from relaymesh.netsim.fault_windows import fault_windows
from relaymesh.netsim.media import PublishedTrack
from relaymesh.netsim.mesh import SimMesh
from relaymesh.netsim.metrics import METRICS, quantiles
from relaymesh.netsim.net import Network
from relaymesh.netsim.player import BINS_PER_SECOND, PlayedTrack
from relaymesh.netsim.reception import Fates, fates_between
from relaymesh.netsim.result import FaultWindow, Metrics, PlayerTrack, Points
from relaymesh.netsim.routes import Routes
from relaymesh.netsim.scenario.resolved import Participant

SAMPLES_PER_S = 10  # looks at routes
MAX_LAYER_POINTS = 200  # of one played track: changes of layers, freezes
MAX_GAP_POINTS = 5000  # of the series of gaps
_QUANTILES = {"p10": 0.10, "p50": 0.50, "p90": 0.90, "p99": 0.99, "p999": 0.999}

Bins = dict[int, int]  # tenth of a millisecond → packets


def bin_quantiles(bins: Bins, names: Iterable[str]) -> dict[str, float | None]:
    """Quantiles in milliseconds (nearest rank) of a histogram; None where it is empty."""
    wanted = list(names)
    total = sum(bins.values())
    if not total:
        return dict.fromkeys(wanted)
    ranks = {name: max(1, -(-_QUANTILES[name] * total // 1)) for name in wanted}
    found: dict[str, float | None] = {}
    seen = 0
    for value in sorted(bins):
        seen += bins[value]
        for name, rank in ranks.items():
            if name not in found and seen >= rank:
                found[name] = value * 1000 / BINS_PER_SECOND
    return {name: found[name] for name in wanted}


def add_bins(into: Bins, bins: Bins, shift: int = 0) -> None:
    """Add *bins* to *into*, each value lowered by *shift* bins but not below 0."""
    for value, count in bins.items():
        value = max(0, value - shift)
        into[value] = into.get(value, 0) + count


@dataclass(slots=True)
class TrackRecord:
    """The histograms of one played track over the measured time."""

    added: Bins = field(default_factory=dict)
    delay: Bins = field(default_factory=dict)
    best: float = 0.0  # s; the last known delay of the best path, access links included
    late_before: int = 0  # packets that came too late before measuring began


class Measurement:
    """Everything measured of one run."""

    def __init__(self, mesh: SimMesh, crowd: Crowd, network: Network) -> None:
        self.routes = Routes(mesh, crowd)
        self.series: dict[str, Points] = {}
        self._mesh = mesh
        self._scenario = mesh.scenario
        self._crowd = crowd
        self._network = network
        self._records: dict[PlayedTrack, TrackRecord] = {}
        self._rtts: dict[tuple[str, str], list[float]] = {}
        self._ticks = 0
        self._links_seen = 0
        self._second: tuple[Bins, Bins] = ({}, {})  # delay, added delay
        self._last: dict[str, float] = {}  # counters at the last second
        self._start: dict[str, float] = {}  # … and when measuring began
        network.at(0.0, self._tick)

    # --- while it runs -------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._network.now
        if now >= self._scenario.duration_s:
            return
        measured = now >= self._scenario.warmup_s
        if self._mesh.link_changes != self._links_seen:
            self.take_delays()
            self._links_seen = self._mesh.link_changes
        self.routes.sample(now, 1 / SAMPLES_PER_S if measured else 0.0)
        if self._ticks % SAMPLES_PER_S == 0:
            self._each_second(now, measured)
        self._ticks += 1
        self._network.at(self._ticks / SAMPLES_PER_S, self._tick)

    def take_delays(self) -> None:
        """Book the delays since the last call, against the best paths there were."""
        measured = self._network.now > self._scenario.warmup_s
        for client in self._crowd.playing.values():
            for track in client.tracks:
                delays = track.take_delays()
                record = self._records.get(track)
                if record is None:
                    record = self._records[track] = TrackRecord()
                if delays:
                    shift = int(record.best * BINS_PER_SECOND)
                    add_bins(self._second[0], delays)
                    add_bins(self._second[1], delays, shift)
                    if measured:
                        add_bins(record.delay, delays)
                        add_bins(record.added, delays, shift)
                best = self._best_delay(client)
                if best is not None:
                    record.best = best

    def _best_delay(self, client: PlayingClient) -> float | None:
        source = self._crowd.publishing.get((client.participant.room, client.publisher))
        if source is None:
            return None
        scenario = self._scenario
        access = scenario.access_delay_s(source.participant) + scenario.access_delay_s(client.participant)
        best = self.routes.best_delay(source.participant.node, client.participant.node)
        return None if best is None else best + access

    def _each_second(self, now: float, measured: bool) -> None:
        self.take_delays()
        delay, added = self._second
        self._second = {}, {}
        for name, bins, wanted in (
            ("delay", delay, ("p50", "p99")),
            ("added_delay", added, ("p50", "p99", "p999")),
        ):
            for quantile, value in bin_quantiles(bins, wanted).items():
                if value is not None:
                    self._point(f"{name}_{quantile}_ms", now, value)
        counters = self._counters()
        if self._last:
            since = {name: value - self._last[name] for name, value in counters.items()}
            self._rates(now, since)
        self._last = counters
        if measured:
            if not self._start:
                self._start = counters
                for track, record in self._records.items():
                    record.late_before = track.late
            self._sample_links(now)

    def _counters(self) -> dict[str, float]:
        relay_bytes, media, lost = self._mesh.relay_totals()
        players = [track for client in self._crowd.playing.values() for track in client.tracks]
        return {
            "relay_bytes": relay_bytes,
            "media": media,
            "lost": lost,
            "payload_hops": self._mesh.totals().payload_hops,
            "sent": sum(
                track.packets_sent for c in self._crowd.publishing.values() for track in c.publisher.tracks
            ),
            "sent_bytes": sum(
                track.sent_bytes for c in self._crowd.publishing.values() for track in c.publisher.tracks
            ),
            "delivered": sum(track.packets for track in players),
            "delivered_bytes": sum(track.octets for track in players),
            "late": sum(track.late for track in players),
            "generation": self._mesh.active_generation(),
        }

    def _rates(self, now: float, since: dict[str, float]) -> None:
        self._point("offered_mbps", now, since["sent_bytes"] * 8e-6)
        self._point("relay_mbps", now, since["relay_bytes"] * 8e-6)
        self._point("delivered_mbps", now, since["delivered_bytes"] * 8e-6)
        attached = sum(
            client.sessions > 0 and all(track.left_at is None for track in client.tracks)
            for client in self._crowd.playing.values()
        )
        self._point("players", now, attached)
        if since["media"]:
            self._point("link_loss", now, since["lost"] / since["media"])
        if since["payload_hops"]:
            self._point("overhead", now, since["relay_bytes"] / since["payload_hops"] - 1)
        if since["delivered"]:
            self._point("late_loss", now, since["late"] / since["delivered"])

    def _sample_links(self, now: float) -> None:
        for name, place in self._mesh.nodes.items():
            if place.node is not None:
                relay = place.node.core.relay
                for report in relay.reports(place.node.clock()):
                    if report.up and report.rtt_ms:
                        key = name, relay.name_of(report.peer)
                        self._rtts.setdefault(key, []).append(report.rtt_ms)

    def _point(self, name: str, now: float, value: float) -> None:
        self.series.setdefault(name, []).append((round(now, 3), round(value, 6)))

    # --- when it is over -----------------------------------------------------------------------

    def players(self) -> list[PlayerTrack]:
        """Every track of every player."""
        self.take_delays()
        found = fault_windows(self._scenario)
        return [self._player_track(client, track, source, found) for client, track, source in self._tracks()]

    def _tracks(self) -> Iterator[tuple[PlayingClient, PlayedTrack, PublishedTrack | None]]:
        for client in self._crowd.playing.values():
            publishing = self._crowd.publishing.get((client.participant.room, client.publisher))
            sources = publishing.publisher.tracks if publishing is not None else []
            for index, track in enumerate(client.tracks):
                yield client, track, sources[index] if sources else None

    def _player_track(
        self,
        client: PlayingClient,
        track: PlayedTrack,
        source: PublishedTrack | None,
        found: list[FaultWindow],
    ) -> PlayerTrack:
        start, end = self._stay(track)
        fates = fates_between(source, track, start, end) if source is not None else Fates()
        record = self._records.get(track, TrackRecord())
        first = None
        if track.first_frame_at is not None and source is not None:
            began = max(client.asked_at, source.main.sent_at[0])
            first = (track.first_frame_at - began) * 1000
        windows = [(w.start_s, w.until_s) for w in found] or [(start, end)]
        video = track.spec.kind == "video"
        room = client.participant.room
        ingress = self._crowd.publishing.get((room, client.publisher))
        return PlayerTrack(
            room=room,
            publisher=client.publisher,
            player=client.participant.name,
            kind=track.spec.kind,
            ingress=ingress.participant.node if ingress is not None else "",
            edge=client.participant.node,
            sent=fates.sent,
            lost=fates.never,
            enhancement=fates.enhancement,
            left_out=fates.left_out,
            late=track.late - record.late_before,
            layers=[(round(c.at, 3), c.encoding, c.spatial) for c in track.layers[:MAX_LAYER_POINTS]]
            if track.spec.simulcast > 1 or track.spec.spatial > 1
            else [],
            switches=[
                (round(c.at, 3), round(c.took * 1000, 3))
                for c in track.layers[:MAX_LAYER_POINTS]
                if c.took is not None
            ],
            freezes=_pairs(track.freezes[: 2 * MAX_LAYER_POINTS]),
            stretches=self._stretches(client.participant, client.asked_at, track) if video else [],
            frozen_ms=track.frozen(start, end) * 1000 if video else 0.0,
            longest_freeze_ms=max(track.stills(start, end), default=0.0) * 1000 if video else 0.0,
            first_frame_ms=first,
            gaps_ms=[_gap(track, *window) for window in windows],
            added_delay_ms=bin_quantiles(record.added, METRICS["added_delay_ms"].quantiles),
            delay_ms=bin_quantiles(record.delay, ("p50", "p99")),
        )

    def _stay(self, track: PlayedTrack) -> tuple[float, float]:
        """The measured part of the player's stay."""
        end = self._scenario.duration_s
        if track.left_at is not None:
            # What is sent in its last moment cannot reach it any more.
            end = min(end, track.left_at - 1.0)
        return max(self._scenario.warmup_s, track.joined_at), end

    def _stretches(
        self, participant: Participant, asked_at: float, track: PlayedTrack
    ) -> list[tuple[float, float]]:
        """The player's stay, parted by the steps of its access link."""
        end = self._scenario.duration_s if track.left_at is None else track.left_at
        steps = participant.access.steps if participant.access is not None else []
        begins = [asked_at, *(step.at_s for step in steps if asked_at < step.at_s < end)]
        return list(pairwise([*begins, end]))

    def metrics(self, players: list[PlayerTrack]) -> Metrics:
        """What only the runner knows; the rest follows from *players* and the paths."""
        totals = self._mesh.totals()
        counters = self._counters()
        since = {name: value - self._start.get(name, 0.0) for name, value in counters.items()}
        added: Bins = {}
        for record in self._records.values():
            add_bins(added, record.added)
        rtts = {f"{a}→{b}": quantiles(v, ("p10", "p50", "p90", "p99")) for (a, b), v in self._rtts.items()}
        return {
            "added_delay_ms": bin_quantiles(added, METRICS["added_delay_ms"].quantiles),
            "link_loss": since["lost"] / since["media"] if since["media"] else 0.0,
            "overhead": since["relay_bytes"] / since["payload_hops"] - 1 if since["payload_hops"] else 0.0,
            "loops": totals.loops,
            "duplicates": totals.duplicates,
            "path_stretch": self.routes.stretch,
            "plans": int(since["generation"]),
            "rtt_ms": rtts,
            "sent_packets": int(since["sent"]),
            "delivered_packets": sum(p.sent - p.lost + p.enhancement - p.left_out for p in players),
        }

    def finish_series(self) -> dict[str, Points]:
        """All series; those that follow from what players kept are made here.

        A point stands at the end of its second, as those do that were sampled.
        """
        end = int(self._scenario.duration_s)
        sent, lost = [0] * end, [0] * end
        frozen = [0] * (end + 1)
        gaps: Points = []
        for _, track, source in self._tracks():
            if source is not None:
                self._loss_by_second(track, source, sent, lost)
            if track.spec.kind == "video":
                for at in range(0, len(track.freezes), 2):
                    begin, over = track.freezes[at], track.freezes[at + 1]
                    gaps.append((round(over, 3), round((over - begin) * 1000, 1)))
                    for second in range(max(0, int(begin)), min(int(over), end) + 1):
                        frozen[second] += 1
        self.series["residual_loss"] = [(t + 1.0, round(lost[t] / sent[t], 6)) for t in range(end) if sent[t]]
        self.series["frozen_players"] = [(t + 1.0, float(count)) for t, count in enumerate(frozen[:end])]
        self.series["gap_ms"] = sorted(gaps)[:MAX_GAP_POINTS]
        changes = [0] * (end + 1)
        known = set()
        for change in self.routes.changes:
            key = change.stream, change.edge
            changes[int(change.t)] += key in known
            known.add(key)
        self.series["route_changes"] = [(t + 1.0, float(count)) for t, count in enumerate(changes[:end])]
        return self.series

    def _loss_by_second(
        self, track: PlayedTrack, source: PublishedTrack, sent: list[int], lost: list[int]
    ) -> None:
        _, end = self._stay(track)
        for second in range(int(track.joined_at), int(end)):
            fates = fates_between(source, track, second, second + 1)
            sent[second] += fates.sent
            lost[second] += fates.never


def _pairs(times: Sequence[float]) -> list[tuple[float, float]]:
    return [(round(times[at], 3), round(times[at + 1], 3)) for at in range(0, len(times), 2)]


def _gap(track: PlayedTrack, start: float, until: float) -> float | None:
    """The longest gap within a window, milliseconds; None when nothing was shown before its end."""
    plays = track.plays
    gone = track.left_at is not None and track.left_at <= start
    if not plays or plays[0] > until or gone:
        return None
    return track.longest_gap(start, until) * 1000
