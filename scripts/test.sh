#!/bin/sh
# Runs tests on the CPU, making env/ first if need be. What is given goes to pytest.
#
#   sh scripts/test.sh                      all but those that take minutes or need a GPU
#   sh scripts/test.sh tests/space_tests    those of one room
#   sh scripts/test.sh -m slow              those that take minutes
#   sh scripts/test.sh -m gpu               those that need a GPU
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
sh scripts/setup.sh --dev
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # several processes with several threads each get in each other's way
exec env/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"
