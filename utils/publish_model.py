"""A trained subnet as a folder that can be given away: ONNX files, parameters, and a card.

python -m utils.publish_model --params runs/digits/oneshot/model.params --output models/digits
python -m utils.publish_model --params runs/m-0/model-ema.params --output models/cifar10-m \\
    --seeds runs/m-0 runs/m-1 runs/m-2 --controls runs/random-0 runs/random-1 runs/random-2

Needs the images of the run. The folder holds
  model.onnx, model-int8.onnx   BatchNorm merged, calibrated as held-out images have it best
  model.params, config.json     for fine-tuning (--init-params) and every tool that takes parameters; no places of the
                                machine that trained them
  card.json, README.md          architecture, cost, recipe, hours, test top-1 of both files, checksums

--seeds are trainings of the same network, --controls of random ones: their mean test top-1 stands in the card, by
averaged weights where a run has them.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, cast

from msgspec import to_builtins

from spos.core.errors import InputError
from spos.core.flags import OneLineParser, flag, pick, run_program
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.deploy.card import CARD_FILE, CARD_PAGE, Card, FileCard, Trainings, card_page, recipe_of, without_places
from spos.deploy.evaluation import Subject
from spos.deploy.export import Export
from spos.deploy.exported import INT8_NAME, NAME, open_model
from spos.deploy.flags import BEST, ExportOptions, Int8Options, TrainedOptions
from spos.deploy.trained import TrainedSubnet, open_trained
from spos.engine.flags import TrainDeviceOptions
from spos.runs.files import file_digest, write_atomic, write_json
from spos.runs.run import (
    BEST_MODEL_FILE,
    CONFIG_FILE,
    CONTENTS,
    DATA_PATHS,
    FILES_OF_A_RUN,
    INPUTS_OF_A_RUN,
    LOG_FILE,
    MODEL_FILE,
    NAMES_OF_FLAGS,
    NOT_PART_OF_A_RUN,
    SUBNET_RUN,
    RunDirectory,
    open_run_directory,
)
from spos.space.architecture_file import parse_architecture
from spos.space.cost import count_architecture
from spos.space.flags import ArchitectureOptions, SpaceOptions
from spos.training.flags import (
    HELD_OUT,
    TEST_IMAGES,
    TeacherOptions,
    TrainOptions,
    images_of_a_step,
    validated_on,
)
from spos.training.log import EpochRow, training_hours, validated_top1
from spos.training.recipes import recipe_values
from utils.summarize import last_validated

CHOICES = tuple(field.name for field in fields(ArchitectureOptions))


@dataclass(frozen=True)
class PublishOptions:
    """Where to, and what the card says that the run does not know."""

    output: str = flag("", "folder that is made, like models/NAME")
    note: str = flag("", "a sentence on the images and their licence")


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (TrainedOptions, PublishOptions, DataOptions))
    for name, what in (("seeds", "the same network with other seeds"), ("controls", "random networks, trained alike")):
        parser.add_argument(f"--{name}", nargs="+", type=Path, default=[], metavar="RUN", help=f"runs of {what}")
    args = parser.parse_args(argv)
    options = pick(PublishOptions, args)
    if not options.output:
        raise InputError("--output is missing: the folder that is made, like models/NAME")
    folder = Path(options.output)
    if folder.exists() and not (folder / CARD_FILE).is_file():
        raise InputError(f"--output {folder} is there, and is no published network")
    trained = open_trained(pick(TrainedOptions, args), ArchitectureOptions(), SpaceOptions())
    run = run_of(trained)
    seeds = [trainings(args.seeds, run, is_control=False)] if args.seeds else []
    controls = [trainings(args.controls, run, is_control=True)] if args.controls else []
    given = trained.data_options(pick(DataOptions, args))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        data = trained.open_data(given, Path(scratch))
        new = Path(scratch) / folder.name
        new.mkdir()
        files, num_images = write_files(trained, data, given, new)
        card = make_card(folder.name, trained, run, data, files, num_images, seeds, controls, options.note)
        write_json(new / CONFIG_FILE, without_places(trained.config))
        write_json(new / CARD_FILE, to_builtins(card))
        write_atomic(new / CARD_PAGE, card_page(card))
        if folder.exists():
            os.replace(folder, Path(scratch) / "before")
        os.replace(new, folder)
    print(card_page(card))
    return 0


def run_of(trained: TrainedSubnet) -> RunDirectory:
    """Raises: InputError if the parameters are not those that a run of a subnet has left, or chosen by test images."""
    if trained.run is None:
        raise InputError(f"{trained.path} lies in no run, so nothing says how it was trained")
    run = open_run_directory(trained.run)
    if run.kind != SUBNET_RUN:
        raise InputError(f"{trained.run} is no run of a subnet")
    last_validated(trained.run)
    if not trained.subnet.bn:
        raise InputError(f"{trained.path} has its BatchNorm merged, so nothing can go on from it; publish {MODEL_FILE}")
    if Path(trained.path).resolve().parent != Path(trained.run).resolve():
        raise InputError(f"{trained.path} is a checkpoint; publish what its training has left in {trained.run}")
    if Path(trained.path).name == BEST_MODEL_FILE and validated_on(run.options) != HELD_OUT:
        raise InputError(
            f"{trained.path} was chosen by the test images, which would say too much of it; publish {MODEL_FILE}, or "
            "train with --train-on train --val-on holdout"
        )
    return run


def write_files(
    trained: TrainedSubnet, data: DataSet, given: DataOptions, folder: Path
) -> Tuple[Dict[str, FileCard], int]:
    """Write parameters and both ONNX files. Returns what the card says of the latter, and by how many images."""
    shutil.copyfile(trained.path, folder / MODEL_FILE)
    found = {}
    for name in (NAME, INT8_NAME):
        export = Export.of(trained, "onnx", folder / name, ExportOptions(), given)
        files = export.float32()[1] if name == NAME else export.int8(data, given, Int8Options(calibration=BEST))[2]
        accuracy = Subject.of_exported(open_model(files[0]), given).evaluate(data, "val").accuracy
        size, interval = files[0].stat().st_size, list(accuracy.interval())
        found[files[0].name] = FileCard(file_digest(files[0]), size, accuracy.top1, interval)
    return found, accuracy.num_images


def make_card(
    name: str,
    trained: TrainedSubnet,
    run: RunDirectory,
    data: DataSet,
    files: Mapping[str, FileCard],
    num_images: int,
    seeds: Sequence[Trainings],
    controls: Sequence[Trainings],
    note: str,
) -> Card:
    """The card of a network whose files are written."""
    options, architecture = run.flags(TrainOptions), trained.record.architecture
    images, devices = run.flags(DataOptions), run.flags(TrainDeviceOptions)
    recipe = recipe_values(options.recipe, images_of_a_step(images, devices))
    cost = count_architecture(trained.record.space, architecture)
    rows = run.rows(LOG_FILE, EpochRow)
    num_trained = len(data.splits[options.train_on or "train_full"]) / options.reduced_dataset_scale
    return Card(
        name=name,
        data=data.name,
        num_images=num_images,
        num_classes=data.num_classes,
        classes=list(data.class_names),
        input_size=data.input_size,
        block_choices=list(architecture.block_choices),
        channel_choices=list(architecture.channel_choices),
        flops=cost.macs,
        params=cost.params,
        recipe=recipe_of([options, run.flags(TeacherOptions), images, devices], recipe),
        epochs=len(rows),
        hours=round(training_hours(rows, num_trained), 2),
        versions=dict(trained.config["versions"]),
        params_sha256=file_digest(trained.path),
        files=dict(files),
        seeds=list(seeds),
        controls=list(controls),
        note=note,
    )


def trainings(folders: Sequence[Path], published: RunDirectory, is_control: bool) -> Trainings:
    """Of runs like the published one. The cost is that of the first.

    Args:
        is_control: of random networks; else of the same network.
    Raises: InputError if one has not ended, or differs in more than seeds and architectures may.
    """
    costs, top1, seeds = [], [], set()
    for folder in folders:
        run = open_run_directory(folder)
        if validated_on(run.options) != TEST_IMAGES:
            raise InputError(f"{folder} has no accuracy on test images")
        top1.append(cast(float, validated_top1(last_validated(folder))))
        check_alike(run, published)
        record, own = (parse_architecture(one.config["architecture"], str(one.path)) for one in (run, published))
        if (record.architecture == own.architecture) == is_control:
            raise InputError(f"{folder} is of {'the same' if is_control else 'another'} network as {published.path}")
        costs.append(count_architecture(record.space, record.architecture))
        seeds.add((record.architecture, run.options["seed"]))
    if len(seeds) < len(folders):
        raise InputError(f"{folders[0]} and the others: one network is there twice with the same seed")
    return Trainings(costs[0].macs, costs[0].params, top1)


def check_alike(run: RunDirectory, published: RunDirectory) -> None:
    """Raise InputError that names what was not the same in the training of the published network."""
    own, expected = (as_trained(one) for one in (run, published))
    for name in {**own, **expected}:
        if own.get(name) != expected.get(name):
            raise InputError(f"{run.path} was not trained like {published.path}: {name} differs")


def as_trained(run: RunDirectory) -> Dict[str, Any]:
    """Space, images, content of files and flags of a training, without its seed, its network and places of files."""
    free = (*NOT_PART_OF_A_RUN, *DATA_PATHS, *FILES_OF_A_RUN, *CHOICES, *NAMES_OF_FLAGS, "seed")
    inputs = {name: run.config.get(name) for name in ("space", CONTENTS, *INPUTS_OF_A_RUN) if name != "architecture"}
    return {**inputs, **{f"--{name}": value for name, value in run.options.items() if name not in free}}


if __name__ == "__main__":
    sys.exit(run_program(main))
