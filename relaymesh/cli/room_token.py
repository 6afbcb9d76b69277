"""``relaymesh token key``, ``public`` and ``create``: keys for rooms, and the tokens of clients."""

from __future__ import annotations

import secrets
import time

import click

from relaymesh.access.grants import ALL_SOURCES, ANY_NAME, SOURCES, Grants, Source
from relaymesh.access.keys import (
    MAX_BYTES,
    SECRET_BYTES,
    KeyRing,
    KeysError,
    make_key,
    make_ring,
    read_ring,
    write_ring,
)
from relaymesh.access.tokens import make_room_token
from relaymesh.cli.duration import Duration
from relaymesh.cli.param_type import ParamType
from relaymesh.protocol.ids import is_name


class KeysFile(ParamType[KeyRing]):
    """The path of a JWK set, ``-`` for standard input → its ring."""

    name = "file"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> KeyRing:
        try:
            with click.open_file(str(value), "rb") as file:
                return read_ring(file.read(MAX_BYTES + 1))
        except OSError as error:
            self.fail(f"{value}: {error.strerror}", param, ctx)
        except KeysError as error:
            self.fail(f"{value}: {error}", param, ctx)


@click.command()
@click.option(
    "--eddsa", is_flag=True, help="A pair, of which nodes need only the public half (token public)."
)
@click.option("--id", "key_id", help="What tokens name the key by. Default: a fresh one.")
@click.option(
    "--beside", type=KeysFile(), metavar="FILE", help="Print the keys of FILE too, after the fresh one."
)
def key(eddsa: bool, key_id: str | None, beside: KeyRing | None) -> None:
    """Print a fresh key for room tokens, as a JWK set.

    Whoever has it can make tokens for every room: keep it in a file that nobody
    else reads. Nodes check tokens with it (relaymesh node --room-keys FILE).

    \b
      (umask 077; relaymesh token key --eddsa > room-keys.json)
      relaymesh token public room-keys.json > room-public.json
    """
    fresh_id = key_id or f"key-{secrets.token_hex(4)}"
    before = () if beside is None else beside.keys
    try:
        fresh = make_key(fresh_id, "EdDSA" if eddsa else "HS256", secrets.token_bytes(SECRET_BYTES))
        click.echo(write_ring(make_ring([fresh, *before])))
    except KeysError as error:
        raise click.ClickException(str(error)) from None


@click.command()
@click.argument("file", type=KeysFile())
@click.option("--id", "key_ids", multiple=True, help="Only this key; may be given again. Default: all.")
def public(file: KeyRing, key_ids: tuple[str, ...]) -> None:
    """Print the keys of FILE with their public halves only, for nodes."""
    try:
        click.echo(write_ring(file.only(key_ids or [key.id for key in file.keys]).public_halves()))
    except KeysError as error:
        raise click.ClickException(str(error)) from None


@click.command()
@click.option(
    "--keys", type=KeysFile(), required=True, help="The JWK set of 'relaymesh token key'; - reads it."
)
@click.option("--id", "key_id", help="The key to sign with. Default: the first that can.")
@click.option("--room", required=True, help="The room it is for.")
@click.option("--name", required=True, help='The participant it is for; "*" for any name.')
@click.option(
    "--publish",
    metavar="SOURCES",
    help=f"What may be published: all, or some of {', '.join(SOURCES)}, with commas between.",
)
@click.option("--subscribe", is_flag=True, help="May play what others publish.")
@click.option("--data", is_flag=True, help="May send data.")
@click.option("--admin", is_flag=True, help="May act upon others in the room.")
@click.option("--join/--no-join", default=True, help="May be in the room; publishing and playing want it.")
@click.option(
    "--ttl",
    type=Duration(),
    default="1h",
    show_default=True,
    help="How long sessions may begin with it (90s, 30m, 24h, 7d); they last longer.",
)
def create(
    keys: KeyRing,
    key_id: str | None,
    room: str,
    name: str,
    publish: str | None,
    subscribe: bool,
    data: bool,
    admin: bool,
    join: bool,
    ttl: float,
) -> None:
    """Print a room token: who may publish and play in a room, for a while.

    What is not said is not granted. Clients bring it as Authorization: Bearer.

    \b
      relaymesh token create --keys room-keys.json --room demo --name alice \\
          --publish camera,microphone --subscribe --ttl 8h
    """
    if not is_name(room):
        raise click.BadParameter(f"{room!r} cannot name a room", param_hint="--room")
    if name != ANY_NAME and not is_name(name):
        raise click.BadParameter(f"{name!r} cannot name a participant", param_hint="--name")
    grants = Grants(
        room=room,
        name=None if name == ANY_NAME else name,
        expires_at=time.time() + ttl,
        join=join,
        publish=_sources(publish),
        subscribe=subscribe,
        data=data,
        admin=admin,
    )
    try:
        click.echo(make_room_token(keys.signing(key_id), grants))
    except KeysError as error:
        raise click.BadParameter(str(error), param_hint="--id" if key_id else "--keys") from None


def _sources(text: str | None) -> frozenset[Source]:
    if text is None:
        return frozenset()
    if text.strip() == "all":
        return ALL_SOURCES
    wanted = {part.strip() for part in text.split(",")}
    unknown = sorted(wanted - ALL_SOURCES)
    if unknown:
        raise click.BadParameter(
            f"{unknown[0]!r} is no source; there are {', '.join(SOURCES)}, and all", param_hint="--publish"
        )
    return frozenset(source for source in SOURCES if source in wanted)
