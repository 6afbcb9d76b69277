"""The option of headless participants that brings a room token."""

from __future__ import annotations

import click

token_option = click.option(
    "--token",
    envvar="RELAYMESH_ROOM_TOKEN",
    show_envvar=True,
    help="The room token, where the node wants one (relaymesh token create). Other users of this machine can "
    "read flags: prefer the variable.",
)
