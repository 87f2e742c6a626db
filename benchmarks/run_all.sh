#!/bin/sh
# Runs the benchmarks of all stages and writes their table into benchmarks/README.md.
#
#   sh benchmarks/run_all.sh [--quick] [FILE]
#
# FILE     the results, a line of JSON for each (logs/benchmarks/results.jsonl by default); lines are appended
# --quick  small images and few rounds, to see that everything runs: the table is printed, README.md stays as it is
#
# $SPOS_PYTHON is used instead of env/'s Python, if it is set. $SPOS_TORCH_PYTHON is a Python with PyTorch, in an
# environment of its own; without it that column is empty. Each row has its number of threads, 2 or 1; with --quick
# OMP_NUM_THREADS is the number of physical cores unless set. An hour on two cores that do nothing else; other programs
# make the times worthless.
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

with_threads() (
    OMP_NUM_THREADS=$1
    export OMP_NUM_THREADS
    shift
    "$@"
)

if [ -n "$quick" ]; then
    small="--input-size 32 --batch-size 4 --classes 10 --rounds 1 --warm-up 1"
    beside_torch supernet_step $small
    beside_torch supernet_step $small --space nas-bench-macro
    beside_torch supernet_step $small --space mobilenet --input-size 64
    beside_torch subnet_step $small
    beside_torch bn_update $small --batches 1
    beside_torch scoring $small
    beside_torch inference --architecture oneshot-s+ --input-size 32 --batch-sizes 2 --rounds 1
    with_threads 1 run end_to_end --quick
    run flops_count --input-size 32 --rounds 1
    run constrained_sampling --rounds 1 --tries 200000
    run input_pipeline --runs 1 --repeat 1 --input-size 96
    sh "$root/scripts/run.sh" benchmarks.table "$results"
else
    rounds="--rounds 7"
    small="--input-size 32 --batch-size 64 $rounds"
    with_threads 2 beside_torch supernet_step $rounds
    with_threads 2 beside_torch subnet_step $rounds
    for threads in 2 1; do
        with_threads "$threads" beside_torch supernet_step $small
        with_threads "$threads" beside_torch subnet_step $small
    done
    with_threads 2 beside_torch supernet_step --space nas-bench-macro $small
    with_threads 2 beside_torch supernet_step --space mobilenet $rounds
    for images in "--input-size 224 $rounds" "$small"; do
        with_threads 2 beside_torch bn_update --batches 4 $images
        with_threads 2 beside_torch scoring $images
    done
    for form in mxnet onnx; do # two runtimes in one process take threads and memory from each other
        with_threads 2 beside_torch inference --architecture oneshot-s+ --batch-sizes 16 --formats "$form"
    done
    with_threads 1 run end_to_end # maps of a few pixels: the scripts of the digits take one thread
    with_threads 2 run candidate --candidates 4
    with_threads 2 run flops_count
    with_threads 2 run constrained_sampling --rounds 5
    with_threads 2 run input_pipeline
    with_threads 2 run width_multiple
    sh "$root/scripts/run.sh" benchmarks.table "$results" --write "$root/benchmarks/README.md"
fi
