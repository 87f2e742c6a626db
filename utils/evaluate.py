"""Accuracy and loss of a trained subnet, or of an exported network, on one list of images.

python -m utils.evaluate --params runs/digits/oneshot/model.params
python -m utils.evaluate --params runs/digits/oneshot/checkpoints/epoch-0003/model.params --split holdout
python -m utils.evaluate --params any.params --architecture oneshot-s+ --data-dir data
python -m utils.evaluate --model runs/digits/oneshot/model.onnx --json
python -m utils.evaluate --params runs/digits/oneshot/model.params --details runs/digits/oneshot/evaluation

A file that lies in a run directory is evaluated on the images of the run, in its own lists; flags name others.
Parameters of the original project are taken as they are. Nothing is written but lists of the run that are missing,
and with --details FOLDER:
  evaluation.json     what is printed, by class, the confusion matrix, calibration
  classes.csv, confusion.csv, confusion.png, calibration.png
  worst.png           the images of the largest loss, with what they were taken for
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
from typing import Any, Dict, List, Optional, Sequence, Tuple

from spos.core.errors import InputError
from spos.core.flags import JsonOptions, OneLineParser, changed_flags, flag, pick, positive, run_program
from spos.core.tables import Column, Table, as_csv, table
from spos.data.flags import DataOptions
from spos.deploy.classification import EVALUATION_FILE, NUM_BINS, SHEET_FILE, Predictions, name_of
from spos.deploy.evaluation import SPLITS, Subject, open_subnet
from spos.deploy.exported import FILES, open_model
from spos.deploy.flags import TrainedOptions
from spos.engine.flags import DeviceOptions
from spos.runs.files import check_output, write_atomic, write_json
from spos.space.flags import ArchitectureOptions, SpaceOptions
from utils.plot.classification import calibration_figure, confusion_figure, contact_sheet
from utils.plot.style import save

SHOWN_CLASSES = 5  # of the weakest


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
    details: str = flag("", "folder for what is right and wrong by class, how sure it is, and the worst images")
    worst: int = flag(40, "images on the contact sheet of --details", type=positive)


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
    if options.details:
        check_output(Path(options.details) / EVALUATION_FILE)
    elif changed_flags(options, ("worst",)):
        raise InputError("--worst is for --details")
    subject = open_subject(options.model, args)
    with tempfile.TemporaryDirectory() as folder:
        data = subject.open_images(options.split, Path(folder))
        found = subject.evaluate(data, options.split, keeps=bool(options.details))
        if found.predictions:
            chosen = found.predictions.worst(options.worst)
            pixels = subject.pixels(data, options.split, found.predictions.positions[chosen].tolist())
    result = {
        "file": str(subject.file.path),
        "runtime": subject.runtime,
        "data": data.name,
        "split": options.split,
        **found.to_json(),
    }
    names = subject.class_names or data.class_names
    if found.predictions:
        result.update(found.predictions.to_json(names))
        write_details(Path(options.details), result, found.predictions, names)
        save(contact_sheet(pixels, chosen, found.predictions, names), str(Path(options.details) / SHEET_FILE))
    print(json.dumps(result) if pick(JsonOptions, args).json else report(result, options.details))
    return 0


def write_details(folder: Path, result: Dict[str, Any], predictions: Predictions, names: Sequence[str]) -> None:
    """All files of --details but the contact sheet."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / EVALUATION_FILE, result)
    labels = [name_of(label, names) for label in range(predictions.num_classes)]
    write_atomic(folder / "classes.csv", as_csv(class_table(result["classes"])).encode())
    confusion = Table("", (Column("class"), *map(Column, labels)), _named_rows(labels, predictions))
    write_atomic(folder / "confusion.csv", as_csv(confusion).encode())
    save(confusion_figure(predictions, names), str(folder / "confusion.png"))
    save(calibration_figure(predictions), str(folder / "calibration.png"))


def _named_rows(labels: Sequence[str], predictions: Predictions) -> Tuple[Tuple[Any, ...], ...]:
    return tuple((name, *row) for name, row in zip(labels, predictions.confusion.tolist()))


def class_table(classes: Sequence[Dict[str, Any]]) -> Table:
    """A row for each class."""
    columns = (
        Column("class"),
        Column("num_images", "images", spec=","),
        Column("top1", "top-1", spec=".2%"),
        Column("low", "95% from", spec=".2%"),
        Column("high", "to", spec=".2%"),
        Column("precision", spec=".2%"),
        Column("mistaken_for", "mistaken for"),
    )
    rows = [
        (one["class"], one["num_images"], one["top1"], *(one["top1_interval"] or (None, None)), one["precision"])
        + (one["mistaken_for"],)
        for one in classes
    ]
    return Table("", columns, tuple(rows))


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


def report(result: Dict[str, Any], folder: str = "") -> str:
    """The result for eyes."""
    low, high = result["top1_interval"]
    details = []
    if folder:
        seen = [one for one in result["classes"] if one["num_images"]]
        weakest = sorted(seen, key=lambda one: one["top1"])[:SHOWN_CLASSES]
        details = [
            ("mean of the classes", f"{result['mean_class_top1']:.2%} ({len(seen)} classes with images, each alike)"),
            ("weakest classes", ", ".join(f"{one['class']} {one['top1']:.1%}" for one in weakest)),
            ("calibration error", f"{result['calibration_error']:.2%} (ECE, {NUM_BINS} bins)"),
            ("written to", folder),
        ]
    return table(
        [
            ("network", f"{result['file']} ({result['runtime']})"),
            ("images", f"{result['split']} of {result['data']}"),
            ("top-1", f"{result['top1']:.2%} (95% interval {low:.2%} to {high:.2%}, {result['num_images']} images)"),
            ("top-5", f"{result['top5']:.2%}"),
            ("loss", f"{result['loss']:.4f}"),
            *details,
        ]
    )


if __name__ == "__main__":
    sys.exit(run_program(main))
