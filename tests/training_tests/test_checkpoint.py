"""Checkpoints are whole or absent, found in order, kept in number, and never executed."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, save_arrays
from spos.training.checkpoint import newest_checkpoint, save_checkpoint


def small_net():
    net = mx.gluon.nn.Dense(3, in_units=4)
    net.initialize()
    return net


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def save(run, epoch, step=0, keep=9, net=None):
    return save_checkpoint(run, epoch, step, net or small_net(), {"weight:0": mx.nd.zeros((3, 4))}, {}, keep)


def test_the_checkpoint_that_got_farthest_is_the_newest(tmp_path):
    for epoch, step in ((0, 5), (2, 0), (1, 7), (10, 0), (10, 3), (9, 99)):
        save(tmp_path, epoch, step)
    newest = newest_checkpoint(tmp_path)
    assert (newest.epoch, newest.step) == (10, 3)


def test_older_checkpoints_go(tmp_path):
    for epoch in range(5):
        save(tmp_path, epoch + 1, keep=2)
        save(tmp_path, epoch + 1, 4, keep=2)
    assert names(tmp_path) == ["epoch-0005", "epoch-0005-step-000004"]


def test_half_written_checkpoints_are_not_found_and_are_removed(tmp_path):
    save(tmp_path, 1)
    half = tmp_path / "checkpoints" / ".epoch-0002.123"
    half.mkdir()
    (half / "model.params").write_bytes(b"half")
    empty = tmp_path / "checkpoints" / "epoch-0003"
    empty.mkdir()
    assert newest_checkpoint(tmp_path).epoch == 1
    save(tmp_path, 2)
    assert names(tmp_path) == ["epoch-0001", "epoch-0002", "epoch-0003"]


def test_a_checkpoint_that_is_there_is_kept(tmp_path):
    net = small_net()
    save(tmp_path, 1, net=net)
    before = (tmp_path / "checkpoints" / "epoch-0001" / "model.params").read_bytes()
    save(tmp_path, 1, net=net)
    assert (tmp_path / "checkpoints" / "epoch-0001" / "model.params").read_bytes() == before


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {root!r})
from spos.engine.compat import mx
from spos.training.checkpoint import save_checkpoint
from spos.core.flags import run_program
net = mx.gluon.nn.Dense(300, in_units=400)
net.initialize()
save_checkpoint({run!r}, 1, 0, net, {{}}, {{}}, 1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails, as on a full disk
for limit in {limits}:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    print(run_program(lambda argv: save_checkpoint({run!r}, 2, 0, net, {{}}, {{}}, 1)))
"""


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    """MXNet's own writer does not notice when only the last bytes find no room."""
    size = len(mx_bytes(tmp_path / "size.params"))
    limits = [size - missing for missing in (480_000, 4096, 1)]  # most, some, one byte
    code = FULL_DISK.format(root=str(ROOT), run=str(tmp_path / "run"), limits=limits)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "2\n2\n2\n"), done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == 3 and all(line.startswith("error: ") and "model.params" in line for line in errors)
    assert names(tmp_path / "run") == ["epoch-0001"]
    arrays = load_arrays(newest_checkpoint(tmp_path / "run").model_file)
    assert all(np.isfinite(array.asnumpy()).all() for array in arrays.values())


def mx_bytes(path):
    net = mx.gluon.nn.Dense(300, in_units=400)
    net.initialize()
    save_arrays(path, {name: p.data() for name, p in net._collect_params_with_prefix().items()})
    return path.read_bytes()


def test_pickles_are_not_read(tmp_path):
    path = tmp_path / "trainer.states"
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(InputError, match="pickle"):
        load_arrays(path)
