"""Validation at the end of an epoch."""

from __future__ import annotations

from typing import Any, Callable, Dict

from oneshot_nas_network import Subnet
from spos.core.seeds import derive_rng
from spos.data.pixels import Pixels
from spos.engine.compat import mx
from spos.execution.inferred import Inference
from spos.sampling.warm_up import Policy
from spos.scoring.accuracy import evaluate
from spos.scoring.candidate import CandidateEvaluator
from spos.training.averaging import WeightAverage, averaged_subnet
from spos.training.log import validated_top1
from spos.training.progress import Row

VALIDATION_SHARE = 0.1  # of the time of an epoch, that validating every epoch may take by default
FORWARD_SHARE = 1 / 3  # of the work of a training step: backward is twice as much


def affordable_frequency(num_validated: int, num_trained: int) -> int:
    """1 if so many images may be validated after every epoch of so many, else 0."""
    return int(num_validated * FORWARD_SHARE <= num_trained * VALIDATION_SHARE)


def keep_best(validate: Callable[[int], Row], best: Callable[[], float], save: Callable[[], None], epoch: int) -> Row:
    """Metrics of `validate(epoch)`; parameters are saved if no epoch before had their accuracy.

    Args:
        best: highest accuracy of the epochs before, by their log.    save: writes the parameters.
    """
    row = validate(epoch)
    top1 = validated_top1(row)
    if top1 is not None and top1 > best():
        save()
    return row


def validate_when_due(
    measure: Callable[[int], Dict[str, Any]], frequency: int, num_epochs: int, epoch: int
) -> Dict[str, Any]:
    """Metrics of `measure(epoch)` every `frequency` epochs (0: never) and after the last."""
    due = epoch + 1 == num_epochs or (frequency > 0 and (epoch + 1) % frequency == 0)
    return measure(epoch) if due else {}


def validate_network(
    net: mx.gluon.Block, load: Callable[[], Pixels], batch_size: int, ctx: tuple, dtype: str, epoch: int
) -> Dict[str, Any]:
    """Accuracy of a network without paths on images that are loaded when they are first needed.

    Training goes on as if nothing had been measured: a cast, even to the same type, undoes the layouts that inference
    leaves weights in, with which training would have other last bits, not always the same ones.

    Args:
        net: the very block that is trained, which a cast prepares anew.
        batch_size: images in each step of all devices together.
    """
    logits = Inference(net)
    accuracy = evaluate(lambda images: logits(images.astype(dtype, copy=False)), load().batches(batch_size, ctx))
    net.cast(dtype)
    return {"val_top1": accuracy.top1, "val_top5": accuracy.top5, "val_images": accuracy.num_images}


def validate_with_average(
    measure: Callable[[int], Dict[str, Any]],
    average: WeightAverage,
    net: Subnet,
    load_bn: Callable[[], Pixels],
    load: Callable[[], Pixels],
    batch_size: int,
    ctx: mx.Context,
    epoch: int,
) -> Dict[str, Any]:
    """Metrics of `measure`, and `ema_top1`, the accuracy of the averaged weights after a BatchNorm update.

    Args:
        load_bn, load: give the images of the update, and those that are measured, when they are first needed.
    """
    own = averaged_subnet(net, average, load_bn().batches(batch_size, (ctx,)), ctx)
    top1 = evaluate(Inference(own), load().batches(batch_size, (ctx,))).top1
    return {**measure(epoch), "ema_top1": top1}


def validate_supernet(
    load: Callable[[], CandidateEvaluator],
    policy: Policy,
    num_architectures: int,
    num_steps: int,
    seed: int,
    epoch: int,
) -> Dict[str, Any]:
    """Mean accuracy of architectures sampled as in this epoch, each after a BatchNorm update, on held-out images.

    Args:
        load: gives the evaluator; called when it is first needed, and later.

    The architectures are those of steps spread evenly over the `num_steps` of the epoch.
    """
    evaluator, rng = load(), derive_rng(seed, "validation")
    steps = (i * num_steps // num_architectures for i in range(num_architectures))
    scores = [evaluator(policy(epoch, step, rng)) for step in steps]
    return {
        "val_top1": sum(score.top1 for score in scores) / len(scores),
        "val_top5": sum(score.top5 for score in scores) / len(scores),
        "val_top1_each": [score.top1 for score in scores],
        "val_images": scores[0].num_images,
    }
