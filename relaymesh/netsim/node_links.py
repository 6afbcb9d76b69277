"""Delays on the links of one real node, for demonstrations on one machine.

``relaymesh node --emulate-links FILE`` puts this between the node and its
relay port. The file is JSON: for each neighbour where its relay port is and
what the link towards it is like (one way, what this node sends)::

    {"links": {"london-1": {"address": "127.0.0.1:7502", "delay_ms": 37.5, "jitter_ms": 0, "loss": 0}}}

While it is in use, ``POST /emulation/links/london-1`` with
``{"down": true}``, ``{"delay_ms": 80}`` or ``{"loss": 0.05}`` changes a link.
"""

from __future__ import annotations

import json
from random import Random

import trio
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from relaymesh.netsim.emulated_port import EmulatedPort
from relaymesh.netsim.link_model import LinkConditions, LinkModel
from relaymesh.node.app import NodePorts
from relaymesh.runtime.settings import parse_endpoint

Address = tuple[str, int]
MAX_BODY_BYTES = 4096


class LinkSpec(BaseModel):
    """One neighbour, as the file names it."""

    model_config = ConfigDict(extra="forbid")

    address: str
    delay_ms: float = Field(ge=0, le=10_000)
    jitter_ms: float = Field(default=0.0, ge=0, le=10_000)
    loss: float = Field(default=0.0, ge=0, le=1)


class LinkChange(BaseModel):
    """What may be changed while it runs; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    down: bool | None = None
    delay_ms: float | None = Field(default=None, ge=0, le=10_000)
    jitter_ms: float | None = Field(default=None, ge=0, le=10_000)
    loss: float | None = Field(default=None, ge=0, le=1)


class LinkFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    seed: int = 0
    links: dict[str, LinkSpec]


def emulate(ports: NodePorts, description: object) -> None:
    """Put the described delays between *ports* and the node that will use them.

    Raises:
        ValueError: the description does not fit (pydantic says where).
    """
    file = LinkFile.model_validate(description)
    models: dict[str, LinkModel] = {}
    by_address: dict[Address, LinkModel] = {}
    for name, spec in file.links.items():
        conditions = LinkConditions(delay_ms=spec.delay_ms, jitter_ms=spec.jitter_ms, loss=spec.loss)
        model = LinkModel(conditions, Random(f"{file.seed}:{name}"))
        models[name] = model
        by_address[parse_endpoint(spec.address)] = model
    port = EmulatedPort(ports.relay, by_address.get)
    ports.relay = port
    ports.tasks.append(port.run)
    ports.routes.append(Route("/emulation/links/{peer}", _changer(models), methods=["POST"]))


def _changer(models: dict[str, LinkModel]):  # type: ignore[no-untyped-def]
    async def change(request: Request) -> Response:
        model = models.get(request.path_params["peer"])
        if model is None:
            return PlainTextResponse(f"no emulated link; there are: {', '.join(models)}\n", 404)
        body = await request.body()
        try:
            wanted = LinkChange.model_validate(json.loads(body[:MAX_BODY_BYTES]))
        except (ValidationError, ValueError) as error:
            return PlainTextResponse(f"{error}\n", 400)
        model.apply(trio.current_time(), **wanted.model_dump(exclude_none=True))
        return JSONResponse(wanted.model_dump(exclude_none=True))

    return change
