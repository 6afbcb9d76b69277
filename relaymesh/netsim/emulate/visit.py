"""Any command inside a running emulation: a browser in Tokyo, ``curl`` in Paris, ``tcpdump`` at a node.

In: the name of a region, a node or the controller, and a command. Out: this process,
turned into that command, in that place's network namespace. The command keeps the
files, the terminal and the rights of whoever started it; it only sees another network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from relaymesh.netsim.emulate.cleanup import RunState, running
from relaymesh.netsim.emulate.namespaces import enter_for_good
from relaymesh.netsim.emulate.plan import clients_host

NODE_PREFIX = "node:"


class CannotVisit(Exception):
    """There is no such place, or nothing runs; the text is for people."""


def find_run(root: Path) -> RunState:
    """The emulation that runs, the latest one if there are several.

    Raises:
        CannotVisit: none does.
    """
    found = [run for run in running(root) if run.namespaces]
    if not found:
        raise CannotVisit("no emulation is running; start one with 'relaymesh emulate FILE'")
    return found[-1]


def namespace_of(run: RunState, place: str) -> str:
    """The name of the namespace that *place* means: a region's clients before a node of the same name.

    Raises:
        CannotVisit: there is no such place.
    """
    if place.startswith(NODE_PREFIX):
        wanted = [place.removeprefix(NODE_PREFIX)]
    else:
        wanted = [clients_host(place), place]
    for name in wanted:
        if name in run.namespaces:
            return name
    regions = [
        name.removeprefix(clients_host("")) for name in run.namespaces if name.startswith(clients_host(""))
    ]
    nodes = [NODE_PREFIX + name for name in run.urls]
    raise CannotVisit(
        f"no place is called {place!r}; there are: {', '.join([*regions, *nodes, 'controller'])}"
    )


def environment(run: RunState, place: str) -> dict[str, str]:
    """What the command is told of where it is: the place, and where each node serves WHIP and WHEP."""
    urls = {f"RELAYMESH_URL_{_variable(name)}": url for name, url in run.urls.items()}
    return {"RELAYMESH_PLACE": place, **urls}


def _variable(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name).upper()


def visit(run: RunState, place: str, command: Sequence[str]) -> None:
    """Become *command* at *place* of *run*; does not return.

    Raises:
        CannotVisit: the place is not there, or not ours.
        OSError: there is no such command.
    """
    name = namespace_of(run, place)
    try:
        enter_for_good(run.runner.number, run.namespaces[name], user_namespace=run.own_user_namespace)
    except OSError as error:
        raise CannotVisit(f"{place}: cannot enter: {error.strerror}") from None
    os.environ.update(environment(run, place))
    os.execvp(command[0], list(command))
