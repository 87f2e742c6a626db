"""Every command line of the original project's scripts, as it stands there but for data, precision and length."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT, data_flags

from oneshot_nas_network import Supernet
from spos.core.flags import with_hyphens
from spos.engine.parameters import load_arrays
from spos.space.space_file import search_space

COMMANDS = json.loads((ROOT / "tests" / "original" / "record.json").read_text(encoding="utf-8"))["commands"]
SUPERNET = "params/ShuffleNasOneshot-imagenet-supernet.params"
DATA = ("--rec-train", "--rec-train-idx", "--rec-val", "--rec-val-idx", "--batch-size", "--update-bn-images", "-j")
DATA += ("--num-workers", "--num-gpus", "--dtype")  # a machine without GPUs
LENGTHS = {"--search-iters": "2", "--population-size": "4", "--retain-length": "2"}
# What says in one line what to do instead, and the words of that line.
REPLACED = {
    "scripts/train_fixArch.sh": ("ShuffleNas_fixArch needs --architecture", "--block-choices"),
    "scripts/train_fixArch+_genetic.sh": ("ShuffleNas_fixArch needs --architecture", "--block-choices"),
    "scripts/plot_accuracy.sh": ("python -m utils.plot training",),
    "scripts/plot_supernet_bc.sh": ("python -m utils.plot training",),
    "scripts/plot_genetic_search.sh": ("python -m utils.plot search",),
    "scripts/plot_genetic_search_blockAndChannel.sh": ("python -m utils.plot search",),
}
ELSEWHERE = "utils/calculate_flops.py"  # tests/utils_tests/test_calculate_flops.py runs it on an exported network
QUICK = ("scripts/train_oneshot+.sh", "scripts/search.sh", *REPLACED)


def shortened(words, work):
    """The words of a command with the flags of its data changed, and as few epochs or rounds as its others allow."""
    result, values = [], iter(words)
    for word in values:
        flag = with_hyphens([word])[0]
        if flag in DATA:
            next(values)
        elif flag == "--num-epochs":
            warm_up = int(words[words.index("--warmup-epochs") + 1])
            result += [word, str(warm_up + 1)]
            next(values)
        elif flag in LENGTHS:
            result += [word, LENGTHS[flag]]
            next(values)
        else:
            result.append(word)
    return [*result, *data_flags(work, **{"input-size": 16})]


def supernet_file(words, folder):
    """What the search expects, written as the original names parameters."""
    from spos.engine.compat import mx
    from spos.space.original import with_selectors

    space = search_space(num_classes=10, use_se="--use-se" in words, input_size=16, strides=(2, 2, 2, 2, 2))
    net = Supernet(space)
    net._initialize()
    (folder / "params").mkdir()
    arrays = {with_selectors(name): p.data() for name, p in net._collect_params_with_prefix().items()}
    mx.nd.save(str(folder / SUPERNET), arrays)


@pytest.mark.parametrize(
    "source",
    [
        source if source in QUICK else pytest.param(source, marks=pytest.mark.slow)
        for source in COMMANDS
        if source != ELSEWHERE
    ],
)
def test_a_command_of_the_original_runs_or_says_what_replaces_it(source, work, tmp_path):
    program, *words = shlex.split(COMMANDS[source])
    if program == "search_supernet.py":
        supernet_file(words, tmp_path)
    if program in ("train_imagenet.py", "search_supernet.py"):
        words = shortened(words, work)
    done = subprocess.run(
        [sys.executable, str(ROOT / program), *words], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    if source in REPLACED:
        assert done.returncode != 0 and done.stderr.count("\n") == 1, done.stderr
        assert all(part in done.stderr for part in REPLACED[source]), done.stderr
        return
    assert done.returncode == 0, done.stderr
    if "--save-dir" in words:
        run = tmp_path / words[words.index("--save-dir") + 1]
        assert load_arrays(run / "model.params")
        assert (tmp_path / words[words.index("--logging-file") + 1]).is_file()


def test_every_replaced_command_is_one_of_the_original():
    assert set(REPLACED) <= set(COMMANDS)
