"""The ``relaymesh`` command: one group, its subcommands imported only when they are called.

A node must not pay for (or depend on) what only ``demo`` or ``publish`` needs.
"""

from __future__ import annotations

from importlib import import_module

import click

from relaymesh import __version__
from relaymesh.kernels import chosen

# name → (module, one line for --help); each module exports `command`.
COMMANDS = {
    "controller": (
        "relaymesh.cli.controller",
        "Run the controller: joins nodes, computes and pushes routes.",
    ),
    "node": ("relaymesh.cli.node", "Run a node: serves WHIP and WHEP, relays media to its neighbours."),
    "topology": ("relaymesh.cli.topology", "Check, show and compare topology files; plan, apply."),
    "routes": ("relaymesh.cli.routes", "Show where packets go, and why: routes show, routes explain."),
    "token": ("relaymesh.cli.token", "Make join secrets and join tokens."),
    "publish": ("relaymesh.cli.publish", "Publish a moving picture with a clock, headless, by WHIP."),
    "play": ("relaymesh.cli.play", "Play a stream, headless, by WHEP, and say what arrived."),
    "emulate": ("relaymesh.cli.emulate", "Run scenarios with real processes in network namespaces."),
    "simulate": ("relaymesh.cli.simulate", "Run scenarios in virtual time, over an emulated network."),
    "bench": ("relaymesh.cli.bench", "Measure the relay link, also beside the real SRT, and route planning."),
    "demo": ("relaymesh.cli.demo", "Run a whole mesh on this machine and watch it in a browser."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name before importing any of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, help_line = COMMANDS[cmd_name]
        try:
            command: click.Command = import_module(module).command
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if missing.startswith("relaymesh"):
                raise
            raise click.ClickException(
                f"'relaymesh {cmd_name}' needs the package '{missing}': pip install 'relaymesh[client]'"
            ) from None
        command.short_help = help_line
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The default would import every subcommand to ask for its help line.
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,  # for --version alone
    no_args_is_help=True,
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.option("--verbose", is_flag=True, help="With --version: also which kernels serve, and why.")
@click.pass_context
def main(ctx: click.Context, version: bool, verbose: bool) -> None:
    """RelayMesh: WebRTC rooms across regions over a measured, routed relay mesh.

    Start with `relaymesh demo`, which runs a controller and three regions on
    this machine. `relaymesh COMMAND --help` explains each command.
    """
    if version:
        click.echo(f"relaymesh, version {__version__}")
        if verbose:
            choice = chosen()
            click.echo(f"kernels: {choice.name} ({choice.note})")
        ctx.exit()
    if ctx.invoked_subcommand is None:
        ctx.fail("Missing command.")
