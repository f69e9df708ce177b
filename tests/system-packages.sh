#!/bin/sh
# Installs what the tests need beyond Python, where it is missing and this is a Debian machine that we administer.
set -eu
missing=""
command -v chromium >/dev/null || missing="chromium fonts-noto-core"
[ -d /usr/share/datasets/fashion-mnist ] || missing="$missing dataset-fashion-mnist"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "These packages are missing, tests that need them will be skipped: $missing"
    exit 0
fi
apt-get update -qq
# shellcheck disable=SC2086  # a list of packages
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
