"""Flags of the autopilot: what you have, and values of the plan that you decide yourself."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, fields
from typing import Any, Dict, Iterator, Optional

from spos.core.errors import InputError
from spos.core.flags import below_one, flag, fraction, not_negative, positive_number
from spos.space.space_file import shipped_spaces

DEFAULT_SAVE_DIR = "runs/autopilot"
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "kib": 2**10, "mib": 2**20}
LEAST_MINUTES = 3.0
LIMITS = ("flops_max_m", "params_max_m", "latency_max", "model_size_max")


def size_in_bytes(text: str) -> int:
    """Bytes of a size like 2MB, 500 KiB or 100000."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*([a-z]*)", text.strip().lower())
    if not found or found[2] not in _UNITS:
        raise argparse.ArgumentTypeError(f"must be a size like 2MB, 500KiB or 100000, not {text}")
    value = round(float(found[1]) * _UNITS[found[2]])
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least one byte, not {text}")
    return value


@dataclass(frozen=True)
class AutopilotOptions:
    """What you have: images, a limit, and time."""

    data_dir: str = flag(
        "",
        "the images: a folder with train/, val/, test/ or a sub-folder per class; a CSV file with path,label; a folder "
        "with train.rec and val.rec; or the word digits",
    )
    flops_max_m: float = flag(0.0, "largest FLOPs of the network, in millions", type=positive_number)
    params_max_m: float = flag(0.0, "largest number of parameters, in millions", type=positive_number)
    latency_max: float = flag(0.0, "largest latency on this machine, in ms (one image, MXNet)", type=positive_number)
    model_size_max: int = flag(0, "largest ONNX file in float32, like 2MB", type=size_in_bytes)
    hours: float = flag(0.0, "hours that everything may take together", type=positive_number)
    save_dir: str = flag(DEFAULT_SAVE_DIR, "folder of everything that is made")
    seed: Optional[int] = flag(None, "seed of everything random [0, or that of --plan]", type=not_negative)
    plan: str = flag("", "a plan.json to follow to the letter, in the place of a new plan")
    plan_only: bool = flag(False, "write the plan, and stop")

    @property
    def limits(self) -> Dict[str, float]:
        """Those that are given, by their flag."""
        return {name: getattr(self, name) for name in LIMITS if getattr(self, name)}


@dataclass(frozen=True)
class ValueOptions:
    """Values of the plan that you decide yourself; it decides what is left at 0 or empty."""

    space: str = flag("", f"search space: one that ships ({', '.join(shipped_spaces())}), or a space file")
    strides: str = flag("", "stride plan: stem, then each stage")
    input_size: int = flag(0, "height and width of the network's input", type=not_negative)
    batch_size: int = flag(0, "images in a step", type=not_negative)
    supernet_epochs: int = flag(0, "epochs of the supernet", type=not_negative)
    evaluations: int = flag(0, "architectures that the search scores", type=not_negative)
    finalists: int = flag(
        -1, "architectures that are told apart by training them a little [planned]", type=not_negative
    )
    final_epochs: int = flag(0, "epochs of the final network and of its control", type=not_negative)
    test_share: float = flag(
        0.0, "share of each class that tests, where nobody has set test images aside", type=below_one
    )
    int8_loss_max: float = flag(
        0.01,
        "top-1 that the INT8 file may lose and still be the one to deploy, on the images that scored candidates, which "
        "the final network is trained on too",
        type=fraction,
    )
    max_bad_images: int = flag(
        -1, "undecodable images that packing may leave out [10, or a thousandth of all]", type=not_negative
    )
    jobs: int = flag(0, "threads of all work together [the physical cores]", type=not_negative)

    def given(self) -> Dict[str, Any]:
        """Those that differ from their default, by name."""
        return {
            item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name) != item.default
        }


def check_options(options: AutopilotOptions, values: ValueOptions) -> None:
    """Raise InputError if something is missing, or contradicts something else."""
    for message in _complaints(options, values):
        raise InputError(message)


def _complaints(options: AutopilotOptions, values: ValueOptions) -> Iterator[str]:
    if options.plan:
        if values.given():
            name = next(iter(values.given())).replace("_", "-")
            yield f"--plan {options.plan} says every value; change it there, and leave out --{name}"
        if options.plan_only:
            yield "--plan has a plan already; --plan-only makes one"
        return
    if not options.data_dir:
        yield "--data-dir is missing: the images, or the word digits for those inside the installation"
    if not options.limits:
        yield (
            "there is no limit: give --flops-max-m 60, --params-max-m 1, --latency-max 5 (ms) or --model-size-max 2MB"
        )
    if not options.hours:
        yield "--hours is missing: how long everything may take, like --hours 1"
    if options.hours * 60 < LEAST_MINUTES:
        yield (
            f"--hours {options.hours:g} are {options.hours * 60:.1f} minutes, a part of which planning takes; give at "
            f"least {LEAST_MINUTES / 60:g}"
        )
