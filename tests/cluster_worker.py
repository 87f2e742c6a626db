"""What test_cluster.py runs in every worker: `cluster_worker.py SCENARIO FOLDER ... --kv-store KIND`."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import TINY, fill_parameters

import train_imagenet
from oneshot_nas_network import Supernet
from spos.engine.cluster import LOCAL, open_cluster
from spos.engine.compat import mx
from spos.space.architecture import Architecture
from spos.training.losses import Objective
from spos.training.optimizers import make_nag
from spos.training.path_trainer import PathTrainer
from spos.training.strategies import Pass
from spos.training.trainer import Recipe, Trainer

# The second leaves gradients and momentum behind that the last must not apply again.
PATHS = [
    Architecture((0, 3, 1, 2), (9, 9, 9, 9)),
    Architecture((1, 0, 1, 0), (5, 9, 7, 3)),
    Architecture((0, 3, 1, 2), (4, 0, 6, 2)),
    Architecture((2, 1, 3, 0), (4, 8, 6, 2)),
]
BATCH_SIZE = 6  # of each device


def batch(step, num_devices):
    rng = np.random.default_rng(step)
    return rng.normal(0, 1, (num_devices * BATCH_SIZE, 3, 16, 16)), rng.integers(0, 5, num_devices * BATCH_SIZE)


def without_dropout(net):
    """Workers draw their dropout each for itself, so only networks without it can be compared."""
    for block in net.features:
        if isinstance(block, mx.gluon.nn.Dropout):
            block._rate = 0
    return net


def make_trainer(ctx, seed, filled, cluster=LOCAL):
    mx.random.seed(seed)
    net = without_dropout(Supernet(TINY))
    net.initialize(ctx=list(ctx))
    if filled:
        fill_parameters(net)
    optimizer = PathTrainer(net, make_nag(0.05, 0.9, 1e-2, "float32"), True, cluster)
    return Trainer(net, optimizer, Recipe(Objective(5, 0.1), lambda step: 0.05, num_epochs=1), tuple(ctx))


def train_path(trainer, images, labels, path):
    """One step of one path."""
    recipe = replace(trainer.recipe, strategy=lambda epoch, step, rng: (Pass(path),))
    replace(trainer, recipe=recipe).step(images, labels, 0, 0)


def snapshot(trainer):
    """Every parameter, statistic and momentum, of every device."""
    arrays = {f"momentum/{name}": array.asnumpy() for name, array in trainer.optimizer.states().items()}
    for name, parameter in trainer.net._collect_params_with_prefix().items():
        for device in parameter.list_ctx():
            arrays[f"{device}/{name}"] = parameter.data(device).asnumpy()
    return arrays


def run_steps(trainer, part=0, num_parts=1):
    """Train PATHS on this part of every batch. Returns the snapshots before and after the last step."""
    num_devices = len(trainer.ctx)
    for step, path in enumerate(PATHS):
        before = snapshot(trainer)
        own = slice(part * num_devices * BATCH_SIZE, (part + 1) * num_devices * BATCH_SIZE)
        images, labels = (mx.nd.array(array[own]) for array in batch(step, num_parts * num_devices))
        train_path(trainer, images, labels, path)
        mx.nd.waitall()
    return before, snapshot(trainer)


def steps(cluster, folder, num_devices=1):
    """Each worker but the chief begins with other values and an optimizer state that is not to be used."""
    trainer = make_trainer([mx.cpu(i) for i in range(num_devices)], cluster.rank, cluster.is_chief, cluster)
    if not cluster.is_chief:
        optimizer = trainer.optimizer
        optimizer.set_states({f"{optimizer.names[0]}:0": mx.nd.ones(optimizer._params[0].shape)})
    before, after = run_steps(trainer, cluster.rank, cluster.num_workers)
    for name, arrays in (("before", before), ("after", after)):
        np.savez(folder / f"{name}-{cluster.rank}.npz", **arrays)
    trainer.settle()
    np.savez(folder / f"settled-{cluster.rank}.npz", **snapshot(trainer))


def calls(cluster, folder):
    """Every function of Cluster, with values that differ from worker to worker."""
    rank, started = cluster.rank, time.time()
    agreed = [cluster.agree(rank == 1 and call == 25) for call in range(40)]
    seconds = (time.time() - started) / 40
    totals = cluster.total([np.full((2, 3), rank + 1), np.arange(700_000) * (rank + 1), np.array(rank)])
    shared = cluster.share([np.float32([0.1, 1e30, 3]) * (rank + 1)])
    told = cluster.share_json({"epoch": 3 + rank, "text": "é" * 5000} if cluster.is_chief else None)
    answers = {
        "rank": rank,
        "num_workers": cluster.num_workers,
        "is_chief": cluster.is_chief,
        "agreed": [i for i, flag in enumerate(agreed) if flag],
        "seconds_to_agree": seconds,
        "totals": [totals[0].tolist(), totals[1][[1, 699_999]].tolist(), float(totals[2])],
        "shared": shared[0].tolist(),
        "told": told,
        "PORT": os.environ.get("PORT"),
        "threads": os.environ["OMP_NUM_THREADS"],
    }
    (folder / f"calls-{rank}.json").write_text(json.dumps(answers))


def alone(folder, num_devices):
    """The same steps in one process."""
    before, after = run_steps(make_trainer([mx.cpu(i) for i in range(num_devices)], seed=0, filled=True))
    np.savez(folder / "before-alone.npz", **before)
    np.savez(folder / "after-alone.npz", **after)


def both(cluster, folder):
    calls(cluster, folder)
    steps(cluster, folder)


def loop(cluster, folder):
    """A training loop that ends after the same step everywhere when any worker is told to stop."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    (folder / f"pid-{cluster.rank}").write_text(str(os.getpid()))
    num_steps = 0
    while not cluster.agree(bool(stop)):
        num_steps += 1
        time.sleep(0.02)
    (folder / f"steps-{cluster.rank}").write_text(str(num_steps))
    return 128 + signal.SIGTERM


def fail(cluster, folder):
    if cluster.rank == 1:
        raise OSError("the disk of worker 1 is full")
    cluster.barrier()


def train(argv):
    mx.gluon.nn.Dropout.hybrid_forward = lambda self, F, x: F.identity(x)  # also in the graphs of training
    return train_imagenet.run_program(train_imagenet.main, argv)


def main(argv):
    if argv[0] == "train":
        return train(argv[1:])
    if argv[0] == "alone":
        return alone(Path(argv[1]), int(argv[2]))
    cluster = open_cluster(argv[argv.index("--kv-store") + 1])
    code = globals()[argv[0]](cluster, Path(argv[1]), *map(int, argv[2 : argv.index("--kv-store")]))
    cluster.finish()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
