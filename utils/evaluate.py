"""Accuracy and loss of a trained subnet, or of an exported network, on one list of images.

python -m utils.evaluate --params runs/digits/oneshot/model.params
python -m utils.evaluate --params runs/digits/oneshot/checkpoints/epoch-0003/model.params --split holdout
python -m utils.evaluate --params any.params --architecture oneshot-s+ --data-dir data
python -m utils.evaluate --model runs/digits/oneshot/model.onnx --json

A file that lies in a run directory is evaluated on the images of the run, in its own lists; flags name others.
Parameters of the original project are taken as they are. Nothing is written but lists of the run that are missing.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import json
import sys
import tempfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, OneLineParser, changed_flags, flag, pick, run_program
from spos.core.tables import table
from spos.data.flags import DataOptions
from spos.deploy.evaluation import SPLITS, Subject, open_subnet
from spos.deploy.exported import FILES, open_model
from spos.deploy.flags import TrainedOptions
from spos.engine.flags import DeviceOptions
from spos.space.flags import ArchitectureOptions, SpaceOptions


@dataclass(frozen=True)
class EvaluateOptions:
    """On which images, and another network than --params."""

    split: str = flag(
        "val",
        "val: the validation images; holdout: those that score candidates; train: what both leave of the training "
        "images, train_full: all of these",
        choices=tuple(SPLITS),
    )
    model: str = flag("", f"exported network instead of --params: {FILES}")


GROUPS = (
    EvaluateOptions,
    TrainedOptions,
    ArchitectureOptions,
    SpaceOptions,
    DataOptions,
    DeviceOptions,
    JsonOptions,
)


def main(argv: Optional[List[str]] = None) -> int:
    args = OneLineParser(__doc__, GROUPS).parse_args(argv)
    options = pick(EvaluateOptions, args)
    subject = open_subject(options.model, args)
    with tempfile.TemporaryDirectory() as folder:
        data = subject.open_images(options.split, Path(folder))
        found = subject.evaluate(data, options.split)
    result = {
        "file": str(subject.file.path),
        "runtime": subject.runtime,
        "data": data.name,
        "split": options.split,
        **found.to_json(),
    }
    print(json.dumps(result) if pick(JsonOptions, args).json else report(result))
    return 0


def open_subject(model: str, args: Namespace) -> Subject:
    """The network that the flags name."""
    given, devices = pick(DataOptions, args), pick(DeviceOptions, args)
    trained, named, space = pick(TrainedOptions, args), pick(ArchitectureOptions, args), pick(SpaceOptions, args)
    if not model:
        return Subject.of_subnet(open_subnet(trained, named, space, given), given, devices)
    wrong = [name for group in (trained, named, space, devices) for name in changed_flags(group)]
    if wrong:
        raise InputError(f"{wrong[0]} is for --params; --model {model} says itself what it is, and runs on the CPU")
    return Subject.of_exported(open_model(model), given)


def report(result: Dict[str, Any]) -> str:
    """The result for eyes."""
    low, high = result["top1_interval"]
    return table(
        [
            ("network", f"{result['file']} ({result['runtime']})"),
            ("images", f"{result['split']} of {result['data']}"),
            ("top-1", f"{result['top1']:.2%} (95% interval {low:.2%} to {high:.2%}, {result['num_images']} images)"),
            ("top-5", f"{result['top5']:.2%}"),
            ("loss", f"{result['loss']:.4f}"),
        ]
    )


if __name__ == "__main__":
    sys.exit(run_program(main))
