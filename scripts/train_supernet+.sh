#!/bin/sh
# Trains the supernet with channel selection from the first epoch on, without warm-up. Any flag of train_imagenet.py
# can be given and overrides what stands here. Published for it: 33% training top-1 at epoch 70, where the supernet of
# scripts/train_supernet.sh had 44%.
#
#   sh scripts/train_supernet+.sh                     ImageNet, published optimizer: 4 GPUs of 16 GB, 120 epochs
#   sh scripts/train_supernet+.sh --dataset digits    the digits inside scikit-learn: minutes on a laptop's CPU
#
# ImageNet is read from data/imagenet/{train,val}.{rec,idx} (docs/data.md).
# Results: runs/supernet+ (--save-dir). The same command continues a stopped run.
set -eu
here=$(dirname -- "$0")
space="--use-se --last-conv-after-pooling"
case " $* " in
*" --space "* | *" --space="*) space="" ;; # whose file says both
esac
case " $* " in
*" --dataset digits "* | *" --dataset=digits "*)
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # maps of a few pixels: a second thread made it 1.9 times slower
    exec sh "$here/run.sh" train_imagenet.py \
        --model ShuffleNas $space \
        --num-epochs 36 --batch-size 32 --lr 0.1 --warmup-epochs 1 --wd 3e-5 --lr-mode cosine \
        --label-smoothing --no-wd --epoch-start-cs 0 -j 2 \
        --save-dir runs/digits/supernet+ "$@"
    ;;
esac
exec sh "$here/run.sh" train_imagenet.py \
    --model ShuffleNas $space \
    --num-gpus 4 --dtype float16 --batch-size 256 -j 16 \
    --num-epochs 120 --recipe published --epoch-start-cs 0 \
    --save-dir runs/supernet+ "$@"
