#!/bin/sh
# Installs the distribution's Chromium for the browser tests where that can be
# done without asking; where it cannot, says so in one line, and those tests skip.
set -u
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
run=""
if [ "$(id -u)" != 0 ]; then run="sudo -n"; fi
if command -v apt-get >/dev/null 2>&1 &&
    { $run apt-get update -qq && DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 &&
    command -v chromium >/dev/null 2>&1; then
    echo "installed chromium for the browser tests"
else
    echo "no Chromium here and none could be installed: the browser tests will be skipped"
fi
