#!/bin/sh
# Supernets of the space nas-bench-macro on CIFAR-10, and how they order networks that others have trained
# (docs/nas-bench-macro.md).
#
#   sh scripts/study_nas_bench_macro.sh IMAGES TABLE            packed files in IMAGES (train.rec, val.rec; docs/data.md)
#                                                               and the published table, nas_bench_macro_cifar10.json
#   JOBS=8 sh scripts/study_nas_bench_macro.sh IMAGES TABLE     eight processes of one thread at a time, instead of two
#   sh scripts/study_nas_bench_macro.sh IMAGES TABLE collect           one part of it alone
#
# About four hours on two cores. Results: runs/nas-bench-macro; what the tables need is copied to its logs. The same
# command goes on where it was stopped. Tables and figures from there:
#   env/bin/python -m utils.study runs/nas-bench-macro/logs --images runs/nas-bench-macro/images --document ""
set -eu
here=$(dirname -- "$0")
if [ $# -lt 2 ]; then
    echo "error: give the folder of the images and the table; see the head of $0" >&2
    exit 2
fi
images=$1 table=$2 out=runs/nas-bench-macro jobs=${JOBS:-2}
shift 2
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
for file in "$images/train.rec" "$images/val.rec" "$table"; do
    [ -e "$file" ] || { echo "error: $file does not exist; see the head of $0" >&2; exit 2; }
done

# supernet NAME FLAGS...: 8 epochs of 757 batches, unless the flags say otherwise.
supernet() {
    name=$1
    shift
    sh "$here/run.sh" train_imagenet.py --model ShuffleNas --space nas-bench-macro --dataset cifar10 \
        --rec-train "$images/train.rec" --rec-val "$images/val.rec" -j 1 --holdout 1000 --update-bn-images 512 \
        --batch-size 64 --lr 0.1 --lr-mode cosine --wd 3e-4 --no-wd --label-smoothing --num-epochs 8 --warmup-epochs 1 \
        --ema-decay 0.999 --log-interval 710 --val-architectures 8 --keep-checkpoints 16 \
        --save-dir "$out/supernets/$name" "$@"
}

supernets() {
    cat <<EOF
published-0 --seed 0
aligned-0 --seed 0 --initial-values aligned
fair-0 --seed 0 --reduced-dataset-scale 3 --sampling fair
fair-1 --seed 1 --reduced-dataset-scale 3 --sampling fair
published16-0 --seed 0 --num-epochs 16 --holdout 2000
published16-1 --seed 1 --num-epochs 16 --holdout 2000
EOF
}

# ranking JOBS SUPERNETS...: 500 architectures of the table.
ranking() {
    num_jobs=$1
    shift
    sh "$here/run.sh" utils.rank_correlation --supernet "$@" --num-architectures 500 --strata 5 --jobs "$num_jobs" \
        --truth "$table" --truth-format nas-bench-macro --save-dir "$out/ranking"
}

# refit JOBS SUPERNETS...: the same, with a classifier for each path.
refit() {
    num_jobs=$1
    shift
    sh "$here/run.sh" utils.rank_correlation --supernet "$@" --num-architectures 500 --strata 5 --jobs "$num_jobs" \
        --truth "$table" --truth-format nas-bench-macro --refit-classifier 4000 --save-dir "$out/refit"
}

# curve JOBS: 100 of the architectures by one supernet after 1, 2, 4 and all 8 of its epochs.
curve() {
    run=$out/supernets/fair-0
    for epoch in 1 2 4; do
        cp "$run/checkpoints/epoch-$(printf %04d "$epoch")/model.params" "$run/epoch-$epoch.params"
    done
    sh "$here/run.sh" utils.rank_correlation --supernet "$run"/epoch-1.params "$run"/epoch-2.params "$run"/epoch-4.params \
        "$run" --num-architectures 100 --strata 5 --jobs "$1" --truth "$table" \
        --truth-format nas-bench-macro --save-dir "$out/curve"
}

# What tables and figures are made of, without parameters and images.
collect() {
    logs=$out/logs
    mkdir -p "$logs/ranking" "$logs/curve"
    for run in "$out"/supernets/*; do
        mkdir -p "$logs/supernets/${run##*/}"
        cp "$run/config.json" "$run/log.jsonl" "$logs/supernets/${run##*/}"
    done
    cp "$out"/ranking/*.json "$out"/ranking/*.jsonl "$logs/ranking"
    cp "$out/curve/truth.jsonl" "$out/curve/supernets.jsonl" "$logs/curve"
    cat "$out/ranking/supernets.jsonl" "$out/refit/supernets.jsonl" > "$logs/ranking/supernets.jsonl"
}

if [ $# -gt 0 ]; then
    "$@"
    exit
fi

supernets | xargs -L 1 -P "$jobs" sh "$0" "$images" "$table" supernet
ranking "$jobs" "$out"/supernets/*
refit "$jobs" "$out"/supernets/published16-*
curve "$jobs"
collect
sh "$here/run.sh" utils.study "$out/logs" --images "$out/images" --document ""
