"""INT8 of a trained subnet on the images of its run: calibration, the choice of it, accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, List, Mapping, Optional

import numpy as np

from spos.core.progress import progress_bar
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.pixels import Pixels, load_first_images, load_images
from spos.deploy.calibration import Calibration
from spos.deploy.flags import BEST, CALIBRATIONS, Int8Options
from spos.deploy.formats import Converted, Format
from spos.deploy.parity import Logits
from spos.engine.compat import mx
from spos.scoring.accuracy import Accuracy, evaluate
from spos.space.names import float_layers

CALIBRATION_BATCH = 10  # images
BATCH = 50  # of measuring an accuracy


@dataclass(frozen=True)
class Images:
    """The lists of a run that INT8 needs.

    Args:
        calibration: batches (N, 3, S, S) float32, normalised.
        held_out: those that choose the calibration; None if nothing is to be chosen.
    """

    calibration: List[np.ndarray]
    held_out: Optional[Pixels]

    @classmethod
    def load(cls, data: DataSet, options: DataOptions, int8: Int8Options, folder: Path) -> Images:
        """Raises: InputError if the images are not there."""
        bn_images = load_first_images(data, "bn", options, int8.calibration_images)
        held_out = load_images(data, "search_val", options, folder) if int8.calibration == BEST else None
        batches = bn_images.batches(CALIBRATION_BATCH, [mx.cpu()])
        return cls([images.asnumpy() for ((images, _),) in batches], held_out)


@dataclass(frozen=True)
class Quantized:
    """The INT8 network, the calibration it has, and the held-out accuracy of all that were tried."""

    network: Converted
    calibration: str
    tried: Mapping[str, Accuracy]


def quantize_subnet(maker: Format, names: Iterable[str], images: Images, options: Int8Options) -> Quantized:
    """The INT8 version of what `maker` makes; with `--calibration best`, that of the best held-out accuracy.

    Equally good ones: the first of CALIBRATIONS.

    Args:
        names: of the parameters that the network has.
    """
    exclude = float_layers(names, first_conv=options.float_first_conv, se=options.float_se)
    methods = CALIBRATIONS if options.calibration == BEST else (options.calibration,)
    networks = {
        name: maker.int8(images.calibration, Calibration(name, options.percentile), exclude) for name in methods
    }
    if options.calibration != BEST:
        return Quantized(networks[options.calibration], options.calibration, {})
    if images.held_out is None:
        raise ValueError("the best calibration is that of the best accuracy on held-out images; none were loaded")
    tried = {name: accuracy(one.logits, images.held_out, name) for name, one in networks.items()}
    best = max(CALIBRATIONS, key=lambda name: tried[name].top1_hits)
    return Quantized(networks[best], best, tried)


def accuracy(logits: Logits, images: Pixels, what: str) -> Accuracy:
    """Of a network from NumPy to NumPy, with a progress bar."""
    batches, count = images.batches(BATCH, [mx.cpu()]), -(-images.num_images // BATCH)
    bar = progress_bar(batches, desc=f"accuracy, {what}", total=count, unit="batch", leave=True)
    return evaluate(lambda batch: mx.nd.array(logits(batch.asnumpy())), bar)
