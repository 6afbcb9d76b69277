"""``relaymesh token``: join tokens of nodes with the secret that signs them; room tokens and their keys."""

from __future__ import annotations

import time
from pathlib import Path

import click

from relaymesh.cli import room_token
from relaymesh.cli.duration import Duration
from relaymesh.controller.tokens import ANY_NAME, SecretTooShort, make_join_token, new_join_secret
from relaymesh.protocol.ids import is_name


@click.group(name="token")
def command() -> None:
    """Make tokens: for nodes that join the mesh, and for clients that come to rooms.

    The controller holds the join secret; each node brings a token signed with it.

    \b
      relaymesh token secret > join.secret
      relaymesh token join --name fra-1 --region fra --ttl 24h --secret-file join.secret

    Nodes hold room keys; each client brings a token signed with one of them.

    \b
      relaymesh token key > room-keys.json
      relaymesh token create --keys room-keys.json --room demo --name alice --publish all
    """


for _command in (room_token.key, room_token.public, room_token.create):
    command.add_command(_command)


@command.command()
def secret() -> None:
    """Print a fresh join secret."""
    click.echo(new_join_secret())


@command.command()
@click.option("--name", default=ANY_NAME, show_default=True, help='The node it lets in; "*" for any name.')
@click.option("--region", default=None, help="The only region the node may say it is in. Default: any.")
@click.option(
    "--ttl",
    type=Duration(),
    default=None,
    help="How long new joins are accepted (90s, 30m, 24h, 7d). Default: for ever.",
)
@click.option(
    "--secret",
    "secret_text",
    envvar="RELAYMESH_JOIN_SECRET",
    show_envvar=True,
    help="The join secret. Other users of this machine can read flags: prefer the variable or the file.",
)
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that holds the join secret.",
)
def join(
    name: str, region: str | None, ttl: float | None, secret_text: str | None, secret_file: Path | None
) -> None:
    """Print a join token for a node."""
    if name != ANY_NAME and not is_name(name):
        raise click.BadParameter(f"{name!r} cannot name a node", param_hint="--name")
    if region is not None and not is_name(region):
        raise click.BadParameter(f"{region!r} cannot name a region", param_hint="--region")
    if secret_file is not None:
        try:
            secret_text = secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{secret_file}: {error}", param_hint="--secret-file") from None
    if not secret_text:
        raise click.UsageError("give the join secret by RELAYMESH_JOIN_SECRET, --secret-file or --secret")
    expires_at = None if ttl is None else time.time() + ttl
    try:
        click.echo(make_join_token(secret_text, name=name, region=region, expires_at=expires_at))
    except SecretTooShort as error:
        raise click.ClickException(str(error)) from None
