#!/bin/sh
# Trains the supernet. Any flag of train_imagenet.py can be given and overrides what stands here.
#
#   sh scripts/train_supernet.sh                      ImageNet, published recipe: 4 GPUs of 16 GB, 120 epochs,
#                                                     channel selection from epoch 60 with warm-up. Published: about
#                                                     62.9% top-1 of sampled architectures.
#   sh scripts/train_supernet.sh --dataset digits     the digits inside scikit-learn: minutes on a laptop's CPU
#
# ImageNet is read from data/imagenet/{train,val}.{rec,idx} (docs/data.md).
# Results: runs/supernet (--save-dir). The same command continues a stopped run.
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
        --num-epochs 60 --batch-size 32 --lr 0.1 --warmup-epochs 1 --wd 3e-5 --lr-mode cosine \
        --label-smoothing --no-wd --initial-values aligned --epoch-start-cs 12 --cs-warm-up -j 2 \
        --save-dir runs/digits/supernet "$@"
    ;;
esac
exec sh "$here/run.sh" train_imagenet.py \
    --model ShuffleNas $space \
    --num-gpus 4 --dtype float16 --batch-size 256 -j 16 \
    --num-epochs 120 --recipe published --epoch-start-cs 60 --cs-warm-up \
    --save-dir runs/supernet "$@"
