#!/bin/sh
# Runs the benchmarks of all stages and writes their table into benchmarks/README.md.
#
#   sh benchmarks/run_all.sh [--quick] [FILE]
#
# FILE     the results, a line of JSON for each (logs/benchmarks/results.jsonl by default); lines are appended
# --quick  small images and few rounds, to see that everything runs: the table is printed, README.md stays as it is
#
# $SPOS_PYTHON is used instead of env/'s Python, if it is set. $SPOS_TORCH_PYTHON is a Python with PyTorch, in an
# environment of its own; without it that column is empty. OMP_NUM_THREADS is the number of physical cores unless set.
# About an hour on two cores that do nothing else; other programs make the times worthless.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
quick=
results=
for argument in "$@"; do
    case $argument in
        --quick) quick=1 ;;
        -*) echo "error: unknown argument '$argument'; usage: sh benchmarks/run_all.sh [--quick] [FILE]" >&2 && exit 2 ;;
        *) results=$argument ;;
    esac
done
case $results in
    '') results=$root/logs/benchmarks/results.jsonl ;;
    /*) ;;
    *) results=$PWD/$results ;;
esac
mkdir -p "$(dirname -- "$results")"

run() {
    program=$1
    shift
    echo "== $program $*"
    sh "$root/scripts/run.sh" "benchmarks.$program" "$@" --out "$results"
}

beside_torch() {
    if [ -n "${SPOS_TORCH_PYTHON:-}" ]; then
        run "$@" --torch-python "$SPOS_TORCH_PYTHON"
    else
        run "$@"
    fi
}

if [ -n "$quick" ]; then
    small="--input-size 32 --batch-size 4 --classes 10 --rounds 1 --warm-up 1"
    beside_torch supernet_step $small
    beside_torch subnet_step $small
    beside_torch bn_update $small --batches 1
    beside_torch inference --architecture oneshot-s+ --input-size 32 --batch-sizes 2 --rounds 1
    run flops_count --input-size 32 --rounds 1
    run constrained_sampling --rounds 1 --tries 200000
    run input_pipeline --runs 1 --repeat 1 --input-size 96
    sh "$root/scripts/run.sh" benchmarks.table "$results"
else
    beside_torch supernet_step
    beside_torch subnet_step
    beside_torch bn_update
    for form in mxnet onnx; do # two runtimes in one process take threads and memory from each other
        beside_torch inference --architecture oneshot-s+ --batch-sizes 16 --formats "$form"
    done
    run candidate
    run flops_count
    run constrained_sampling
    run input_pipeline
    run width_multiple
    sh "$root/scripts/run.sh" benchmarks.table "$results" --write "$root/benchmarks/README.md"
fi
