"""The native package's own files: one version with this package, wherever it is written."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from relaymesh import __version__
from tests.kernels.both import native, reference

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
PYTHONS = {"multiply", "invert", "invert_matrix"}  # small matrices: not worth a kernel
# What a reference's classes say to each other, and nobody else asks.
INNER = {"encrypt", "decrypt", "admits", "book"}


def test_the_version_is_the_packages_own_everywhere() -> None:
    crate = tomllib.loads((NATIVE / "Cargo.toml").read_text())["package"]
    [locked] = [
        package["version"]
        for package in tomllib.loads((NATIVE / "Cargo.lock").read_text())["package"]
        if package["name"] == crate["name"]
    ]
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["native"]
    assert crate["version"] == locked == __version__
    assert extra == [f"{crate['name']}=={__version__}"]


@pytest.mark.parametrize("kernel", ["aead", "srtp", "gf256", "udp", "fan_out"])
def test_both_kernels_have_what_a_face_gives(kernel: str) -> None:
    face, one, other = import_module(f"relaymesh.kernels.{kernel}"), reference(kernel), native(kernel)
    for name in face.__all__:
        if name in PYTHONS or not callable(getattr(face, name)):
            continue
        assert hasattr(other, name), name
        if not inspect.isclass(getattr(one, name)) or issubclass(getattr(one, name), Exception):
            continue
        missing = {each for each in dir(getattr(one, name)) if not each.startswith("_")}
        missing -= set(dir(getattr(other, name))) | INNER
        assert not missing, f"{kernel}.{name}"


def test_every_kernel_has_its_face_its_reference_and_its_native_module() -> None:
    kernels = ROOT / "relaymesh" / "kernels"
    names = {path.name.removesuffix("_reference.py") for path in kernels.glob("*_reference.py")}
    assert names == {"aead", "srtp", "gf256", "udp", "fan_out"}
    for name in names:
        assert (kernels / f"{name}.py").is_file()
        assert (NATIVE / "src" / f"{name}.rs").is_file()


def test_unsafe_is_never_without_its_reason() -> None:
    """As clippy holds it where there is one."""
    for path in (NATIVE / "src").glob("*.rs"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"\bunsafe\b", line.split("//")[0]):
                before = lines[max(0, number - 4) : number]
                assert any("// SAFETY:" in other for other in before), f"{path.name}:{number + 1}"
