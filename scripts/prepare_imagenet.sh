#!/bin/sh
# Packs the raw images of ImageNet into data/imagenet/{train,val}.{rec,idx}, where the other scripts look for them.
#
#   sh scripts/prepare_imagenet.sh PATH/TO/imagenet                 shorter side 256, JPEG quality 95
#   sh scripts/prepare_imagenet.sh PATH/TO/imagenet --resize 0      the files as they are
#   sh scripts/prepare_imagenet.sh PATH/TO/imagenet OTHER/FOLDER    into OTHER/FOLDER (train with --data-dir OTHER/FOLDER)
#
# PATH/TO/imagenet holds train/ and val/, each with one sub-folder per class (n01440764 ..). The class is the position
# of the name among all 1000, also if folders are missing or empty. The 50,000 validation images come as one flat
# folder and must be sorted into class folders first, by the ground truth file that comes with them.
#
# Expect 1,281,167 and 50,000 images, about 50 GB (140 GB as they are), and an hour on 16 cores. Files that are no
# pictures are named. Nothing appears in data/imagenet before all of it is whole; a stopped run is started anew.
set -eu
here=$(dirname -- "$0")
[ $# -gt 0 ] || { echo "usage: sh scripts/prepare_imagenet.sh PATH/TO/imagenet [flags of utils.pack_images]" >&2; exit 2; }
source=$1
shift
target=data/imagenet
case ${1:--} in
-*) ;;
*) target=$1 && shift ;;
esac
exec sh "$here/run.sh" utils.pack_images --imagenet "$source" "$target" "$@"
