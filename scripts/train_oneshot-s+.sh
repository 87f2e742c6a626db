#!/bin/sh
# Trains the published OneShot-S+ (searched; squeeze-and-excite, last convolution after pooling)
# from scratch. Any flag of train_imagenet.py can be given and overrides what stands here.
#
#   sh scripts/train_oneshot-s+.sh                      ImageNet, published recipe: 4 GPUs of 16 GB, 360 epochs.
#                                                       Published: 75.75% top-1.
#   sh scripts/train_oneshot-s+.sh --dataset digits     the digits: minutes on a laptop's CPU
#
# Results: runs/oneshot-s+ (--save-dir). The same command continues a stopped run.
set -eu
exec sh "$(dirname -- "$0")/train_oneshot.sh" --architecture oneshot-s+ --save-dir runs/oneshot-s+ "$@"
