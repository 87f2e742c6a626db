"""Validation at the end of an epoch."""

from __future__ import annotations

from typing import Any, Callable, Dict

from spos.core.seeds import derive_rng
from spos.data.pixels import Pixels
from spos.engine.compat import mx
from spos.sampling.warm_up import Policy
from spos.scoring.accuracy import evaluate
from spos.scoring.candidate import CandidateEvaluator


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
    accuracy = evaluate(lambda images: net(images.astype(dtype)), load().batches(batch_size, ctx))
    net.cast(dtype)
    return {"val_top1": accuracy.top1, "val_top5": accuracy.top5, "val_images": accuracy.num_images}


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
