#!/bin/sh
# Runs one of the programs, or one of the tools, with the Python of env/.
#
#   sh scripts/run.sh calculate_flops.py --architecture oneshot
#   sh scripts/run.sh utils.report runs/supernet
#
# $SPOS_PYTHON, if set, is used instead.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=${SPOS_PYTHON:-$root/env/bin/python}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "error: $python is not there; run: sh scripts/setup.sh" >&2
    exit 2
fi
if [ $# -eq 0 ]; then
    echo "error: nothing to run; give a program (train_imagenet.py, utils.report, ..) and its flags" >&2
    exit 2
fi
program=$1
shift
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
case $program in
*.py) exec "$python" "$root/$program" "$@" ;;
esac
exec "$python" -m "$program" "$@"
