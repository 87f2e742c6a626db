#!/bin/sh
# Images, a limit and some hours: plans, and then does all of it, to a network as ONNX and a page about it.
#
#   sh scripts/autopilot.sh --data-dir PICTURES --flops-max-m 60 --hours 8
#   sh scripts/autopilot.sh --data-dir digits --params-max-m 0.5 --hours 0.2      the digits inside scikit-learn
#   sh scripts/autopilot.sh --data-dir PICTURES --model-size-max 2MB --hours 1 --plan-only    the plan alone
#
# CPU. Results: runs/autopilot (--save-dir). The same command goes on where it was stopped. docs/autopilot.md has more.
set -eu
here=$(dirname -- "$0")
[ -n "${SPOS_PYTHON:-}" ] || sh "$here/setup.sh" --deploy
exec sh "$here/run.sh" utils.autopilot "$@"
