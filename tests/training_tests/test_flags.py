"""Flags of the trainer that cannot work together are refused before anything starts, each by its name."""

import re

import pytest

import train_imagenet
from spos.core.errors import InputError
from spos.core.flags import OneLineParser
from spos.runs.run import SUBNET
from spos.training.flags import TrainingFlags

FIXED = f"--model {SUBNET} --architecture oneshot"


def check(line):
    return TrainingFlags.parse(OneLineParser("", tuple(TrainingFlags.groups().values())), line.split())


REFUSED = {
    f"--model {SUBNET}": ["--architecture"],
    "--architecture oneshot": ["--architecture", "all architectures"],
    "--use-gn": ["--use-gn", "zoo"],
    "--last-gamma": ["--last-gamma", "zoo"],
    f"{FIXED} --use-pretrained": ["--use-pretrained", "zoo"],
    f"{FIXED} --batch-norm": ["--batch-norm"],
    f"{FIXED} --use-all-blocks": ["--use-all-blocks", "supernet"],
    f"{FIXED} --val-on holdout": ["--val-on holdout", "--train-on train"],
    f"{FIXED} --val-on holdout --train-on train_full": ["--val-on holdout", "--train-on train"],
    "--val-on val": ["--val-on", "supernet"],
    f"{FIXED} --cs-warm-up": ["--cs-warm-up", "supernet"],
    f"{FIXED} --epoch-start-cs 3": ["--epoch-start-cs", "supernet"],
    f"{FIXED} --sampling fair": ["--sampling", "supernet"],
    "--model resnet18_v1 --architecture oneshot": ["--architecture", "resnet18_v1"],
    "--model resnet18_v1 --channels-layout ShuffleNetV2+": ["--channels-layout", "resnet18_v1"],
    "--model resnet18_v1 --space tiny": ["--space is for", "resnet18_v1"],
    "--model resnet18_v1 --blocks x.py": ["--blocks is for", "resnet18_v1"],
    "--model resnet18_v1 --use-se": ["--use-se", "resnext"],
    "--model resnet18_v1 --batch-norm": ["--batch-norm", "vgg"],
    "--model resnet18_v1 --sampling sandwich": ["--sampling", "supernet"],
    "--mode symbolic": ["--mode symbolic", "supernet"],
    "--use-all-channels --cs-warm-up": ["--use-all-channels", "--cs-warm-up"],
    "--use-all-channels --epoch-start-cs 0": ["--use-all-channels", "--epoch-start-cs"],
    "--pass-gradients mean": ["--pass-gradients mean", "one pass a step"],
    f"{FIXED} --pass-gradients mean": ["--pass-gradients", "supernet"],
    "--model resnet18_v1 --ema-decay 0.999": ["--ema-decay", "resnet18_v1"],
    "--ema-decay 0.999 --kv-store dist_async": ["--ema-decay", "dist_async"],
    "--use-all-blocks --sampling fair": ["--sampling fair", "--use-all-blocks"],
    "--use-all-channels --sampling sandwich": ["--sampling sandwich", "--use-all-channels"],
    "--sampling fair --train-upper-constraints flops-330": ["--sampling fair", "--train-upper-constraints"],
    "--num-epochs 5 --warmup-epochs 5": ["--warmup-epochs 5", "--num-epochs 5"],
    "--lr-mode step --lr-decay-epoch 3,x": ["--lr-decay-epoch"],
    "--mixup --num-epochs 9 --mixup-off-epoch 9": ["--mixup-off-epoch 9"],
    "--cutmix --num-epochs 9 --mixup-off-epoch 9": ["--mixup-off-epoch 9", "--cutmix"],
    "--num-epochs 9 --lr-restarts 2 --lr-mode step": ["--lr-restarts", "cosine", "step"],
    "--num-epochs 9 --warmup-epochs 3 --lr-restarts 6": ["--lr-restarts 6", "--num-epochs 9"],
    "--optimizer adamw --momentum 0.8": ["--momentum", "adamw"],
    "--optimizer adamw --dtype float16": ["adamw", "float16"],
    "--patience 3 --val-frequency 0": ["--patience", "--val-frequency 0"],
    f"{FIXED} --patience 3": ["--patience", "--train-on train --val-on holdout"],
    "--model resnet18_v1 --patience 3": ["--patience", "test images"],
    "--ema-decay 0.9 --resume-params x": ["--ema-decay", "--resume-params", "--init-params"],
    "--mixup-alpha 0.4": ["--mixup-alpha", "--mixup"],
    "--mixup --cutmix-alpha 0.4": ["--cutmix-alpha", "--cutmix"],
    "--mixup-off-epoch 4": ["--mixup-off-epoch", "--mixup or --cutmix"],
    "--warmup-lr 0.01": ["--warmup-lr", "--warmup-epochs"],
    "--lr-decay 0.5": ["--lr-decay", "--lr-mode step"],
    "--lr-decay-period 10": ["--lr-decay-period", "--lr-mode step"],
    "--lr-mode poly --lr-decay-epoch 10": ["--lr-decay-epoch", "--lr-mode step"],
    "--stochastic-depth 0.1": ["--stochastic-depth", SUBNET],
    "--model resnet18_v1 --stochastic-depth 0.1": ["--stochastic-depth", "resnet18_v1"],
    "--recipe published --optimizer adamw": ["--optimizer adamw", "give --lr"],
    "--temperature 3": ["--temperature", "--teacher"],
    "--teacher-params x.params": ["--teacher-params", "--teacher"],
    "--teacher resnet18_v1 --hard-weight 1": ["--hard-weight 1"],
    "--resume-states x": ["--resume-params"],
    "--resume-epoch 3": ["--resume-params"],
    "--resume-params x --resume-epoch 9 --num-epochs 9": ["--resume-epoch 9"],
    "--model resnet18_v1 --use-pretrained --resume-params x": ["--use-pretrained", "--resume-params"],
    "--model resnet18_v1 --use-pretrained --init-params x": ["--use-pretrained", "--init-params"],
    "--init-params x --resume-params y": ["--resume-params", "--init-params"],
    f"{FIXED} --init-params x --init-from-supernet y": ["--init-params", "--init-from-supernet"],
    f"{FIXED} --resume-params x --init-from-supernet y": ["--resume-params", "--init-from-supernet"],
    "--init-params x --resume-epoch 3": ["--resume-params"],
    "--init-from-supernet x": ["--init-from-supernet", "subnet", "not for ShuffleNas"],
    "--model resnet18_v1 --init-from-supernet x": ["--init-from-supernet", "not for resnet18_v1"],
    f"--model {SUBNET} --init-from-supernet x": ["--architecture"],
}


