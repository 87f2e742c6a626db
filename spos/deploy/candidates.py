"""Candidates of a search in INT8: accuracy of the very network that would be deployed.

A path is cut out of the supernet, its BatchNorm statistics are updated and merged, widths are padded, and ranges are
calibrated on the first images of the update, all as `utils.quantize` does it with a trained subnet.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Iterable, Iterator, List, Tuple

from oneshot_nas_network import Supernet
from spos.deploy.calibration import NAIVE
from spos.deploy.flags import CALIBRATION_IMAGES, ExportOptions
from spos.deploy.int8 import CALIBRATION_BATCH
from spos.deploy.quantization import quantize
from spos.deploy.subnet import DeployedSubnet, merge_batch_norm, pad_widths
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.compat import mx
from spos.engine.parameters import parameters_of
from spos.engine.resizing import resized
from spos.execution.scored import Batch
from spos.scoring.accuracy import Accuracy
from spos.scoring.job import ScoringJob, score
from spos.space.architecture import Architecture


def scorer_of(job: ScoringJob) -> Callable[..., Accuracy]:
    """What scores an architecture, and a race if there is one, in the precision of a job; it can be sent anywhere."""
    return partial(score, job, paths=int8_paths) if job.quantized else partial(score, job)


def int8_paths(supernet: Supernet) -> Callable[[Architecture], Int8Path]:
    """The paths of a supernet in INT8, in the place of `PathExecutor.path`."""
    return lambda architecture: Int8Path(supernet, architecture)


class Int8Path:
    """One path in INT8, on the CPU, from its BatchNorm update on."""

    def __init__(self, supernet: Supernet, architecture: Architecture) -> None:
        self._subnet = supernet.extract(architecture)

    @property
    def _size(self) -> int:
        return self._subnet.space.input_size

    def update_batch_norm(self, batches: Iterable[Batch]) -> None:
        """Set the statistics to those of these images, then quantize; the first ones give the ranges."""
        calibration: List[mx.nd.NDArray] = []
        recalibrate_batch_norm(self._subnet, self._first_kept(batches, calibration))
        arrays = {name: value.asnumpy() for name, value in parameters_of(self._subnet).items()}
        trained = DeployedSubnet(self._subnet.space, self._subnet.architecture, arrays)
        deployed = pad_widths(merge_batch_norm(trained), ExportOptions.pad_to)
        self._run = quantize(deployed.network(), calibration, NAIVE)

    def _first_kept(
        self, batches: Iterable[Batch], calibration: List[mx.nd.NDArray]
    ) -> Iterator[Tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        """All images with their labels; the first CALIBRATION_IMAGES go to `calibration` too, in smaller batches."""
        kept = 0
        for batch in batches:
            for images, labels in batch:
                own = resized(images, self._size)
                for start in range(0, min(len(own), CALIBRATION_IMAGES - kept), CALIBRATION_BATCH):
                    calibration.append(own[start : min(start + CALIBRATION_BATCH, CALIBRATION_IMAGES - kept)])
                kept = min(kept + len(own), CALIBRATION_IMAGES)
                yield own, labels

    def logits(self, images: mx.nd.NDArray) -> mx.nd.NDArray:
        """(N, num_classes) of images (N, 3, H, W), after the update."""
        return self._run(resized(images, self._size))
