#!/bin/sh
# Trains a searched architecture from scratch. Any flag of train_imagenet.py can be given and overrides what stands
# here: --architecture oneshot-s+ trains a published one instead.
#
#   sh scripts/train_oneshot.sh                       ImageNet, published recipe: 4 GPUs of 16 GB, 360 epochs.
#                                                     Published: 75.75% top-1 for oneshot-s+.
#   sh scripts/train_oneshot.sh --dataset digits      the digits: minutes on a laptop's CPU
#   sh scripts/train_oneshot.sh --control             the same for a random network within the limits of the search,
#                                                     control.json in its run: what the search is worth
#
# Results: runs/oneshot, of a control runs/control (--save-dir). The same command continues a stopped run.
set -eu
here=$(dirname -- "$0")
architecture=best run=oneshot
named=
for word; do
    shift
    case $word in
    --control) architecture=control run=control ;;
    *)
        case $word in --architecture | --architecture=*) named=1 ;; esac
        set -- "$@" "$word"
        ;;
    esac
done
if [ "$run" = control ] && [ -n "$named" ]; then
    echo "error: --control trains the random network of a search; leave out --architecture" >&2
    exit 2
fi
case " $* " in
*" --dataset digits "* | *" --dataset=digits "*)
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # maps of a few pixels: a second thread made it 1.9 times slower
    exec sh "$here/run.sh" train_imagenet.py \
        --model ShuffleNas_fixArch --architecture runs/digits/search/$architecture.json \
        --num-epochs 8 --batch-size 64 --lr 0.1 --warmup-epochs 1 --wd 3e-5 --lr-mode cosine \
        --label-smoothing --no-wd -j 2 \
        --save-dir runs/digits/$run "$@"
    ;;
esac
exec sh "$here/run.sh" train_imagenet.py \
    --model ShuffleNas_fixArch --architecture runs/search/$architecture.json \
    --num-gpus 4 --dtype float16 --batch-size 256 -j 16 \
    --num-epochs 360 --recipe published \
    --save-dir runs/$run "$@"
