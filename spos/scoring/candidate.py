"""Accuracy of a candidate: an architecture with the weights of a supernet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, Protocol, Sequence, Tuple

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.pixels import Pixels, load_first_images, load_images
from spos.engine.compat import mx
from spos.execution.scored import Batch, NativeWeightedPath, PathExecutor
from spos.scoring.accuracy import Accuracy, HitCount, mean_accuracy
from spos.scoring.classifier import RidgeClassifier
from spos.scoring.racing import Race
from spos.space.architecture import Architecture


class CandidatePath(Protocol):
    """An architecture with its weights, as `spos.execution.scored.WeightedPath`."""

    def update_batch_norm(self, batches: Iterable[Batch]) -> None:
        """Set the statistics of its BatchNorm layers to those of these images."""

    def logits(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        """(N, num_classes) of images (N, 3, H, W), after the update."""


Paths = Callable[[Architecture], CandidatePath]


@dataclass(frozen=True)
class CandidateEvaluator:
    """Scores an architecture with the weights of a supernet: update BatchNorm statistics, then measure the accuracy.

    The supernet itself is never changed, so the order of evaluations does not matter. With several supernets the
    accuracy is the mean of theirs, and the path has statistics of its own in each.

    Args:
        path: an architecture's path through the supernet (`spos.execution.scored.PathExecutor.path`).
        bn_images: training images of the BatchNorm update (the paper uses 20 000).    images: those that score.
        batch_size: images in each step of all devices together.
        others: the paths through further supernets of the same space.
        refit_images: training images that each path gets a classifier of its own by; None: the supernet's is used.
    """

    path: Paths
    bn_images: Pixels
    images: Pixels
    batch_size: int
    ctx: Tuple[mx.Context, ...]
    others: Tuple[Paths, ...] = ()
    refit_images: Optional[Pixels] = None
    num_classes: int = 0  # that a classifier of its own tells apart

    def __call__(self, architecture: Architecture, race: Optional[Race] = None) -> Accuracy:
        """Accuracy on all images; with a `race` that is lost, on those that were seen until then."""
        paths = [path(architecture) for path in (self.path, *self.others)]
        for path in paths:
            path.update_batch_norm(self.bn_images.batches(self.batch_size, self.ctx))
        refit = self.refit_images
        logits = [path.logits if refit is None else self._refitted(path, refit) for path in paths]
        counts = [HitCount() for _ in paths]
        start, total = 0, self.images.num_images
        for stop in race.looks() if race else (total,):
            for batch in self.images.batches(self.batch_size, self.ctx, start, stop):
                for images, labels in batch:
                    for own, count in zip(logits, counts):
                        count.add(own(images), labels)
            if race and stop < total and race.is_lost_by([count.accuracy().top1_hits for count in counts], stop):
                break
            start = stop
        return mean_accuracy([count.accuracy() for count in counts])

    def _refitted(self, path: Any, images_of_refit: Pixels) -> Callable[[mx.nd.NDArray], mx.nd.NDArray]:
        """Logits of a path by a classifier of its own."""
        if not isinstance(path, NativeWeightedPath):
            raise InputError("--refit-classifier needs the native kernels, on a CPU in float32 (docs/native.md)")
        batches = images_of_refit.batches(self.batch_size, self.ctx)
        classify = RidgeClassifier(
            ((path.features(images), labels.asnumpy()) for batch in batches for images, labels in batch),
            self.num_classes,
        )
        return lambda images: mx.nd.array(classify(path.features(images)))


def candidate_evaluator(
    supernet: Supernet,
    data: DataSet,
    options: DataOptions,
    folder: Path,
    ctx: Sequence[mx.Context],
    dtype: str = "float32",
    split: str = "search_val",
    shared: bool = False,
    others: Sequence[Supernet] = (),
    paths: Optional[Callable[[Supernet], Paths]] = None,
    num_refit_images: int = 0,
) -> CandidateEvaluator:
    """What scores architectures by a supernet on the held-out images (or another split) of a run.

    Args:
        folder: of the run, where images are kept that take too much memory, or that other processes share (`shared`).
        others: further supernets of the same space, for the mean of all.
        paths: what runs the paths of a supernet; by default `PathExecutor.path`.
        num_refit_images: training images of a classifier for each path; 0: the supernet's is used.
    """
    bn_images, images = (load_images(data, name, options, folder, shared) for name in ("bn", split))
    path, *more = (paths(one) if paths else PathExecutor(one, ctx, dtype).path for one in (supernet, *others))
    refit = load_first_images(data, "train", options, num_refit_images) if num_refit_images else None
    batch_size = options.batch_size * len(ctx)
    return CandidateEvaluator(
        path, bn_images, images, batch_size, tuple(ctx), tuple(more), refit, supernet.space.num_classes
    )
