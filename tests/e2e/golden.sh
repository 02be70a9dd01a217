#!/bin/sh
# The models of the repository against the results that the reference implementations gave for them.
cd "$(dirname "$0")/../.."
exec python3 tests/oracle/models.py --muster "${MUSTER:-build/muster}" --oracle tests/golden --cache /nonexistent
