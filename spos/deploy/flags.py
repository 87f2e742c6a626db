"""Flags that the tools of deployment share."""

from __future__ import annotations

from dataclasses import dataclass

from spos.core.errors import InputError
from spos.core.flags import changed_flags, flag, positive, positive_number
from spos.engine.forms import CHANNELS_OF_KERNELS

FORMATS = ("onnx", "mxnet")
CALIBRATIONS = ("naive", "percentile", "entropy")
BEST = "best"
CALIBRATION_IMAGES = 500
PERCENTILE = 99.99


@dataclass(frozen=True)
class TrainedOptions:
    """The trained subnet. If it lies in a run directory, the run says of which architecture it is."""

    params: str = flag("runs/oneshot/model.params", "its parameters: of a run, of a checkpoint, or merged ones")


@dataclass(frozen=True)
class ExportOptions:
    """What is written. BatchNorm is merged always."""

    output: str = flag(
        "", "NAME of the files NAME.onnx, or NAME-symbol.json and NAME-0000.params (default: that of --params)"
    )
    class_names: str = flag("", "text file with the name of a class in each line (default: those of the data set)")
    pad_to: int = flag(
        CHANNELS_OF_KERNELS,
        "pad middle widths with zeros to a multiple of this, for fast kernels (1: not at all)",
        type=positive,
    )
    shuffle_by_conv: bool = flag(False, "channel shuffles as constant 1x1 convolutions, for what cannot reshape")


@dataclass(frozen=True)
class Int8Options:
    """INT8: what gives the range of every tensor, and what stays in float32."""

    calibration: str = flag(
        "naive",
        "naive: smallest and largest value, percentile: without the most extreme values, entropy: least loss of "
        "information, best: the one with the best accuracy on held-out images",
        choices=(*CALIBRATIONS, BEST),
    )
    percentile: float = flag(PERCENTILE, "of the absolute values, for --calibration percentile", type=positive_number)
    calibration_images: int = flag(
        CALIBRATION_IMAGES, "images of the BatchNorm update list to calibrate on (fewer if it has fewer)", type=positive
    )
    float_first_conv: bool = flag(False, "leave the first convolution in float32")
    float_se: bool = flag(False, "leave squeeze-and-excite in float32")
    int8_error_max: float = flag(
        0.5, "refuse a file whose logits are off by more than this part of themselves (RMS)", type=positive_number
    )


def check_int8_flags(options: Int8Options, is_int8: bool = True) -> None:
    """Raise InputError for a flag that nothing reads."""
    if not is_int8:
        for name in changed_flags(options):
            raise InputError(f"{name} is for INT8; --dtype int8 is missing")
    if changed_flags(options, ("percentile",)) and options.calibration not in ("percentile", BEST):
        raise InputError(f"--percentile is for --calibration percentile or {BEST}, not for {options.calibration}")
