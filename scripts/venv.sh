#!/bin/sh
# usage: venv.sh PYTHON VENV EXTRA
# Makes the virtual environment VENV and installs this project into it with EXTRA.
set -eu
python=$1
venv=$2
extra=$3

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "RelayMesh needs Python 3.11 or newer; '$python' is not. Say which: make PYTHON=/path/to/python3" >&2
    exit 1
fi

if ! [ -x "$venv/bin/pip" ]; then
    rm -rf "$venv"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        # Debian and Ubuntu keep the venv module's pip in a package of its own.
        rm -rf "$venv"
        run=""
        if [ "$(id -u)" != 0 ]; then run="sudo -n"; fi
        echo "installing python3-venv, which '$python -m venv' needs" >&2
        if ! { $run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq python3-venv; } >/dev/null 2>&1 ||
            ! "$python" -m venv "$venv"; then
            echo "could not make a virtual environment; install python3-venv and try again" >&2
            exit 1
        fi
    fi
fi

echo "installing RelayMesh [$extra] into $venv (a minute, the first time)" >&2
"$venv/bin/pip" install --quiet --disable-pip-version-check -e ".[$extra]"
touch "$venv/$extra.stamp"
