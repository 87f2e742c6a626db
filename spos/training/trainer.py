"""One training loop for supernets and subnets, which knows nothing about either.

A network that has paths is given a strategy; every step runs the passes it draws, and updates exactly what they use.
A network without paths is trained whole. Everything random in a step is a function of (seed, epoch, step), so a
checkpoint between two steps needs to remember where it stands and nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from signal import SIGTERM
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from spos.core.errors import InputError, Stopped
from spos.core.progress import progress_bar
from spos.core.seeds import derive_rng, derive_seed
from spos.core.stopping import StopRequest
from spos.engine.cluster import LOCAL, Cluster
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, load_parameters
from spos.scoring.accuracy import count_hits
from spos.training.checkpoint import Checkpoint, load_device_statistics, newest_checkpoint, save_checkpoint
from spos.training.log import progress_line
from spos.training.losses import Example, Objective
from spos.training.meter import LossNotFinite, Meter, Part
from spos.training.path_trainer import PathTrainer
from spos.training.strategies import Pass

Passes = Sequence[Optional[Pass]]


@dataclass(frozen=True)
class Progress:
    """Where a run stands: finished epochs, steps done of the next one, and what they measured."""

    epoch: int = 0
    step: int = 0
    meter: Meter = field(default_factory=Meter)


@dataclass
class TrainingJob:
    """Everything a training run needs, made by the program.

    Args:
        loader: an `ImageLoader` of training images; `epoch(e, start=k)` gives the batches of epoch e from the k-th on.
            What it could not decode since the program started is named in the row of every epoch.
        schedule: learning rate of a step, counted from 0 over the whole run.
        strategy: passes of a step from (epoch, step, rng), for a network called as `net(x, architecture)` that has
            `selected_parameters(architecture)`; None for a network called as `net(x)`.
        forward: called in place of `net`, if that is not what runs it (its symbol or `TrainingGraphs`, for example).
        validate: metrics to log for an epoch (called at its end), or an empty dict.
        log: called with the row of every finished epoch.
        save_frequency: epochs between checkpoints.    save_steps: steps between checkpoints in an epoch, 0 for none.
        cluster: the workers that train together. The chief alone validates, logs and writes checkpoints.
    """

    net: mx.gluon.Block
    trainer: PathTrainer
    loader: Any
    objective: Objective
    schedule: Callable[[int], float]
    num_epochs: int
    ctx: Tuple[mx.Context, ...]
    run: str
    seed: int = 0
    dtype: str = "float32"
    strategy: Optional[Callable[..., Sequence[Pass]]] = None
    forward: Optional[Callable] = None
    validate: Callable[[int], Dict[str, Any]] = lambda epoch: {}
    log: Callable[[Dict[str, Any]], None] = lambda row: None
    save_frequency: int = 1
    save_steps: int = 0
    keep_checkpoints: int = 2
    log_interval: int = 50
    stop: StopRequest = field(default_factory=StopRequest)
    cluster: Cluster = LOCAL

    def settle(self) -> None:
        """Make parameters and statistics those of all devices and workers; called by all of them together."""
        self.trainer.fetch()
        self.cluster.average_statistics(self.net)

    def save(self, epoch: int, step: int = 0, meter: Optional[Meter] = None) -> None:
        """Write a checkpoint: `epoch` epochs and `step` steps of the next are done. Called by all workers.

        Inside an epoch the statistics of a single process's devices are kept apart, as they are. Those of other workers
        are not kept: a cluster goes on from their average.
        """
        if self.cluster.is_distributed:
            self.settle()
            meter = meter.gathered(self.cluster) if meter else None
        if self.cluster.is_chief:
            state = {"meter": meter.to_json() if meter else {}}
            save_checkpoint(self.run, epoch, step, self.net, self.trainer.states(), state, self.keep_checkpoints)


def train(job: TrainingJob, start: Optional[Progress] = None) -> None:
    """Train from where `start` stands to the end, with a checkpoint as often as asked.

    Raises: Stopped after a signal, when a checkpoint is written. InputError if the loss is not finite; then nothing
        is written, and the message names the last checkpoint.
    """
    start = start or Progress()
    with job.stop:
        step, meter = start.step, start.meter
        for epoch in range(start.epoch, job.num_epochs):
            try:
                row = {"epoch": epoch, **train_epoch(job, epoch, step, meter)}
            except LossNotFinite as error:
                good = newest_checkpoint(job.run)
                raise InputError(
                    f"{error}. The last good checkpoint is {good.folder if good else 'none yet'}. "
                    "Lower --lr or lengthen --warmup-epochs, in another --save-dir"
                ) from None
            job.settle()
            if job.loader.bad_images:
                row["undecodable_images"] = list(job.loader.bad_images)
            if job.cluster.is_chief:
                row.update(validate(job, epoch, meter))
                job.log(row)
            step, meter = 0, Meter()
            if (epoch + 1) % job.save_frequency == 0 or epoch + 1 == job.num_epochs:
                job.save(epoch + 1)


def validate(job: TrainingJob, epoch: int, meter: Meter) -> Dict[str, Any]:
    """Metrics of the end of an epoch. A signal ends this at once, with a checkpoint of all its steps.

    In a cluster the others are in their next step already, so there it is noted and they all stop after that step.
    """
    if job.cluster.is_distributed:
        return job.validate(epoch)
    try:
        with job.stop.at_once():
            return job.validate(epoch)
    except Stopped:
        job.save(epoch, job.loader.num_batches, meter)
        raise


def train_epoch(job: TrainingJob, epoch: int, first_step: int, meter: Meter) -> Dict[str, Any]:
    """The rest of one pass over the training images, from `first_step` on.

    Returns: loss, top-1, top-5 (means over all passes of the epoch), learning rate and speed.
    """
    num_batches, num_seen, start = job.loader.num_batches, 0, time.time()  # seen: by all workers
    job.trainer.set_learning_rate(job.schedule(epoch * num_batches + max(first_step - 1, 0)))
    shown = job.cluster.is_chief
    progress = progress_bar(total=num_batches, initial=first_step, unit="batch", shown=shown, dynamic_ncols=True)
    with progress:
        progress.set_description(f"epoch {epoch + 1}/{job.num_epochs}")
        for step, (images, labels, _) in enumerate(job.loader.epoch(epoch, start=first_step), first_step):
            job.trainer.set_learning_rate(job.schedule(epoch * num_batches + step))
            meter.add(train_step(job, images, labels, epoch, step))
            num_seen += images.shape[0] * job.cluster.num_workers
            progress.update()
            done = step + 1
            if meter.num_images and done % job.log_interval == 0 and job.cluster.is_chief:
                loss, rate = meter.loss / meter.num_images, num_seen / (time.time() - start)
                progress.set_postfix_str(f"loss {loss:.3f}, {rate:.0f} img/s")
                if progress.disable:
                    print(progress_line(epoch, done, num_batches, loss, rate), flush=True)
            if job.cluster.agree(job.stop.signum is not None):
                job.save(epoch, done, meter)
                raise Stopped(job.stop.signum or SIGTERM)  # another worker's
            if job.save_steps and done % job.save_steps == 0 and done < num_batches:
                job.save(epoch, done, meter)
        result = meter.gathered(job.cluster).result()
    return {**result, "lr": job.trainer.learning_rate, "images_per_second": num_seen / (time.time() - start)}


def train_step(job: TrainingJob, images, labels, epoch: int, step: int) -> List[Part]:
    """All passes of one step on one batch, shared among the devices, and the update."""
    mx.random.seed(derive_seed(job.seed, "dropout", epoch, step, job.cluster.rank))
    passes: Passes = (None,)
    if job.strategy:
        passes = job.strategy(epoch, step, derive_rng(job.seed, "sampling", epoch, step))
    share, mixup = 1.0, job.objective.mixup
    if mixup:
        share = mixup.share(epoch, derive_rng(job.seed, "mixup", epoch, step))
    examples = [
        job.objective.example(x.astype(job.dtype, copy=False), y, share)
        for x, y in zip(*(mx.gluon.utils.split_and_load(a, job.ctx, even_split=False) for a in (images, labels)))
    ]
    where = f"epoch {epoch + 1}, step {step + 1}"
    selected = union([job.net.selected_parameters(one.architecture) for one in passes]) if job.strategy else None
    job.trainer.fetch(selected)
    parts, first_logits = [], None
    for one in passes:
        logits, new = run_pass(job, examples, one, first_logits, where)
        first_logits = first_logits or logits
        parts += new
    job.trainer.step(images.shape[0], selected)
    if selected and selected[0][0].grad_req == "add":
        zero_gradients(selected)
    return parts


def run_pass(
    job: TrainingJob, examples: Sequence[Example], one: Optional[Pass], first_logits: Optional[List[Any]], where: str
) -> Tuple[List[Any], List[Part]]:
    """Forward and backward of one path on all devices. Returns the logits by device, and what to measure."""
    forward = job.forward or job.net
    with mx.autograd.record():
        logits = [forward(e.images) if one is None else forward(e.images, one.architecture) for e in examples]
        if one is not None and one.imitates:
            losses = [job.objective.imitate(own, theirs) for own, theirs in zip(logits, first_logits)]
        else:
            losses = [job.objective(own, e) for own, e in zip(logits, examples)]
    mx.autograd.backward(losses)
    if one is not None:
        where = f"{where}, architecture {one.architecture}"
    return logits, [
        Part(loss.sum(), count_hits(own, e.labels), e.labels.shape[0], where)
        for loss, own, e in zip(losses, logits, examples)
    ]


def union(selections: Sequence[Sequence[Tuple[mx.gluon.Parameter, Tuple[int, ...]]]]):
    """What several paths use together: of each parameter the largest of their corners, which lie in one another."""
    if len(selections) == 1:
        return list(selections[0])
    shapes: Dict[str, Tuple[mx.gluon.Parameter, Tuple[int, ...]]] = {}
    for selection in selections:
        for parameter, shape in selection:
            _, known = shapes.get(parameter.name, (parameter, shape))
            shapes[parameter.name] = (parameter, tuple(map(max, known, shape)))
    return list(shapes.values())


def zero_gradients(selected) -> None:
    """Forget the gradients of these parameters, which passes add up."""
    by_device = zip(*(parameter.list_grad() for parameter, _ in selected))
    for grads in by_device:
        mx.nd.reset_arrays(*grads, num_arrays=len(grads))


def as_symbol(net: mx.gluon.HybridBlock, dtype: str) -> mx.gluon.SymbolBlock:
    """The exported graph of a network as a block that shares its parameters, for `--mode symbolic`."""
    data = mx.sym.var("data", dtype=dtype)
    block = mx.gluon.SymbolBlock(net(data), data, params=net.collect_params())
    block.hybridize(static_alloc=True, static_shape=True)
    return block


def resume(job: TrainingJob, checkpoint: Checkpoint) -> Progress:
    """Load a checkpoint into a job. Returns where it stands."""
    load_parameters(checkpoint.model_file, job.net)
    load_device_statistics(checkpoint, job.net)
    job.trainer.set_states(load_arrays(checkpoint.states_file))
    return Progress(checkpoint.epoch, checkpoint.step, Meter(**checkpoint.state.get("meter", {})))
