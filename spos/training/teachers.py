"""Teachers: trained networks that a training learns from, of GluonCV's zoo or of runs, one or several together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from spos.core.errors import InputError
from spos.core.flags import split_files
from spos.data.dataset import DataSet
from spos.data.pixels import load_images
from spos.data.preprocessing import Preprocessing
from spos.deploy.subnet import read_subnet
from spos.engine.compat import mx
from spos.engine.resizing import resized
from spos.execution.inferred import Inference
from spos.execution.scored import PathExecutor
from spos.runs.files import file_digest
from spos.runs.run import (
    MODEL_FILE,
    PREPROCESSING,
    SUBNET_RUN,
    SUPERNET_RUN,
    RunDirectory,
    open_run_directory,
    run_folder,
)
from spos.scoring.supernet import load_supernet
from spos.scoring.trained import TrainedSupernet
from spos.space.cost import cost_table
from spos.space.flags import SpaceOptions, trained_architecture
from spos.training.flags import TeacherOptions, ZooOptions
from spos.training.zoo import load_teacher

Logits = Callable[[mx.nd.NDArray], mx.nd.NDArray]


def load_teachers(
    options: TeacherOptions, data: DataSet, folder: Path, ctx: Sequence[mx.Context], dtype: str
) -> List[Logits]:
    """What says the logits of images, of every network that `--teacher` names.

    Args:
        data: images that are learned from.    folder: of the training, for images that take too much memory.
        dtype: of the images.
    Raises: InputError if one is not there, or does not fit the images.
    """
    return [_load(name, options, data, folder, tuple(ctx), dtype) for name in split_files(options.teacher)]


def teachers_digest(options: TeacherOptions) -> Dict[str, str]:
    """What `config.json` says of the files of teachers, if there are any; of the zoo's the names."""
    names = [*split_files(options.teacher), *([options.teacher_params] if options.teacher_params else [])]
    files = {name: _file_of(name) for name in names if _file_of(name).is_file()}
    return {"teacher_sha256": ",".join(file_digest(files[n]) if n in files else n for n in names)} if files else {}


def _file_of(name: str) -> Path:
    """The file of parameters that a run, or a file of one, has by this name; it may not exist."""
    return Path(name) / MODEL_FILE if Path(name).is_dir() else Path(name)


def _load(
    name: str, options: TeacherOptions, data: DataSet, folder: Path, ctx: Sequence[mx.Context], dtype: str
) -> Logits:
    if not Path(name).exists():
        if "/" in name or name.endswith(".params"):
            raise InputError(f"--teacher {name} does not exist")
        return load_teacher(name, options.teacher_params, data.num_classes, data.input_size, tuple(ctx), dtype)
    if options.teacher_params:
        raise InputError(f"--teacher-params is for a teacher of the zoo; {name} has its own")
    file = _file_of(name)
    if not file.is_file():
        raise InputError(f"--teacher {name} has no {MODEL_FILE}: the run is not finished")
    run = open_run_directory(run_folder(file) or file.parent)
    _check_preparation(name, run.config, data)
    if run.kind == SUPERNET_RUN:
        return _of_supernet(name, file, run, data, folder, ctx)
    if run.kind == SUBNET_RUN:
        return _of_subnet(name, file, data, ctx)
    return _of_zoo(name, file, run, data, ctx, dtype)


def _check_preparation(name: str, config: Any, data: DataSet) -> None:
    """Raise InputError if the run's images were prepared in another way."""
    own = Preprocessing.from_json(config[PREPROCESSING], name) if PREPROCESSING in config else None
    there = data.preprocessing
    if own and (own.mean, own.std) != (there.mean, there.std):
        raise InputError(f"--teacher {name} was trained on images of another mean and deviation than {data.name}")
    known = zip(own.class_names, there.class_names) if own else ()
    label, pair = next(((label, pair) for label, pair in enumerate(known) if pair[0] != pair[1]), (0, ()))
    if pair:
        raise InputError(
            f"--teacher {name} knows other classes: {label} is {pair[0]!r} to it, {pair[1]!r} in {data.name}"
        )


def _check_fit(name: str, num_classes: int, input_size: int, data: DataSet) -> None:
    if num_classes != data.num_classes:
        raise InputError(f"--teacher {name} knows {num_classes} classes, {data.name} has {data.num_classes}")
    if input_size > data.input_size:
        raise InputError(f"--teacher {name} sees images of {input_size} px, these have {data.input_size}")


def _of_subnet(name: str, file: Path, data: DataSet, ctx: Sequence[mx.Context]) -> Logits:
    record = trained_architecture(str(file), SpaceOptions())
    subnet = read_subnet(file, record.space, record.architecture)
    space = subnet.space
    _check_fit(name, space.num_classes, space.input_size, data)
    net = subnet.network()
    net.collect_params().reset_ctx(list(ctx))
    return _at_size(Inference(net), space.input_size)


def _of_zoo(name: str, file: Path, run: RunDirectory, data: DataSet, ctx: Sequence[mx.Context], dtype: str) -> Logits:
    size = Preprocessing.from_json(run.config[PREPROCESSING], name).input_size
    _check_fit(name, data.num_classes, size, data)  # the file knows its classes
    made = (run.flags(ZooOptions), run.flags(SpaceOptions).use_se)
    net = load_teacher(str(run.options["model"]), str(file), data.num_classes, size, tuple(ctx), dtype, *made)
    return lambda images: net(resized(images, size))


def _of_supernet(
    name: str, file: Path, run: RunDirectory, data: DataSet, folder: Path, ctx: Sequence[mx.Context]
) -> Logits:
    """Its most expensive path, with BatchNorm statistics of the images that its own run kept for that."""
    supernet = replace(TrainedSupernet.of_run(run.path), params=str(file))
    space = supernet.space
    _check_fit(name, space.num_classes, space.input_size, data)
    net = load_supernet(str(file), space, ctx)
    path = PathExecutor(net, ctx).path(cost_table(space).most_expensive())
    images = load_images(supernet.images, "bn", supernet.data, folder)
    path.update_batch_norm(images.batches(supernet.data.batch_size * len(ctx), tuple(ctx)))
    return _at_size(path.logits, space.input_size)


def _at_size(logits: Logits, size: int) -> Logits:
    return lambda images: logits(resized(images.astype("float32", copy=False), size))
