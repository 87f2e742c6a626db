#!/bin/sh
# Labels pictures by an exported network. Nothing of this project has to be installed: the first time, ONNX Runtime, NumPy
# and Pillow are put into env-predict/, in less than a minute: 36 MB to download, 141 MB on disk.
#
#   sh scripts/predict.sh --model runs/digits/oneshot/model.onnx PICTURE_OR_FOLDER...
#
# `PYTHON=python3.12 sh scripts/predict.sh --help` chooses the interpreter (3.8 to 3.12). $SPOS_ONNX_PYTHON, if set, is used
# as it is.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=${SPOS_ONNX_PYTHON:-$root/env-predict/bin/python}
if [ -z "${SPOS_ONNX_PYTHON:-}" ] && [ ! -e "$root/env-predict/.ready" ]; then
    "${PYTHON:-python3}" -m venv "$root/env-predict"
    "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-compile --no-deps \
        -c "$root/constraints.txt" onnxruntime numpy pillow >&2 # what else ONNX Runtime names is for its tools
    : >"$root/env-predict/.ready"
fi
exec "$python" "$root/utils/predict_alone.py" "$@"
