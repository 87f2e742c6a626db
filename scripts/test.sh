#!/bin/sh
# Runs the test suite on the CPU, making env/ first if need be: sh scripts/test.sh [pytest arguments]
# Slow tests: sh scripts/test.sh -m slow. GPU tests: sh scripts/test.sh -m gpu.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
sh scripts/setup.sh --dev
exec env/bin/python -m pytest "$@"
