"""Quantize a trained subnet to INT8 and report what that costs and brings: accuracy, size, speed.

python -m utils.quantize --params runs/digits/oneshot/model.params
python -m utils.quantize --params runs/digits/oneshot/model.params --format onnx --calibration best
python -m utils.quantize --params runs/oneshot/model.params --test-images 1000 --float-first-conv --float-se

BatchNorm is merged. Calibrated on images of the run's own BatchNorm update list; --calibration best tries all and takes
the one with the best accuracy on the list that scored candidates; the accuracies that are printed are those of the test
images, before and after. mxnet: oneDNN's 8-bit kernels, in a symbol and parameters that plain MXNet reads. onnx: ONNX
Runtime's own quantizer.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from spos.core.flags import JsonOptions, OneLineParser, flag, not_negative, pick, run_program
from spos.core.tables import table
from spos.core.timing import Rounds, time_in_turns
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.pixels import load_first_images, load_images, remove_images
from spos.deploy.evaluation import open_subnet
from spos.deploy.export import Export, output_name
from spos.deploy.exported import open_model
from spos.deploy.flags import FORMATS, ExportOptions, Int8Options, TrainedOptions, check_int8_flags
from spos.deploy.int8 import accuracy
from spos.deploy.parity import Logits, random_images
from spos.deploy.subnet import DeployedSubnet, as_function
from spos.space.flags import ArchitectureOptions, SpaceOptions

BATCHES = (1, 32)
ROUNDS = Rounds(least=5, most=15, error=0.02)


@dataclass(frozen=True)
class QuantizeOptions:
    """For which runtime, and how much is measured."""

    format: str = flag("mxnet", "runtime that quantizes and runs", choices=FORMATS)
    test_images: int = flag(0, "images of the test list that tell the accuracy (0: all)", type=not_negative)


GROUPS = (
    TrainedOptions,
    QuantizeOptions,
    ExportOptions,
    Int8Options,
    ArchitectureOptions,
    SpaceOptions,
    DataOptions,
    JsonOptions,
)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    own, options, int8 = pick(QuantizeOptions, args), pick(ExportOptions, args), pick(Int8Options, args)
    named, space, given = pick(ArchitectureOptions, args), pick(SpaceOptions, args), pick(DataOptions, args)
    check_int8_flags(int8)
    trained = open_subnet(pick(TrainedOptions, args), named, space, given)
    data_options = trained.data_options(given)
    name = output_name(trained.path, "int8", options.output)
    with tempfile.TemporaryDirectory() as scratch:
        data = trained.open_data(data_options, Path(scratch))
        export = Export.of(trained, own.format, name, options, data_options)
        result = measure(own, export, data, data_options, int8)
    remove_images(name.parent)
    print(json.dumps(result) if pick(JsonOptions, args).json else report(result))
    return 0


def measure(
    own: QuantizeOptions, export: Export, data: DataSet, data_options: DataOptions, int8: Int8Options
) -> Dict[str, Any]:
    """Write the files, and give what is reported."""
    quantized, error, files = export.int8(data, data_options, int8)
    trained, name = export.trained, export.name
    if own.test_images:
        images = load_first_images(data, "test", data_options, own.test_images)
    else:
        images = load_images(data, "test", data_options, name.parent)
    after = open_model(files[0])
    return {
        "calibration": quantized.calibration,
        "calibration_images": min(int8.calibration_images, len(data.splits["bn"])),
        "held_out": {name: one.to_json() for name, one in quantized.tried.items()},
        "logits_rms_error": error,
        "accuracy": {
            "float32": accuracy(export.plain, images, "float32").to_json(),
            "int8": accuracy(after, images, "INT8").to_json(),
        },
        "bytes": {"float32": trained.path.stat().st_size, "int8": sum(file.stat().st_size for file in files)},
        "milliseconds": {str(batch): measure_speed(trained.subnet, after, batch) for batch in BATCHES},
        "files": [str(file) for file in files],
    }


def measure_speed(subnet: DeployedSubnet, int8: Logits, batch_size: int) -> Dict[str, float]:
    """Milliseconds of a batch by the plain hybridized float32 network and in INT8, taking turns."""
    plain = subnet.network()
    plain.hybridize(static_alloc=True, static_shape=True)
    images = random_images(subnet.space.input_size, batch_size)
    rng = np.random.default_rng(0)
    reference, run = (partial(logits, images) for logits in (as_function(plain), int8))
    (timing,), seconds = time_in_turns(reference, [run], "wall", ROUNDS, rng)
    return {"float32": 1000 * seconds, "int8": 1000 * seconds * timing.ratio}


def report(result: Mapping[str, Any]) -> str:
    """The result for eyes."""
    rows = [("calibration", f"{result['calibration']}, {result['calibration_images']} images")]
    for name, one in result["held_out"].items():
        rows.append((f"  {name}", f"held-out top-1 {one['top1']:.2%} ({one['num_images']} images)"))
    rows.append(("logits", f"off by {result['logits_rms_error']:.1%} of themselves (RMS)"))
    before, after = (result["accuracy"][dtype] for dtype in ("float32", "int8"))
    low, high = after["top1_interval"]
    rows.append(
        (
            "test top-1",
            f"{before['top1']:.2%} float32, {after['top1']:.2%} INT8 (95% interval {low:.2%} to {high:.2%}, "
            f"{after['num_images']} images)",
        )
    )
    before, after = (result["bytes"][dtype] / 1e6 for dtype in ("float32", "int8"))
    rows.append(("size", f"{before:.2f} MB float32, {after:.2f} MB INT8"))
    for batch, one in result["milliseconds"].items():
        ratio = one["float32"] / one["int8"]
        rows.append(
            (f"batch {batch}", f"{one['float32']:.2f} ms float32 hybridized, {one['int8']:.2f} ms INT8: {ratio:.2f} x")
        )
    return table([*rows, *(("file", file) for file in result["files"])])


if __name__ == "__main__":
    sys.exit(run_program(main))
