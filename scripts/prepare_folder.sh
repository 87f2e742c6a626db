#!/bin/sh
# Packs any images that lie in one folder per class into TARGET/{train,val}.{rec,idx}, with TARGET/classes.txt.
#
#   sh scripts/prepare_folder.sh PATH/TO/pictures data/pictures                        PATH/TO/pictures/train and val,
#                                                                                      with the same class folders
#   sh scripts/prepare_folder.sh PATH/TO/pictures data/pictures --val-fraction 0.2     PATH/TO/pictures/CLASS: a fifth
#                                                                                      of each class becomes val
#
# Then:
#   sh scripts/train_supernet.sh --dataset record --data-dir data/pictures --save-dir runs/pictures
#
# Class numbers are the positions of the sorted folder names, empty folders included. The shorter side becomes 256
# (--resize 64 for small images, --resize 0 for the files as they are). Files that are no pictures are named. Nothing
# appears in TARGET before all of it is whole. About 200 images a second and core.
set -eu
here=$(dirname -- "$0")
[ $# -gt 1 ] || { echo "usage: sh scripts/prepare_folder.sh SOURCE TARGET [flags of utils.pack_images]" >&2; exit 2; }
exec sh "$here/run.sh" utils.pack_images "$@"
