"""utils.calculate_flops by the calls and the command line of the original project."""

import subprocess
import sys

import pytest
from conftest import ROOT

from oneshot_nas_network import get_shufflenas_oneshot
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.space.architecture_file import load_architecture
from spos.space.cost import count_architecture
from utils.calculate_flops import get_flops, main

FLAGS = {"use_se": True, "last_conv_after_pooling": True}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """OneShot-S+ as the original's own lines export it."""
    folder = tmp_path_factory.mktemp("export") / "symbols"
    folder.mkdir()
    choices = load_architecture("oneshot-s+").architecture
    net = get_shufflenas_oneshot(choices.block_choices, choices.channel_choices, **FLAGS)
    net._initialize(force_reinit=True)
    net.hybridize()
    net(mx.nd.ones((1, 3, 64, 64)))
    net.export(str(folder / "ShuffleNas_fixArch"), epoch=1)
    return folder / "ShuffleNas_fixArch-symbol.json"


def test_the_count_is_the_architectures_own(exported):
    record = load_architecture("oneshot-s+")
    cost = count_architecture(record.space, record.architecture)
    assert get_flops(symbol_path=str(exported)) == (cost.macs / 1e6, cost.params / 1e6) == (291.475944, 3.541829)
    assert get_flops(True, True, str(exported))[1] == pytest.approx(3541829 * 4 / 2**20)


def test_the_default_is_the_file_that_the_original_writes(exported, monkeypatch):
    monkeypatch.chdir(exported.parents[1])
    assert get_flops() == (291.475944, 3.541829)


def test_other_inputs_are_refused(exported):
    with pytest.raises(InputError, match="the one input 'data'"):
        get_flops(symbol_path=str(exported), data_shapes=[("image", (1, 3, 8, 8))])
    with pytest.raises(InputError, match="norelubn=False is not offered"):
        get_flops(norelubn=False, symbol_path=str(exported))


def test_the_command_line_of_the_original(exported, capsys):
    argv = ["-s", exported, "-ds", "data,1,3,224,224", "-ls", "prob_label,1,1000", "-norelubn"]
    assert main(list(map(str, argv))) == 0
    assert "291.475944M" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, ROOT / "utils" / "calculate_flops.py", "--symbol_path", exported],
        cwd=exported.parent,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "") and "3.541829M" in done.stdout


def test_a_figure_by_the_originals_command_says_what_draws_it():
    command = [sys.executable, "utils/plot.py", "--log-file", "logs/x.log", "--mode", "accuracy"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.count("\n") == 1 and "python -m utils.plot training" in done.stderr
