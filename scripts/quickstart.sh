#!/bin/sh
# The whole method on real images, from nothing: set-up, supernet, search, training of the best architecture, summary.
# Handwritten digits, full search space, CPU; less than 10 minutes on two cores after the installation.
# Results: runs/digits. Run again, it goes on where it was stopped. To start anew: rm -r runs/digits
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
sh scripts/setup.sh
echo "== 1/3 supernet"
sh scripts/train_supernet.sh --dataset digits
echo "== 2/3 search"
sh scripts/search_supernet.sh --dataset digits
echo "== 3/3 the best architecture, from scratch"
sh scripts/train_oneshot.sh --dataset digits
echo "== summary"
env/bin/python -m utils.summarize runs/digits/supernet runs/digits/search runs/digits/oneshot
