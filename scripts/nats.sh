#!/bin/sh
# usage: nats.sh VENV
# Puts the distribution's nats-server into VENV for the tests that want one, without
# root and without starting a service; where it cannot, says so in one line, and those tests skip.
set -u
venv=$1
if command -v nats-server >/dev/null 2>&1 || [ -x "$venv/nats/usr/sbin/nats-server" ]; then exit 0; fi
fetch() { # the package's files only: installing it would start a server on port 4222
    rm -rf "$venv/nats" && mkdir -p "$venv/nats" && cd "$venv/nats" &&
        apt-get download -qq nats-server && dpkg-deb -x nats-server_*.deb . && rm -f nats-server_*.deb
}
run=""
if [ "$(id -u)" != 0 ]; then run="sudo -n"; fi
if command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 &&
    { (fetch) || { $run apt-get update -qq && (fetch); }; } >/dev/null 2>&1 &&
    "$venv/nats/usr/sbin/nats-server" --version >/dev/null 2>&1; then
    echo "fetched nats-server for the tests of several controllers"
else
    rm -rf "$venv/nats"
    echo "no nats-server here and none could be fetched: the tests that need one will be skipped"
fi
