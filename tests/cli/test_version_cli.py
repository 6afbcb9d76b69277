"""``relaymesh --version`` says what runs, and with ``--verbose`` by which kernels."""

import pytest
from click.testing import CliRunner

from relaymesh import __version__, kernels
from relaymesh.cli.main import main


def test_the_version_alone() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert (result.exit_code, result.output) == (0, f"relaymesh, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["--version", "--verbose"], ["--verbose", "--version"]])
def test_the_kernels_too(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    choice = kernels.chosen()
    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == [f"kernels: {choice.name} ({choice.note})"]


def test_no_arguments_get_help_and_no_command_is_an_error() -> None:
    assert "Commands:" in CliRunner().invoke(main, []).output
    result = CliRunner().invoke(main, ["--verbose"])
    assert result.exit_code == 2
    assert "Missing command" in result.output
