#!/bin/sh
# Runs the test suite on the CPU, making env/ first if need be: sh scripts/test.sh [pytest arguments]
# Slow tests: sh scripts/test.sh -m slow. GPU tests: sh scripts/test.sh -m gpu.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
sh scripts/setup.sh --dev
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # several processes with several threads each get in each other's way
exec env/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"
