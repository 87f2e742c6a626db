"""The export of a trained subnet: from its parameters to files that were compared with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import List, Sequence, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.flags import fill
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.pixels import remove_images
from spos.data.preprocessing import LARGEST_SIZE
from spos.deploy.exported import ONNX, PARAMS, SYMBOL
from spos.deploy.flags import ExportOptions, Int8Options, TrainedOptions
from spos.deploy.formats import FORMAT_CLASSES, Format, publish
from spos.deploy.int8 import Images, Quantized, quantize_subnet
from spos.deploy.model_info import MOST_PADDING, ModelInfo
from spos.deploy.parity import RUNTIME_TOLERANCE, Logits, check_equal, check_int8, random_images, tolerance_of
from spos.deploy.subnet import as_function, merge_batch_norm, pad_widths
from spos.deploy.trained import TrainedSubnet, open_trained
from spos.runs.files import PathLike, check_output
from spos.space.flags import ArchitectureOptions, SpaceOptions

CHECKED_BATCHES = 3  # of calibration images


@dataclass(frozen=True)
class Export:
    """One subnet on its way to its files.

    Args:
        maker: of the merged and padded subnet, in the form of a runtime.
        names: of its parameters.
        name: of the files, without suffix.
        plain: logits of the subnet as it was trained, in MXNet.
    """

    trained: TrainedSubnet
    maker: Format
    names: Tuple[str, ...]
    name: Path
    plain: Logits

    @classmethod
    def of(cls, trained: TrainedSubnet, form: str, name: Path, options: ExportOptions, data: DataOptions) -> Export:
        """Raises: InputError if the files cannot be written or read, or if nothing says how images are prepared."""
        if options.pad_to > MOST_PADDING:
            raise InputError(f"--pad-to {options.pad_to} is more than {MOST_PADDING}")
        if trained.subnet.space.input_size > LARGEST_SIZE:
            raise InputError(
                f"{trained.subnet.space.input_size} px are more than the {LARGEST_SIZE} that files may say"
            )
        check_output(name.with_name(f"{name.name}.onnx"))
        preprocessing = trained.preprocessing(data, options.class_names)
        info = ModelInfo(preprocessing, trained.record.to_json(), pad_to=options.pad_to)
        subnet = pad_widths(merge_batch_norm(trained.subnet), options.pad_to)
        maker = FORMAT_CLASSES[form](subnet, info, options.shuffle_by_conv)
        return cls(trained, maker, tuple(subnet.arrays), name, as_function(trained.subnet.network()))

    def float32(self) -> Tuple[float, List[Path]]:
        """Write the float32 files. Returns the difference of their logits from `plain`, and the files.

        Raises: InputError if they differ by more than RUNTIME_TOLERANCE; nothing is written then.
        """
        images = random_images(self.trained.subnet.space.input_size)
        return publish(self.maker.float32(), self.name, partial(self._difference, images))

    def int8(self, data: DataSet, given: DataOptions, options: Int8Options) -> Tuple[Quantized, float, List[Path]]:
        """Write the INT8 files. Returns how they were made, the RMS error of their logits, and the files.

        Raises: InputError if the images are not there, or if the error is above --int8-error-max.
        """
        images = Images.load(data, given, options, self.name.parent)
        quantized = quantize_subnet(self.maker, self.names, images, options)
        remove_images(self.name.parent)
        check = partial(self._int8_error, images.calibration[:CHECKED_BATCHES], options.int8_error_max)
        return (quantized, *publish(quantized.network, self.name, check))

    def _difference(self, images: np.ndarray, logits: Logits) -> float:
        tolerance = tolerance_of(self.plain, images, RUNTIME_TOLERANCE)
        return check_equal(self.plain(images), logits(images), tolerance, "the exported network's logits")

    def _int8_error(self, batches: Sequence[np.ndarray], error_max: float, logits: Logits) -> float:
        expected, given = (np.concatenate([network(batch) for batch in batches]) for network in (self.plain, logits))
        return check_int8(expected, given, error_max)


def export_model(
    params: PathLike,
    format: str = "onnx",
    output: PathLike = "",
    class_names: PathLike = "",
    pad_to: int = ExportOptions.pad_to,
) -> Path:
    """Export a trained subnet in float32, with its BatchNorm merged, and compare what was written with it.

    Args:
        params: parameters of the run of a subnet, like `runs/oneshot/model.params`: the run says of which architecture
            they are and how images are prepared.
        format: "onnx" for ONNX Runtime and others, "mxnet" for the symbol and parameters of MXNet.
        output: NAME of the files NAME.onnx, or NAME-symbol.json and NAME-0000.params; that of `params` by default.
        class_names: text file with the name of a class in each line; those of the data set by default.
        pad_to: middle widths are padded with zeros to a multiple of this, for fast kernels.
    Returns: the file that `open_model` opens.
    Raises: InputError if the parameters cannot be used, if `format` is unknown, or if what was written gives other
        logits; nothing is written then.
    """
    options = fill(ExportOptions, output=str(output), class_names=str(class_names), pad_to=pad_to)
    if format not in FORMAT_CLASSES:
        raise InputError(f"unknown format '{format}'; known: {', '.join(FORMAT_CLASSES)}")
    trained = open_trained(TrainedOptions(str(params)), ArchitectureOptions(), SpaceOptions())
    name = output_name(trained.path, "float32", options.output)
    data = trained.data_options(DataOptions())
    _, files = Export.of(trained, format, name, options, data).float32()
    return files[0]


def output_name(params: Path, dtype: str, given: str = "") -> Path:
    """What the files are called, without their ends; by default like the parameters, beside them.

    Raises: InputError if a folder is given.
    """
    for end in (ONNX, SYMBOL, PARAMS):
        if given.endswith(end):
            return Path(given[: -len(end)])
    if given and (given.endswith("/") or Path(given).is_dir()):
        raise InputError(f"--output {given} is a folder; give the name of the files in it, without their ends")
    return Path(given or f"{params.with_suffix('')}{'-int8' if dtype == 'int8' else ''}")


def describe_files(files: Sequence[Path]) -> List[Tuple[str, str]]:
    """Rows for the files that were written."""
    return [("file", f"{file} ({file.stat().st_size / 1e6:.2f} MB)") for file in files]
