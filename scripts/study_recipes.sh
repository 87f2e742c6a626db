#!/bin/sh
# What flags of training are worth where images are few: one network on 5,000 images of CIFAR-10, 50 epochs, three seeds,
# measured on 4,500 held-out ones.
#
#   sh scripts/study_recipes.sh                      packed files in data/cifar10 (train.rec, val.rec; docs/data.md)
#   sh scripts/study_recipes.sh PATH/TO/cifar10      packed files elsewhere
#   JOBS=8 sh scripts/study_recipes.sh               eight processes of one thread at a time, instead of two
#
# Three hours on two cores. Results: runs/recipes. The same command goes on where it was stopped.
set -eu
here=$(dirname -- "$0")
images=${1:-data/cifar10}
out=runs/recipes
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
[ -e "$images/train.rec" ] || { echo "error: $images/train.rec does not exist; see the head of $0" >&2; exit 2; }

# The network that the autopilot found within 20M FLOPs (docs/autopilot.md).
network=logs/autopilot/cifar10-5000/best.json
recipe="--batch-size 64 --lr 0.2 --warmup-epochs 1 --lr-mode cosine --wd 3e-4 --label-smoothing --no-wd --num-epochs 50"
lists="--holdout 4500 --update-bn-images 500"

sh "$here/run.sh" utils.unpack_images "$images/train.rec" "$out/pictures/train" --per-class 1000
sh "$here/run.sh" utils.unpack_images "$images/val.rec" "$out/pictures/val" --per-class 10
# shellcheck disable=SC2086  several flags in one variable
sh "$here/run.sh" utils.compare_recipes --architecture "$network" --seeds 3 --jobs "${JOBS:-2}" --save-dir "$out/study" \
    --variant "ema: --ema-decay 0.998" \
    --variant "erasing: --random-erasing 0.25" \
    --variant "trivial: --auto-augment trivial" \
    --variant "cutmix: --cutmix" \
    --variant "mixup: --mixup" \
    --variant "adamw: --optimizer adamw --lr 0.002 --wd 0.05" \
    --variant "restart: --lr-restarts 1" \
    --variant "sharp-labels: --no-label-smoothing" \
    -- --dataset folder --data-dir "$out/pictures" --input-size 32 --crop-ratio 1 -j 1 \
    $lists $recipe --val-frequency 0 --save-frequency 10 --log-interval 1000
