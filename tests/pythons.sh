#!/bin/sh
# Runs the suite on every supported Python, on each with other releases of the dependencies: the lowest that
# pyproject.toml allows, those of constraints.txt, and the newest. Arguments go to pytest.
#
# PYTHONS: those to run on, all if it is not set. PYTHONS_DIR: where their environments are kept, of 6 GB each.
# A Python that is not on PATH is skipped, but for 3.13, which is taken from Debian trixie where we are root and have
# debootstrap.
set -eu
cd "$(dirname "$0")/.."
kept=$(mkdir -p "${PYTHONS_DIR:-.pythons}" && cd "${PYTHONS_DIR:-.pythons}" && pwd)
root=$kept/trixie
# Nothing else but this Python is to be tried by the suite on one.
export TAMIS_TEST_PYTHONS=

here() { "$@"; }

# With the /usr of trixie in place of this machine's, for this command alone; files, network and pip's settings stay.
in_trixie() { unshare --mount sh -c 'mount --bind "$0/usr" /usr && exec "$@"' "$root" "$@"; }

have_trixie() {
    [ ! -d "$root" ] || return 0
    [ "$(id -u)" -eq 0 ] && [ -L /lib ] && command -v debootstrap >/dev/null || return 1
    rm -rf "$root.part"
    debootstrap --variant=minbase --include=python3.13,python3.13-venv,ca-certificates,git,make trixie "$root.part" \
        >"$kept/trixie.log"
    mv "$root.part" "$root"
}

failed="" ran="" skipped=""
for version in ${PYTHONS:-3.11 3.12 3.13}; do
    within=here python=python$version
    # An executable of that name may be there that only says there is no such Python.
    if ! "$python" -c pass 2>/dev/null; then
        if [ "$version" != 3.13 ] || ! have_trixie; then
            skipped="$skipped $version"
            continue
        fi
        within=in_trixie python=/usr/bin/python3.13
    fi
    case $version in
        3.11) releases=lowest options="--constraint $kept/lowest.txt" ;;
        3.12) releases=pinned options="--constraint constraints.txt" ;;
        *) releases=newest options="--upgrade --upgrade-strategy eager" ;;
    esac
    environment=$kept/$version-$releases
    [ -x "$environment/bin/pip" ] || $within "$python" -m venv "$environment"
    "$within" "$environment/bin/python" tests/lowest.py >"$kept/lowest.txt"
    # shellcheck disable=SC2086  # options are several words
    $within "$environment/bin/pip" install --quiet $options --editable '.[dev]'
    echo "Python $version, $releases releases:"
    $within "$environment/bin/python" -m pytest -p no:cacheprovider "$@" || failed="$failed $version-$releases"
    ran="$ran $version-$releases"
done
echo "Ran on:${ran:- none}. Failed:${failed:- none}. Skipped, for there is none here:${skipped:- none}."
[ -n "$ran" ] && [ -z "$failed" ]
