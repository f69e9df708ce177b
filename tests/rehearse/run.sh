#!/bin/sh
# Rehearses the deployment (rehearse.py) with the engine and the images that are here. Where there is neither engine nor
# a registry of images, as root on Debian, both are made of its packages; the engine that this starts ends with it.
set -eu
cd "$(dirname "$0")/../.."
kept=$(mkdir -p "${REHEARSE_DIR:-.rehearse}" && cd "${REHEARSE_DIR:-.rehearse}" && pwd)
root=$kept/trixie
named() { grep --only-matching --no-filename "$1:[^ ]*" Dockerfile docker-compose.yml docker-compose.s3.yml | head -n 1; }
python=$(named python) postgres=$(named postgres) objects=$(named chrislusf/seaweedfs)
missing() { ! docker image inspect "$1" >/dev/null 2>&1; }

if ! docker info >/dev/null 2>&1; then
    if ! command -v dockerd >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends docker.io iptables tini debootstrap
    fi
    dockerd >"$kept/dockerd.log" 2>&1 &
    trap 'kill $!; wait $!' EXIT
    for _ in $(seq 60); do ! docker info >/dev/null 2>&1 || break; sleep 1; done
fi
# Trixie with its Python, and with this machine's certificates and settings of pip, stands for the image of Python.
if [ ! -d "$root" ] && { missing "$python" || ! docker compose version >/dev/null 2>&1; }; then
    rm -rf "$root.part"
    debootstrap --variant=minbase --include=python3.13,python3.13-venv,ca-certificates trixie "$root.part" \
        >"$kept/trixie.log"
    ln -s /usr/bin/python3.13 "$root.part/usr/local/bin/python"
    cp /etc/ssl/certs/ca-certificates.crt "$root.part/etc/ssl/certs/"
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root.part/etc/"
    mv "$root.part" "$root"
fi
# Debian 12 has no `docker compose`; trixie's runs there.
if ! docker compose version >/dev/null 2>&1; then
    export DOCKER_CONFIG="$kept/docker"
    if [ ! -d "$DOCKER_CONFIG" ]; then
        chroot "$root" sh -c "apt-get update -qq && cd /tmp && apt-get download -qq docker-compose"
        dpkg-deb --extract "$root"/tmp/docker-compose_*.deb "$kept/compose"
        rm -rf "$root"/tmp/docker-compose_*.deb "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/*
        mkdir -p "$DOCKER_CONFIG/cli-plugins"
        mv "$kept/compose/usr/libexec/docker/cli-plugins/docker-compose" "$DOCKER_CONFIG/cli-plugins/"
        rm -r "$kept/compose"
    fi
fi
made() { docker build --build-arg BASE="$python" --target "$1" --tag "$2" --file tests/rehearse/Dockerfile tests/rehearse; }
! missing "$python" || tar --directory "$root" --create . | docker import - "$python"
! missing "$postgres" || made database "$postgres"
! missing "$objects" || made objects "$objects"
python tests/rehearse/rehearse.py
