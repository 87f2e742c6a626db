#!/bin/sh
# Searches a trained supernet. Any flag of search_supernet.py can be given and overrides what stands here.
#
#   sh scripts/search_supernet.sh                     ImageNet: genetic search, 20 generations of 50, 20,000 images for
#                                                     each BatchNorm update, not more FLOPs than OneShot (328M) and
#                                                     FLOPs / 328M + params / 3.4M of at most 2
#   sh scripts/search_supernet.sh --dataset digits    the digits: minutes on a laptop's CPU
#
# Results: runs/search (--save-dir): best.json, history.jsonl. The same command continues a stopped search.
set -eu
here=$(dirname -- "$0")
case " $* " in
*" --dataset digits "* | *" --dataset=digits "*)
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # maps of a few pixels: a second thread made it 1.9 times slower
    exec sh "$here/run.sh" search_supernet.py \
        --supernet-params runs/digits/supernet/model.params \
        --search-mode genetic --search-iters 8 --population-size 16 --retain-length 5 \
        --flop-max-m 7 --param-max-m 2.6 --batch-size 180 -j 2 \
        --save-dir runs/digits/search "$@"
    ;;
esac
exec sh "$here/run.sh" search_supernet.py \
    --supernet-params runs/supernet/model.params \
    --search-mode genetic --comparison-model SinglePathOneShot --num-gpus 4 --batch-size 128 -j 16 \
    --save-dir runs/search "$@"
