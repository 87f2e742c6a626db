#!/bin/sh
# Makes env/, the Python environment every script here uses.
#
#   sh scripts/setup.sh [cpu|cu101|cu112] [--dev] [--cluster] [--deploy]
#
# cpu    any x86-64 Linux machine (the default; about 0.6 GB)
# cu101  NVIDIA GPUs of compute capability 3.0 to 7.5; CUDA 10.1, cuDNN 7 and NCCL 2 from the system
# cu112  NVIDIA GPUs of compute capability 5.0 to 8.9 (A100, A10, L4); needs the driver only (about 4.5 GB)
#
# --dev      tests and style                --cluster  a search on several machines, by Dask
# --deploy   exported networks, by ONNX
#
# `PYTHON=python3.9 sh scripts/setup.sh` chooses the interpreter (3.8 to 3.12). A second run changes nothing and takes
# no time. Without a flavour, an existing env/ keeps its own.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."

fail() {
    echo "setup.sh: $*" >&2
    exit 1
}

flavour=
groups=
for argument in "$@"; do
    case $argument in
        cpu | cu101 | cu112) flavour=$argument ;;
        --dev | --cluster | --deploy) groups="$groups ${argument#--}" ;;
        *) fail "unknown argument '$argument'; usage: sh scripts/setup.sh [cpu|cu101|cu112] [--dev] [--cluster] [--deploy]" ;;
    esac
done

# The same limits are OLDEST_PYTHON and NEWEST_PYTHON in spos/engine/compat.py.
is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

has_venv() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

# Which installation a Python belongs to: two of the same version may differ.
origin() {
    "$1" -c 'import sys; print(sys.version_info[:2], getattr(sys, "base_prefix", ""))' 2>/dev/null || echo none
}

# The interpreter behind an environment: it must outlive env/, even if env/ is active or is what PYTHON names.
base_of() {
    "$1" -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)'
}

check_chosen_python() {
    "$PYTHON" -c '' >/dev/null 2>&1 || fail "PYTHON=$PYTHON does not run; name a Python 3.8 to 3.12"
    is_supported "$PYTHON" || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1); MXNet 1.9.1 works with Python 3.8 to 3.12"
    has_venv "$PYTHON" || fail "PYTHON=$PYTHON has no venv module (Debian: apt-get install python3-venv)"
}

find_python() {
    without_venv=
    for candidate in python3.11 python3.10 python3.12 python3.9 python3.8 python3 python; do
        is_supported "$candidate" || continue
        if has_venv "$candidate"; then
            echo "$candidate"
            return
        fi
        without_venv=$candidate
    done
    [ -z "$without_venv" ] || fail "$without_venv has no venv module (Debian: apt-get install python3-venv)"
    fail "no Python 3.8 to 3.12 found, which MXNet 1.9.1 needs; install one, or name it: PYTHON=/path/to/python sh scripts/setup.sh"
}

# Whether env/ works and is the one asked for. A half-made one has no pip, or no .flavour.
env_fits() {
    is_supported env/bin/python || return 1
    env/bin/python -c 'import importlib.util as util, sys; sys.exit(util.find_spec("pip") is None)' || return 1
    [ -z "${PYTHON:-}" ] || [ "$(origin env/bin/python)" = "$(origin "$PYTHON")" ] || return 1
    [ "$(cat env/.flavour 2>/dev/null)" = "$flavour" ]
}

make_env() {
    python=${PYTHON:-$(find_python)}
    python=$(base_of "$python")
    if [ "$flavour" != cpu ]; then
        "$python" -m spos.engine.gpu "$flavour" >&2 || fail "$flavour would not work here; nothing was installed"
    fi
    if [ -e env ]; then
        [ -e env/pyvenv.cfg ] || fail "env/ is there but is no Python environment; move it away"
        rm -rf env
    fi
    echo "Making env/ for $flavour with $("$python" --version)"
    "$python" -m venv env || fail "$python -m venv env failed"
    pip_install --upgrade pip
    echo "$flavour" >env/.flavour
}

# Each failing pip says why in its last lines.
pip_install() {
    env/bin/python -m pip install -qq --disable-pip-version-check --no-input -c constraints.txt "$@" ||
        fail "pip could not install $*"
}

# install GROUP FILE...: install the first file unless all files are as they were at the last success.
install() {
    group=$1
    shift
    sum=$(cat constraints.txt "$@" | cksum)
    [ "$(cat "env/.installed-$group" 2>/dev/null)" != "$sum" ] || return 0
    echo "Installing $1"
    rm -f env/.verified
    pip_install -r "$1"
    echo "$sum" >"env/.installed-$group"
}

# `import mxnet` alone fails on every NumPy that Python 3.8 to 3.12 gets: this is done before it, in every Python of env/.
prepare_mxnet() {
    packages=$(env/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp spos/engine/before_mxnet.py "$packages/spos_before_mxnet.py"
    echo 'import spos_before_mxnet' >"$packages/spos_before_mxnet.pth"
}

# Import everything and print the versions; one line instead of a traceback if that fails.
verify() {
    env/bin/python -c '
import sys
try:
    from spos.engine.compat import main
except ImportError as error:
    sys.exit(str(error))
sys.exit(main())'
}

# Kernels for this processor (docs/native.md). Everything works without them.
build_native() {
    if ! said=$(env/bin/python -m utils.build_native 2>&1); then
        echo "There are no native kernels (${said#error: }): MXNet's operators do their work, which takes longer" >&2
    fi
}

[ -z "${PYTHON:-}" ] || check_chosen_python
flavour=${flavour:-$(cat env/.flavour 2>/dev/null || echo cpu)}
requirements=requirements-$flavour.txt
[ "$flavour" != cpu ] || requirements=requirements.txt

env_fits || make_env
install "$flavour" "$requirements" requirements-common.txt requirements-cpu.txt
for group in $groups; do
    install "$group" "requirements-$group.txt"
done

prepare_mxnet
if [ ! -e env/.verified ]; then
    # OpenCV draws windows through libGL, which servers and containers often lack; the build without windows needs none.
    if ! env/bin/python -c 'import cv2' 2>/dev/null; then
        env/bin/python -m pip uninstall -qq -y opencv-python
        pip_install --no-deps --force-reinstall opencv-python-headless
    fi
    verify >env/.verifying || fail "env/ is made, but does not work on this machine (see above)"
    mv env/.verifying env/.verified
fi
build_native
cat env/.verified
