#!/bin/sh
# The whole method on real images, from nothing: set-up, supernet, search, training of the best architecture and of a
# random one within the same limits, summary, and a page about all of it: runs/digits/report.html.
# Handwritten digits, full search space, CPU; less than 5 minutes on two cores after the installation.
# Results: runs/digits. Run again, it goes on where it was stopped. To start anew, remove runs/digits.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
sh scripts/setup.sh
echo "== 1/4 supernet"
sh scripts/train_supernet.sh --dataset digits
echo "== 2/4 search"
sh scripts/search_supernet.sh --dataset digits
echo "== 3/4 the best architecture, from scratch"
sh scripts/train_oneshot.sh --dataset digits
echo "== 4/4 a random architecture within the same limits, from scratch"
sh scripts/train_oneshot.sh --dataset digits --control
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # maps of a few pixels
echo "== effect of the BatchNorm update"
env/bin/python -m utils.bn_update_effect --supernet runs/digits/supernet --architectures 6
echo "== summary"
env/bin/python -m utils.summarize runs/digits/supernet runs/digits/search runs/digits/oneshot runs/digits/control
env/bin/python -m utils.report runs/digits/supernet runs/digits/search runs/digits/oneshot runs/digits/control --output runs/digits/report.html
