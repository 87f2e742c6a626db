"""Trainer of supernets and subnets: one loop, which knows nothing about either.

A network that has paths is given a strategy; every step runs the passes it draws, and updates exactly what they use.
A network without paths is trained whole. Everything random in a step is a function of (seed, epoch, step), so a
checkpoint between two steps needs to remember where it stands and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from signal import SIGTERM
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple

from spos.core.errors import InputError, Stopped
from spos.core.seeds import derive_rng, derive_seed
from spos.engine.cluster import Cluster
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, load_parameters
from spos.engine.resizing import resized
from spos.scoring.accuracy import count_hits
from spos.training.checkpoint import Checkpoint, load_device_statistics, newest_checkpoint
from spos.training.log import EpochDisplay
from spos.training.losses import Example, Objective
from spos.training.meter import LossNotFinite, Meter, Part
from spos.training.path_trainer import PathTrainer
from spos.training.progress import Progress, Row, Run

if TYPE_CHECKING:
    from spos.space.space import Architecture
    from spos.training.averaging import WeightAverage
    from spos.training.schedule import Schedule
    from spos.training.strategies import Pass, Strategy

Selection = Sequence[Tuple[mx.gluon.Parameter, Tuple[int, ...]]]  # parameters, each with the corner that is used


class Batches(Protocol):
    """Training images, as `spos.data.loader.ImageLoader` gives them."""

    num_batches: int  # of an epoch
    bad_images: List[str]  # what could not be decoded since the program started

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Tuple[Any, Any, Any]]:
        """(images, labels, positions in the list) of an epoch, from batch `start` on."""
        ...


class Forward(Protocol):
    """Runs a network in training: images, and the architecture if the network has paths, to logits."""

    def __call__(self, x: Any, architecture: Optional[Architecture] = None) -> Any: ...


@dataclass(frozen=True)
class Recipe:
    """What is minimised, how fast and how long, and on which paths.

    Args:
        schedule: learning rate of a step, counted from 0 over the whole run.
        strategy: for a network called as `net(x, architecture)` that has `selected_parameters(architecture)`; None for
            a network called as `net(x)`.
        seed: of everything random in a step.
        averages_passes: the update is by the mean of the gradients of a step's passes, not by their sum, as published.
    """

    objective: Objective
    schedule: Schedule
    num_epochs: int
    strategy: Optional[Strategy] = None
    seed: int = 0
    averages_passes: bool = False


@dataclass(frozen=True)
class Trainer:
    """Trains a network by a recipe.

    Args:
        optimizer: updates the network; the workers of its cluster train together.
        dtype: of the images that the network is given.
        forward: called in place of `net`, if that is not what runs it (its symbol or `TrainingGraphs`, for example).
        average: of the weights, which follows every step.
    """

    net: mx.gluon.Block
    optimizer: PathTrainer
    recipe: Recipe
    ctx: Tuple[mx.Context, ...]
    dtype: str = "float32"
    forward: Optional[Forward] = None
    average: Optional[WeightAverage] = None

    @property
    def cluster(self) -> Cluster:
        """The workers that train together. The chief alone validates, logs and writes checkpoints."""
        return self.optimizer.cluster

    def train(self, batches: Batches, run: Run, start: Optional[Progress] = None) -> None:
        """Train from where `start` stands to the end, with a checkpoint as often as asked.

        Raises: Stopped after a signal, when a checkpoint is written; OSError if the log cannot be written or shown (a
            full disk, a reader who is gone), likewise. InputError if the loss is not finite; then nothing is written,
            and the message names the last checkpoint.
        """
        progress, num_epochs = start or Progress(), self.recipe.num_epochs
        with run.stop:
            for epoch in range(progress.epoch, num_epochs):
                if self.cluster.agree(self.cluster.is_chief and run.is_over()):
                    break
                try:
                    row = {"epoch": epoch, **self.epoch(batches, run, progress)}
                except LossNotFinite as error:
                    good = newest_checkpoint(run.folder)
                    raise InputError(
                        f"{error}. The last good checkpoint is {good.folder if good else 'none yet'}. "
                        "Lower --lr or lengthen --warmup-epochs, in another --save-dir"
                    ) from None
                self.settle()
                if batches.bad_images:
                    row["undecodable_images"] = list(batches.bad_images)
                failure: Optional[OSError] = None
                if self.cluster.is_chief:
                    row.update(self._validate(run, Progress(epoch, batches.num_batches, progress.meter)))
                    failure = failure_of(run.log, row)
                progress = Progress(epoch + 1)
                is_due = (epoch + 1) % run.save_frequency == 0 or epoch + 1 == num_epochs
                is_due = is_due or (not self.cluster.is_distributed and run.is_over())
                if is_due or (failure and not self.cluster.is_distributed):  # the workers of a cluster save together
                    self.save(run, progress)
                if failure:
                    raise failure

    def epoch(self, batches: Batches, run: Run, progress: Progress) -> Row:
        """The rest of one pass over the training images, from `progress` on, whose meter goes on counting.

        Returns: loss, top-1, top-5 (means over all passes of the epoch), learning rate and speed, unless no step was
        left of it.
        """
        epoch, first_step, meter, num_batches = progress.epoch, progress.step, progress.meter, batches.num_batches
        self._set_learning_rate(epoch * num_batches + max(first_step - 1, 0))
        shown = self.cluster.is_chief
        with EpochDisplay(epoch, self.recipe.num_epochs, first_step, num_batches, run.log_interval, shown) as display:
            for step, (images, labels, _) in enumerate(batches.epoch(epoch, start=first_step), first_step):
                self._set_learning_rate(epoch * num_batches + step)
                meter.add(self.step(images, labels, epoch, step))
                done = step + 1
                num_images = images.shape[0] * self.cluster.num_workers
                failure = failure_of(display.update, done, num_images, meter.mean_loss)
                if self.cluster.agree(run.stop.signum is not None or failure is not None):
                    self.save(run, Progress(epoch, done, meter))
                    if failure:
                        raise failure
                    raise Stopped(run.stop.signum or SIGTERM)  # another worker's
                if run.save_steps and done % run.save_steps == 0 and done < num_batches:
                    self.save(run, Progress(epoch, done, meter))
            result = meter.gathered(self.cluster).result()
        speed = {"images_per_second": display.images_per_second} if first_step < num_batches else {}
        return {**result, "lr": self.optimizer.learning_rate, **speed}

    def step(self, images: Any, labels: Any, epoch: int, step: int) -> List[Part]:
        """All passes of one step on one batch, shared among the devices, and the update.

        Where the input size is a choice, all passes have one. A teacher sees the images at the size of the data.
        """
        recipe = self.recipe
        mx.random.seed(derive_seed(recipe.seed, "dropout", epoch, step, self.cluster.rank))
        mixing = recipe.objective.mixing(recipe.seed, epoch, step, *images.shape[2:])
        examples = [
            recipe.objective.example(x.astype(self.dtype, copy=False), y, mixing)
            for x, y in zip(*(mx.gluon.utils.split_and_load(a, self.ctx, even_split=False) for a in (images, labels)))
        ]
        where = f"epoch {epoch + 1}, step {step + 1}"
        if recipe.strategy is None:
            self.optimizer.fetch()
            _, whole = self.run_pass(examples, None, (), where)
            self._update(images.shape[0])
            return whole
        passes = recipe.strategy(epoch, step, derive_rng(recipe.seed, "sampling", epoch, step))
        examples = [at_size(example, passes[0].architecture.input_size) for example in examples]
        selected = union([self.net.selected_parameters(one.architecture) for one in passes])
        self.optimizer.fetch(selected)
        parts: List[Part] = []
        first_logits: List[Any] = []
        for one in passes:
            logits, new = self.run_pass(examples, one, first_logits, where)
            first_logits = first_logits or logits
            parts += new
        num_averaged = len(passes) if recipe.averages_passes else 1
        self._update(images.shape[0] * num_averaged, selected)
        if selected[0][0].grad_req == "add":
            zero_gradients(selected)
        return parts

    def _update(self, batch_size: int, selected: Optional[Selection] = None) -> None:
        if self.average:
            self.average.before_update(selected)
        self.optimizer.step(batch_size, selected)

    def run_pass(
        self, examples: Sequence[Example], one: Optional[Pass], first_logits: Sequence[Any], where: str
    ) -> Tuple[List[Any], List[Part]]:
        """Forward and backward of one path on all devices (of the network, if it has none).

        Args:
            first_logits: of the step's first pass, by device, for one that imitates it; none before it.
        Returns: the logits by device, and what to measure.
        """
        forward, objective = self.forward or self.net, self.recipe.objective
        path = () if one is None else (one.architecture,)
        with mx.autograd.record():
            logits = [forward(example.images, *path) for example in examples]
            if one is not None and one.imitates:
                losses = [objective.imitate(own, first_logits[device]) for device, own in enumerate(logits)]
            else:
                losses = [objective(own, example) for own, example in zip(logits, examples)]
        mx.autograd.backward(losses)
        if one is not None:
            where = f"{where}, architecture {one.architecture}"
        return logits, [
            Part(loss.sum(), count_hits(own, example.labels), example.labels.shape[0], where)
            for loss, own, example in zip(losses, logits, examples)
        ]

    def settle(self) -> None:
        """Make parameters and statistics those of all devices and workers; called by all of them together."""
        self.optimizer.fetch()
        self.cluster.average_statistics(self.net)

    def save(self, run: Run, progress: Progress) -> None:
        """Write a checkpoint. Called by all workers.

        Inside an epoch the statistics of a single process's devices are kept apart, as they are. Those of other workers
        are not kept: a cluster goes on from their average.
        """
        if self.cluster.is_distributed:
            self.settle()
            if progress.step:
                progress = Progress(progress.epoch, progress.step, progress.meter.gathered(self.cluster))
        if self.cluster.is_chief:
            run.save(progress, self.net, self.optimizer.states(), self.average)

    def resume(self, checkpoint: Checkpoint) -> Progress:
        """Load a checkpoint. Returns where it stands."""
        load_parameters(checkpoint.model_file, self.net)
        load_device_statistics(checkpoint, self.net)
        self.optimizer.set_states(load_arrays(checkpoint.states_file))
        if self.average:
            checkpoint.restore_average(self.average)
        return Progress(checkpoint.epoch, checkpoint.step, Meter(**checkpoint.state.get("meter", {})))

    def _set_learning_rate(self, step: int) -> None:
        self.optimizer.set_learning_rate(self.recipe.schedule(step))

    def _validate(self, run: Run, progress: Progress) -> Row:
        """Metrics of the end of an epoch. A signal ends this at once, with a checkpoint of all its steps.

        In a cluster the others are in their next step already, so there it is noted and they all stop after that step.
        """
        if self.cluster.is_distributed:
            return run.validate(progress.epoch)
        try:
            with run.stop.at_once():
                return run.validate(progress.epoch)
        except Stopped:
            self.save(run, progress)
            raise


def at_size(example: Example, size: Optional[int]) -> Example:
    """The example with its images at a size; None leaves them as they are."""
    return example if size is None else replace(example, images=resized(example.images, size))


def failure_of(show: Callable[..., object], *arguments: Any) -> Optional[OSError]:
    """What kept a log from being written or shown, if anything did: what was trained is kept first."""
    try:
        show(*arguments)
    except OSError as error:
        return error
    return None


def union(selections: Sequence[Selection]) -> Selection:
    """What several paths use together: of each parameter the largest of their corners, which lie in one another."""
    if len(selections) == 1:
        return list(selections[0])
    shapes: Dict[str, Tuple[mx.gluon.Parameter, Tuple[int, ...]]] = {}
    for selection in selections:
        for parameter, shape in selection:
            _, known = shapes.get(parameter.name, (parameter, shape))
            shapes[parameter.name] = (parameter, tuple(map(max, known, shape)))
    return list(shapes.values())


def zero_gradients(selected: Selection) -> None:
    """Forget the gradients of these parameters, which passes add up."""
    by_device = zip(*(parameter.list_grad() for parameter, _ in selected))
    for grads in by_device:
        mx.nd.reset_arrays(*grads, num_arrays=len(grads))
