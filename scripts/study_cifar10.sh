#!/bin/sh
# The study of docs/study.md, whole: supernets, rank correlation, searches, searched against random networks, on CIFAR-10.
#
#   sh scripts/study_cifar10.sh                      packed files in data/cifar10 (train.rec, val.rec; docs/data.md)
#   sh scripts/study_cifar10.sh PATH/TO/cifar10      packed files elsewhere
#   JOBS=8 sh scripts/study_cifar10.sh               eight processes of one thread at a time, instead of two
#   sh scripts/study_cifar10.sh PATH/TO/cifar10 search 0    one part of it alone, by the name and arguments of its function
#
# About four hours on two cores, most of them for the networks that are trained alone. Results: runs/study; what the
# figures need is copied to runs/study/logs, laid out like logs/study-cifar10. The same command goes on where it was
# stopped. Figures and tables of docs/study.md from there:
#   env/bin/python -m utils.study runs/study/logs --images runs/study/images
set -eu
here=$(dirname -- "$0")
images=${1:-data/cifar10}
out=runs/study
jobs=${JOBS:-2}
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
for file in train.rec val.rec; do
    [ -e "$images/$file" ] || { echo "error: $images/$file does not exist; see the head of $0" >&2; exit 2; }
done

data="IMAGES --strides 2,1,2,2,2 -j 1"
lists="--holdout 2500 --update-bn-images 2000"
recipe="--batch-size 64 --lr 0.2 --lr-mode cosine --wd 3e-5 --label-smoothing --no-wd --log-interval 1000"
alone="$data $recipe --num-epochs 16 --warmup-epochs 1 --reduced-dataset-scale 8 --save-frequency 8"

# run PROGRAM FLAGS...: with those of the images in the place of the word IMAGES, for a path may hold blanks.
run() {
    for word; do
        shift
        case $word in
        IMAGES) set -- "$@" --dataset cifar10 --rec-train "$images/train.rec" --rec-val "$images/val.rec" ;;
        *) set -- "$@" "$word" ;;
        esac
    done
    sh "$here/run.sh" "$@"
}

# supernet NAME FLAGS...: 60 epochs of 85 batches, or of a quarter of them where a step has four passes.
supernet() {
    name=$1
    shift
    # shellcheck disable=SC2086  several flags in one variable
    run train_imagenet.py --model ShuffleNas --channels-layout Small --use-se --last-conv-after-pooling \
        $data $lists $recipe --num-epochs 60 --warmup-epochs 2 --val-architectures 8 --save-frequency 5 \
        --save-dir "$out/supernets/$name" "$@"
}

warm_up="--reduced-dataset-scale 8 --epoch-start-cs 20 --cs-warm-up"
supernets() {
    cat <<EOF
warm-up-0 --seed 0 $warm_up
uniform-0 --seed 0 --reduced-dataset-scale 8
warm-up-1 --seed 1 $warm_up
aligned-0 --seed 0 --initial-values aligned $warm_up
warm-up-2 --seed 2 $warm_up
aligned-1 --seed 1 --initial-values aligned $warm_up
uniform-1 --seed 1 --reduced-dataset-scale 8
fair-0 --seed 0 --reduced-dataset-scale 32 --sampling fair
fair-1 --seed 1 --reduced-dataset-scale 32 --sampling fair
sandwich-0 --seed 0 --reduced-dataset-scale 32 --sampling sandwich
EOF
}

# search N: in the supernet warm-up-N, with seed N, at most the median FLOPs of the space.
search() {
    search_to "$out/search-$1" "$1"
}

# search_to FOLDER N FLAGS...
search_to() {
    folder=$1 number=$2
    shift 2
    # shellcheck disable=SC2086
    run search_supernet.py --supernet-params "$out/supernets/warm-up-$number/model.params" $data $lists --batch-size 250 \
        --search-iters 12 --population-size 30 --retain-length 8 --flop-max-m 3.1 --seed "$number" --save-dir "$folder" "$@"
}

