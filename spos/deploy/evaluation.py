"""Evaluation of one network on one list of images: a trained subnet, or an exported file in its own runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError, warn
from spos.core.progress import progress_bar
from spos.data.dataset import DataSet
from spos.data.flags import SCORING_LISTS, DataOptions
from spos.data.loader import ImageLoader, decode_pixels
from spos.data.order import Order
from spos.data.preprocessing import Preparation, Preprocessing
from spos.data.registry import open_data
from spos.data.space import sized_like
from spos.deploy.classification import Predictions
from spos.deploy.exported import ExportedModel
from spos.deploy.flags import TrainedOptions
from spos.deploy.trained import FileOfRun, TrainedSubnet, open_trained
from spos.engine.compat import mx
from spos.engine.devices import make_devices
from spos.engine.flags import DeviceOptions
from spos.execution.inferred import Inference
from spos.runs.run import run_folder
from spos.scoring.accuracy import Accuracy, HitCount
from spos.space.flags import ArchitectureOptions, SpaceOptions, named_architecture

SPLITS = {"train": "train", "train_full": "train_full", **SCORING_LISTS}  # lists of a data set, by --split


@dataclass(frozen=True)
class Evaluation:
    """What came of the images of a list, without those that cannot be decoded.

    Args:
        loss: mean cross-entropy with the labels as they are, in nats.
        predictions: of every image, if they were to be kept.
    """

    accuracy: Accuracy
    loss: float
    predictions: Optional[Predictions] = None

    def to_json(self) -> Dict[str, Any]:
        return {**self.accuracy.to_json(), "loss": self.loss}


@dataclass(frozen=True)
class Subject:
    """A network that is evaluated.

    Args:
        runtime: "mxnet" or "onnxruntime".
        logits: of normalised float32 images (N, 3, S, S) on one of the devices `ctx`.
        options: where its images are.
        preprocessing: how it takes them; None: as the data set says.
    """

    file: FileOfRun
    runtime: str
    num_classes: int
    input_size: int
    logits: Callable[[mx.nd.NDArray], mx.nd.NDArray]
    ctx: Tuple[mx.Context, ...]
    options: DataOptions
    preprocessing: Optional[Preprocessing]

    @classmethod
    def of_subnet(cls, trained: TrainedSubnet, given: DataOptions, devices: DeviceOptions) -> Subject:
        """Raises: InputError if the devices are not there."""
        ctx, net, space = make_devices(devices), trained.subnet.network(), trained.subnet.space
        net.collect_params().reset_ctx(list(ctx))
        net.cast(devices.dtype)
        net.hybridize(static_alloc=True)
        own = trained.recorded_preprocessing()
        return cls(
            trained,
            "mxnet",
            space.num_classes,
            space.input_size,
            partial(_in_precision, Inference(net), devices.dtype),
            ctx,
            trained.data_options(given),
            own and replace(own, input_size=space.input_size, crop_ratio=given.crop_ratio or own.crop_ratio),
        )

    @classmethod
    def of_exported(cls, model: ExportedModel, given: DataOptions) -> Subject:
        """On the CPU. Raises: InputError if the flags ask for images of another size than the network takes."""
        file, own = FileOfRun.at(model.path), model.info.preprocessing
        if given.input_size not in (0, own.input_size):
            raise InputError(f"{model.path} takes images of {own.input_size} px, not --input-size {given.input_size}")
        return cls(
            file,
            model.runtime,
            model.num_classes,
            own.input_size,
            partial(_through_numpy, model),
            (mx.cpu(),),
            replace(file.data_options(given), input_size=own.input_size),
            replace(own, crop_ratio=given.crop_ratio or own.crop_ratio),
        )

    def open_images(self, split: str, folder: Path) -> DataSet:
        """The data set that the options name, with the list of `split`, a key of SPLITS.

        Args:
            folder: for the lists if the network does not lie in a run; to be kept as long as they are read.
        Raises: InputError if the images are not there, or do not fit the network.
        """
        data = self.file.open_images(self.options, self.num_classes, self.input_size)
        if SPLITS[split] not in data.splits:
            data = self.file.with_lists(data, self.options, folder)
        if split == "holdout" and self.file.config.get("options", {}).get("train_on") in ("", "train_full"):
            warn(f"{self.file.path} was trained on these images; --train-on train leaves them out of a training")
        names = self.class_names
        if names and data.class_names and names != data.class_names:
            warn(f"{self.file.path} and {data.name} call the classes differently; labels are compared by their number")
        return data

    @property
    def class_names(self) -> Tuple[str, ...]:
        """As the file calls them; none if it does not say."""
        return self.preprocessing.class_names if self.preprocessing else ()

    def pixels(self, data: DataSet, split: str, positions: Sequence[int]) -> List[np.ndarray]:
        """Images of a list as the network sees them: (S, S, 3) RGB each, 8 bits."""
        return decode_pixels(data.splits[SPLITS[split]], self._preparation(data), positions)

    def _preparation(self, data: DataSet) -> Preparation:
        return (self.preprocessing or data.preprocessing).preparation

    def evaluate(self, data: DataSet, split: str, keeps: bool = False) -> Evaluation:
        """Accuracy and loss.

        Args:
            keeps: the logits of every image too.
        Raises: InputError if logits are not finite, or if an image has no label of the network's classes."""
        loader = ImageLoader(
            data.splits[SPLITS[split]],
            self._preparation(data),
            Order(),
            self.options.batch_size * len(self.ctx),
            self.options.num_workers,
            num_classes=self.num_classes,
            max_bad_images=self.options.max_bad_images,
        )
        count, losses = HitCount(), []
        kept: List[Tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # logits, labels, positions
        batches = progress_bar(loader.epoch(0), desc=split, total=loader.num_batches, unit="batch", leave=True)
        for batch in batches:
            own = []
            for images, labels in zip(*(_shared(array, self.ctx) for array in (batch.images, batch.labels))):
                logits = self.logits(images)
                count.add(logits, labels)
                losses.append(summed_loss(logits, labels))
                own.append(logits)
            if keeps:
                values = np.concatenate([logits.astype("float32").asnumpy() for logits in own])
                kept.append((values, batch.labels.asnumpy().astype(np.int64), batch.positions))
        if not count.num_images:
            raise InputError(f"none of the {loader.num_images} images of {data.name} can be decoded")
        total = sum(loss.asscalar() for loss in losses)
        if not isfinite(total):
            raise InputError(f"{self.file.path} gives logits that are not finite")
        predictions = Predictions(*map(np.concatenate, zip(*kept))) if keeps else None
        return Evaluation(count.accuracy(), float(total) / count.num_images, predictions)


def open_subnet(
    trained: TrainedOptions, named: ArchitectureOptions, space: SpaceOptions, given: DataOptions
) -> TrainedSubnet:
    """As `open_trained`, for the images that `given` names: parameters that lie in no run do not say what they are for.

    Their network has the size and the strides that training would take from these images, or from the space.
    """
    size = given.input_size
    is_alone = Path(trained.params).is_file() and run_folder(trained.params) is None
    record = named_architecture(named, space) if is_alone else None
    if record:
        data = open_data(sized_like(given, record.space))
        size = data.input_size
        if not (space.strides or record.space.fixed_strides):
            space = replace(space, strides=",".join(map(str, data.strides)))
    return open_trained(trained, named, space, size)


def summed_loss(logits: mx.nd.NDArray, labels: mx.nd.NDArray) -> mx.nd.NDArray:
    """Cross-entropy of a batch, added up: (1,) float32. Nothing waits for the device.

    Args:
        logits: (N, classes).    labels: (N,).
    """
    return -mx.nd.pick(mx.nd.log_softmax(logits.astype("float32")), labels, axis=1).sum()


def _shared(array: mx.nd.NDArray, ctx: Tuple[mx.Context, ...]) -> List[mx.nd.NDArray]:
    return mx.gluon.utils.split_and_load(array, list(ctx[: array.shape[0]]), even_split=False)


def _in_precision(net: Inference, dtype: str, images: mx.nd.NDArray) -> mx.nd.NDArray:
    return net(images.astype(dtype, copy=False))


def _through_numpy(model: ExportedModel, images: mx.nd.NDArray) -> mx.nd.NDArray:
    return mx.nd.array(model(images.asnumpy()))
