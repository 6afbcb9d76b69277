#!/bin/sh
# usage: kernels.sh VENV
# Builds the native kernels and installs them into the virtual environment VENV. Without them the references serve.
set -eu
venv=$1

if ! command -v cargo >/dev/null 2>&1; then
    echo "There is no cargo here, so the native kernels cannot be built; RelayMesh runs on the references, only slower." >&2
    echo "Install Rust 1.89 or newer (cargo and rustc) and a C compiler, and say 'make kernels' again." >&2
    exit 1
fi

echo "building the native kernels into $venv (two minutes, the first time)" >&2
"$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps ./native
"$venv/bin/relaymesh" --version --verbose
