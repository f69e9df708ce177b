#!/bin/sh
# Asks the Python Packaging Advisory Database for known faults of the releases in constraints.txt. It needs the network;
# where that database cannot be asked, or does not know a release, it says so and ends with status 2: nothing was judged.
# Status 1: there are faults.
set -eu
cd "$(dirname "$0")/.."
[ -x .audit/bin/pip-audit ] || { "${PYTHON:-python3}" -m venv .audit && .audit/bin/pip install --quiet pip-audit; }
told=$(mktemp)
trap 'rm -f "$told"' EXIT
status=0
.audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off >"$told" 2>&1 ||
    status=$?
cat "$told"
unknown=$(grep -c "could not be audited" "$told" || true)
if [ "$unknown" -gt 0 ] || { [ "$status" -ne 0 ] && ! grep -q "known vulnerabilit" "$told"; }; then
    echo "NOT AUDITED: of $unknown releases nothing is known, or the database was not reached. Try where there is a network."
    exit 2
fi
exit "$status"
