#!/bin/sh
# Of `weed` what docker-compose.s3.yml asks for: an S3 server on port 8333 with the bucket, and whether it is there.
set -eu
if [ "$1" = server ]; then
    mkdir -p /data/tamis
    NANIO_ACCESS_KEY=tamis
    NANIO_SECRET_KEY=$(sed -n 's/.*"secretKey": "\([^"]*\)".*/\1/p' /tmp/s3.json)
    export NANIO_ACCESS_KEY NANIO_SECRET_KEY
    exec /opt/objects/bin/nanio serve --data-dir /data --port 8333 --no-access-log
fi
python -c 'import socket; socket.create_connection(("objects", 8333), timeout=5)' && echo tamis
