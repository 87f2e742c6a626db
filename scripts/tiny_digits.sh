#!/bin/sh
# A network for a microcontroller, from supernet to ONNX: in the space spaces/tiny.json, below 5 M FLOPs and 100,000
# params at 96 px, on the digits inside scikit-learn's wheel. What another --space needs is the same.
# CPU; about 15 minutes on one core after `sh scripts/setup.sh --deploy`, most of it the supernet.
# Results: runs/tiny, with deployed.onnx. Run again, it goes on where it was stopped. A log is in logs/tiny-digits.log.
set -eu
here=$(dirname -- "$0")
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # maps of a few pixels
echo "== 1/4 supernet"
sh "$here/run.sh" train_imagenet.py --model ShuffleNas --space tiny --dataset digits \
    --num-epochs 40 --batch-size 32 --lr 0.1 --warmup-epochs 1 --wd 3e-5 --lr-mode cosine \
    --label-smoothing --no-wd --epoch-start-cs 16 --cs-warm-up -j 1 --save-dir runs/tiny/supernet
echo "== 2/4 search"
sh "$here/run.sh" search_supernet.py --dataset digits --supernet-params runs/tiny/supernet/model.params \
    --search-mode genetic --search-iters 4 --population-size 16 --retain-length 5 \
    --flop-max-m 5 --param-max-m 0.1 --batch-size 180 -j 1 --save-dir runs/tiny/search
echo "== 3/4 the best architecture, from scratch"
sh "$here/run.sh" train_imagenet.py --model ShuffleNas_fixArch --architecture runs/tiny/search/best.json --dataset digits \
    --num-epochs 16 --batch-size 32 --lr 0.1 --warmup-epochs 1 --wd 3e-5 --lr-mode cosine \
    --label-smoothing --no-wd -j 1 --save-dir runs/tiny/subnet
echo "== 4/4 ONNX"
sh "$here/run.sh" calculate_flops.py --architecture runs/tiny/search/best.json
sh "$here/run.sh" utils.export_model --params runs/tiny/subnet/model.params --pad-to 1 --output runs/tiny/deployed
sh "$here/run.sh" utils.summarize runs/tiny/supernet runs/tiny/search runs/tiny/subnet
