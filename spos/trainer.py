"""One training loop for supernets and subnets, which knows nothing about either.

A network that has paths is given a `sampler`; every step draws a path, runs it, and updates exactly what the path
uses. A network without paths is trained whole.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from spos.checkpoint import Checkpoint, load_arrays, load_parameters, save_checkpoint
from spos.cluster import LOCAL, Cluster
from spos.compat import mx
from spos.errors import InputError
from spos.evaluation import Accuracy, count_hits
from spos.path_trainer import PathTrainer
from spos.schedule import derive_rng, derive_seed


@dataclass
class Meter:
    """Loss and hits of an epoch, read one step late so that reading does not wait for the step just issued."""

    hits: np.ndarray = field(default_factory=lambda: np.zeros(2))
    loss: float = 0.0
    num_images: int = 0
    _pending: List[Tuple[Any, Any, int]] = field(default_factory=list)

    def add(self, parts: Sequence[Tuple[Any, Any, int]]) -> None:
        """`parts`: per device, the sum of losses, the hits (top-1, top-5), both NDArrays, and the image count."""
        self.flush()
        self._pending = list(parts)

    def flush(self) -> None:
        """Count what is pending. Raises InputError if the loss is not finite."""
        for loss, hits, count in self._pending:
            value = float(loss.asscalar())
            if not math.isfinite(value):
                raise InputError(f"the loss became {value}; lower --lr or lengthen --warmup-epochs")
            self.loss += value
            self.hits += hits.asnumpy()
            self.num_images += count
        self._pending = []

    def gather(self, cluster: Cluster) -> None:
        """Make these the numbers of all workers together."""
        self.flush()
        if cluster.is_distributed:
            self.hits, loss, num_images = cluster.total([self.hits, np.array(self.loss), np.array(self.num_images)])
            self.loss, self.num_images = float(loss), int(num_images)

    def result(self) -> Dict[str, float]:
        self.flush()
        accuracy = Accuracy(int(self.hits[0]), int(self.hits[1]), self.num_images)
        return {"loss": self.loss / self.num_images, "top1": accuracy.top1, "top5": accuracy.top5}


@dataclass
class TrainingJob:
    """Everything a training run needs, made by the program.

    Args:
        loader: an `ImageLoader` of training images; `epoch(e)` gives the batches of epoch e.
        schedule: learning rate of a step, counted from 0 over the whole run.
        sampler: architecture of a step from (epoch, rng), for a network called as `net(x, architecture)` that has
            `selected_parameters(architecture)`; None for a network called as `net(x)`.
        validate: metrics to log for an epoch (called at its end), or an empty dict.
        log: called with the row of every finished epoch.
        cluster: the workers that train together. The chief alone validates, logs and writes checkpoints.
    """

    net: mx.gluon.Block
    trainer: PathTrainer
    loader: Any
    loss: Callable
    schedule: Callable[[int], float]
    num_epochs: int
    ctx: Tuple[mx.Context, ...]
    run: str
    seed: int = 0
    dtype: str = "float32"
    sampler: Optional[Callable] = None
    validate: Callable[[int], Dict[str, Any]] = lambda epoch: {}
    log: Callable[[Dict[str, Any]], None] = lambda row: None
    save_frequency: int = 1
    keep_checkpoints: int = 2
    log_interval: int = 50
    cluster: Cluster = LOCAL


def train(job: TrainingJob, first_epoch: int = 0) -> None:
    """Train from `first_epoch` (number of epochs already done) to the end, with a checkpoint as often as asked."""
    for epoch in range(first_epoch, job.num_epochs):
        row = {"epoch": epoch, **train_epoch(job, epoch)}
        settle(job)
        if not job.cluster.is_chief:
            continue
        row.update(job.validate(epoch))
        job.log(row)
        if (epoch + 1) % job.save_frequency == 0 or epoch + 1 == job.num_epochs:
            save_checkpoint(job.run, epoch + 1, job.net, job.trainer.states(), {}, job.keep_checkpoints)


def settle(job: TrainingJob) -> None:
    """Make the parameters those of all workers; called by all of them before they are validated or written."""
    job.trainer.fetch()
    job.cluster.average_statistics(job.net)


def train_epoch(job: TrainingJob, epoch: int) -> Dict[str, Any]:
    """One pass over the training images. Returns loss, top-1, top-5, learning rate and speed."""
    rank = job.cluster.rank
    mx.random.seed(derive_seed(job.seed, "dropout", epoch, *([rank] if rank else [])))
    rng = derive_rng(job.seed, "sampling", epoch)
    meter, start = Meter(), time.time()
    progress = tqdm(total=job.loader.num_images, unit="img", disable=not sys.stderr.isatty(), leave=False)
    with progress:
        progress.set_description(f"epoch {epoch + 1}/{job.num_epochs}")
        for i, (images, labels) in enumerate(job.loader.epoch(epoch)):
            job.trainer.set_learning_rate(job.schedule(epoch * job.loader.num_batches + i))
            path = job.sampler(epoch, rng) if job.sampler else None
            meter.add(train_step(job, images, labels, path))
            progress.update(images.shape[0])
            if meter.num_images and i % job.log_interval == 0:
                progress.set_postfix(loss=f"{meter.loss / meter.num_images:.3f}")
        meter.gather(job.cluster)
        result = meter.result()
    seconds = time.time() - start
    return {**result, "lr": job.trainer.learning_rate, "images_per_second": meter.num_images / seconds}


def train_step(job: TrainingJob, images, labels, path: Any) -> List[Tuple[Any, Any, int]]:
    """Forward, backward and update on one batch shared among the devices. Returns the parts of `Meter.add`."""
    shards = [mx.gluon.utils.split_and_load(part, job.ctx, even_split=False) for part in (images, labels)]
    selected = None if path is None else job.net.selected_parameters(path)
    job.trainer.fetch(selected)
    results, losses = [], []
    with mx.autograd.record():
        for x, y in zip(*shards):
            x = x.astype(job.dtype, copy=False)
            logits = job.net(x) if path is None else job.net(x, path)
            losses.append(job.loss(logits, y))
            results.append((losses[-1], logits, y))
    mx.autograd.backward(losses)
    job.trainer.step(images.shape[0], selected)
    return [(loss.sum(), count_hits(logits, y), y.shape[0]) for loss, logits, y in results]


def resume(job: TrainingJob, checkpoint: Checkpoint) -> int:
    """Load a checkpoint into a job. Returns the number of epochs already done."""
    load_parameters(checkpoint.model_file, job.net)
    job.trainer.set_states(load_arrays(checkpoint.states_file))
    return checkpoint.epoch


def make_schedule(
    mode: str,
    lr: float,
    num_epochs: int,
    steps_per_epoch: int,
    warmup_lr: float = 0.0,
    warmup_epochs: int = 0,
    decay_factor: float = 0.1,
    decay_epochs: Sequence[int] = (),
) -> Callable[[int], float]:
    """Learning rate of every step: linear warm-up, then GluonCV's schedule of that mode."""
    from gluoncv.utils import LRScheduler, LRSequential

    if warmup_epochs >= num_epochs:
        raise ValueError(f"a warm-up of {warmup_epochs} epochs leaves nothing of {num_epochs}")
    return LRSequential(
        [
            LRScheduler(
                "linear", base_lr=warmup_lr, target_lr=lr, nepochs=warmup_epochs, iters_per_epoch=steps_per_epoch
            ),
            LRScheduler(
                mode,
                base_lr=lr,
                target_lr=0,
                nepochs=num_epochs - warmup_epochs,
                iters_per_epoch=steps_per_epoch,
                step_epoch=[epoch - warmup_epochs for epoch in decay_epochs],
                step_factor=decay_factor,
                power=2,
            ),
        ]
    )