# finals N: four finalists of the search N, in a copy of it.
finals() {
    if [ ! -d "$out/finals-$1" ]; then
        cp -R "$out/search-$1" "$out/finals-$1.new"
        mv "$out/finals-$1.new" "$out/finals-$1"
    fi
    search_to "$out/finals-$1" "$1" --finalists 4
}

# finals_judged JOBS: who was left, whom the search had put first, and the first trained longer: twelve whole epochs of each,
# and eight more, three seeds. An hour and a half, which is not a part of the study.
finals_judged() {
    # shellcheck disable=SC2086
    run utils.compare_finals "$out/finals-0" "$out/finals-1" "$out/finals-2" --seeds 3 --jobs "$1" \
        --save-dir "$out/finals-judged" -- $data $recipe --num-epochs 12 --warmup-epochs 1 --save-frequency 2
}

# Genetic, SPOS and random search in the supernet warm-up-0 within the limit of search 0, whose scores are used.
strategies() {
    run utils.compare_search --supernet "$out/search-0" --evaluations 60 --seeds 5 --population-size 15 \
        --retain-length 4 --json >"$out/strategies.json.new"
    mv "$out/strategies.json.new" "$out/strategies.json"
}

# ranking JOBS SUPERNETS...: 60 architectures trained alone, with three seeds each, beside the supernets; without any,
# the trainings only.
ranking() {
    num_jobs=$1
    shift
    if [ $# -gt 0 ]; then
        set -- --supernet "$@"
    else
        set -- --channels-layout Small --use-se --last-conv-after-pooling
    fi
    # shellcheck disable=SC2086
    run utils.rank_correlation "$@" --num-architectures 60 --strata 5 --seeds 3 --jobs "$num_jobs" \
        --save-dir "$out/ranking" -- $alone
}

# searched JOBS: the three searched architectures and ten random ones of the same FLOPs, three seeds each.
searched() {
    # shellcheck disable=SC2086
    run utils.searched_against_random --num-random 10 --seeds 3 --jobs "$1" --save-dir "$out/searched" \
        --architecture "$out/search-0/best.json" "$out/search-1/best.json" "$out/search-2/best.json" -- $alone
}

# The BatchNorm update of the supernet warm-up-0, on the architectures of the ranking.
bn_update() {
    run utils.bn_update_effect --supernet "$out/supernets/warm-up-0" --like "$out/ranking/alone.jsonl" \
        --counts 0,16,64,256,1000,2000
}

# What figures and tables are made of, without parameters and images.
collect() {
    logs=$out/logs
    mkdir -p "$logs/ranking" "$logs/searched"
    for run in "$out"/supernets/*; do
        mkdir -p "$logs/supernets/${run##*/}"
        cp "$run/config.json" "$run/log.jsonl" "$logs/supernets/${run##*/}"
    done
    for run in "$out"/search-*; do
        mkdir -p "$logs/${run##*/}"
        cp "$run/config.json" "$run/log.jsonl" "$run/history.jsonl" "$run/best.json" "$logs/${run##*/}"
    done
    for run in "$out"/finals-[0-9]; do
        [ -d "$run" ] || continue
        mkdir -p "$logs/${run##*/}"
        cp "$run/config.json" "$run/finals.jsonl" "$run/history.jsonl" "$run/best.json" "$logs/${run##*/}"
    done
    cp "$out/supernets/warm-up-0/bn_update.jsonl" "$out/strategies.json" "$logs"
    for run in ranking searched; do
        cp "$out/$run"/*.json "$out/$run"/*.jsonl "$logs/$run"
    done
}

if [ $# -gt 1 ]; then
    shift
    "$@"
    exit
fi

supernets | xargs -L 1 -P "$jobs" sh "$0" "$images" supernet
ranking "$jobs" "$out"/supernets/*
printf '%s\n' 0 1 2 | xargs -L 1 -P "$jobs" sh "$0" "$images" search
searched "$jobs"
strategies
bn_update
collect
run utils.study "$out/logs" --images "$out/images" --document ""
