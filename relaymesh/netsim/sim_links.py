"""All links of a simulated mesh: between nodes, to controllers, to clients.

In: a scenario, a seed, changes of conditions. Out: the link of each pair of hosts, and
what went into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from random import Random

from relaymesh.netsim.conditions import condition_changes, link_conditions
from relaymesh.netsim.direct import RelayLink
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.netsim.net import Link
from relaymesh.netsim.scenario.resolved import Participant, Scenario
from relaymesh.netsim.scenario.strict import CONTROLLER
from relaymesh.netsim.scenario.timeline import SetLink


class SimLinks:
    """The links by the names of their ends; hosts are looked up."""

    def __init__(self, scenario: Scenario, seed: int, names: Mapping[str, str]) -> None:
        """*names*: host → node, or "controller"."""
        self.changes = 0  # rises with each change of a link
        self._scenario = scenario
        self._seed = seed
        self._names = names
        self._folder = scenario.path.parent
        self._clients: dict[str, tuple[str, LinkConditions]] = {}  # client's host → node's host, its access
        self._models: dict[tuple[str, str], LinkModel] = {}
        self._relay_links: dict[tuple[str, str], RelayLink] = {}
        for source in scenario.nodes:
            for target in scenario.nodes:
                given = scenario.conditions(source, target) if source != target else None
                if given is not None:
                    model = self._models[source, target] = self._model(
                        source, target, link_conditions(given, self._folder)
                    )
                    self._relay_links[source, target] = RelayLink(model)

    def _model(self, source: str, target: str, conditions: LinkConditions) -> LinkModel:
        return LinkModel(conditions, Random(f"{self._seed}:{source}:{target}"))

    def find(self, source: str, target: str) -> Link | None:
        """The direction from one host to another, for the network."""
        a, b = self._names.get(source), self._names.get(target)
        if a is not None and b is not None:
            if CONTROLLER in (a, b):
                return self._control_link(a, b)
            return self._relay_links.get((a, b))
        for client, node in ((source, target), (target, source)):
            known = self._clients.get(client)
            if known is not None and known[0] == node:
                model = self._models[source, target] = self._model(source, target, known[1])
                return model
        return None

    def _control_link(self, source: str, target: str) -> LinkModel:
        model = self._models.get((source, target))
        if model is None:
            node = target if source == CONTROLLER else source
            conditions = LinkConditions(delay_ms=self._scenario.controller_delay_ms(node))
            model = self._models[source, target] = self._model(source, target, conditions)
        return model

    def add_client(self, host: str, node_host: str, participant: Participant) -> None:
        """The participant on *host* speaks to the node on *node_host* only."""
        access = link_conditions(self._scenario.access_of(participant), self._folder)
        self._clients[host] = node_host, access

    def set_access(self, host: str, rate_bps: float, now: float) -> None:
        """The access link of the client on *host* has another rate, each direction."""
        node_host, access = self._clients[host]
        self._clients[host] = node_host, replace(access, rate_bps=rate_bps, trace=None)
        for pair in ((host, node_host), (node_host, host)):
            model = self._models.get(pair)
            if model is not None:  # else nothing was sent on it yet
                model.apply(now, rate_bps=rate_bps, trace=None)

    def set(self, action: SetLink, now: float) -> None:
        """Give a directed link other conditions."""
        pair = action.source, action.target
        model = self._control_link(*pair) if CONTROLLER in pair else self._models[pair]
        if CONTROLLER in pair:
            changes = condition_changes(action.conditions, self._folder)
        else:  # whole conditions: what an earlier fault changed and this one does not name is as it was
            whole = link_conditions(action.conditions, self._folder)
            changes = {field.name: getattr(whole, field.name) for field in fields(LinkConditions)}
        model.apply(now, **changes)
        self.changes += 1

    def delay_s(self, source: str, target: str) -> float | None:
        """What the link takes now, one way; None: nothing passes, or there is none."""
        model = self._models.get((source, target))
        return None if model is None or model.conditions.down else model.conditions.delay_ms / 1e3

    def relay_totals(self) -> tuple[int, int, int]:
        """(bytes sent into relay links, media datagrams, of those lost), so far."""
        links = self._relay_links.values()
        return sum(k.bytes for k in links), sum(k.media for k in links), sum(k.lost for k in links)

    def relay_links(self) -> list[tuple[str, str]]:
        """The directed links between nodes."""
        return list(self._relay_links)