@pytest.mark.parametrize("line", REFUSED)
def test_refused(line):
    with pytest.raises(InputError) as error:
        check(line)
    for word in REFUSED[line]:
        assert word in str(error.value), error.value


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--use-se --last-conv-after-pooling --epoch-start-cs 60 --cs-warm-up --num-epochs 120 --warmup-epochs 5",
        "--sampling fair --cs-warm-up --epoch-start-cs 4 --pass-gradients mean --ema-decay 0.999",
        "--ema-decay 0.999 --kv-store dist_sync",
        "--sampling sandwich --mixup --mixup-off-epoch 5",
        "--use-all-blocks --use-all-channels",
        f"{FIXED} --train-on train --val-on holdout",
        f"{FIXED} --val-on val",
        f"{FIXED} --ema-decay 0.999 --stochastic-depth 0.2",
        f"{FIXED} --mode symbolic --mixup --label-smoothing",
        f"{FIXED} --optimizer adamw --lr-restarts 2 --auto-augment trivial --random-erasing 0.25",
        f"{FIXED} --patience 5 --train-on train --val-on holdout",
        "--patience 5 --recipe published --optimizer adamw --lr 0.001",
        "--lr-mode step --lr-decay 0.5 --warmup-lr 0.01 --warmup-epochs 1",
        "--cutmix --cutmix-alpha 0.5 --mixup-off-epoch 1",
        f"{FIXED} --teacher resnet50_v1 --temperature 4 --hard-weight 0.3",
        "--model vgg16 --batch-norm --mode imperative",
        "--model resnext50_32x4d --use-se --last-gamma --use-gn",
        "--resume-params x --resume-states y --resume-epoch 3",
        f"--model {SUBNET} --init-params x",
        f"{FIXED} --init-from-supernet x",
        "--init-params x --cs-warm-up",
        "--model resnet18_v1 --init-params x",
    ],
)
def test_accepted(line):
    check(line)


PUBLISHED = """
    --data-dir --rec-train --rec-train-idx --rec-val --rec-val-idx --use-rec --batch-size --dtype --num-gpus -j
    --num-data-workers --num-epochs --lr --momentum --wd --lr-mode --lr-decay --lr-decay-period --lr-decay-epoch
    --warmup-lr --warmup-epochs --last-gamma --mode --model --input-size --crop-ratio --use-pretrained --use-se --mixup
    --mixup-alpha --mixup-off-epoch --label-smoothing --no-wd --teacher --temperature --hard-weight --batch-norm
    --save-frequency --save-dir --resume-epoch --resume-params --resume-states --log-interval --logging-file --use-gn
    --use-all-blocks --use-all-channels --epoch-start-cs --last-conv-after-pooling --cs-warm-up --channels-layout
    --ignore-first-two-cs --reduced-dataset-scale --train-upper-constraints --train-bottom-constraints
    --train-constraint-method --flop-param-method --block-choices --channel-choices
    --dataset --architecture --seed --resume
"""


def test_flags_that_people_use_stay(capsys):
    with pytest.raises(SystemExit):
        train_imagenet.main(["--help"])
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", capsys.readouterr().out))
    assert set(PUBLISHED.split()) - known == set()
