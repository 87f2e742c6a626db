"""Trained supernets with the images that belong to them: what scoring jobs are made of."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from spos.core.errors import InputError, warn
from spos.data.dataset import DataSet
from spos.data.flags import SCORING_LISTS, DataOptions
from spos.data.registry import open_data, with_lists
from spos.data.space import sized_for, sized_like
from spos.engine.flags import DeviceOptions
from spos.runs.files import PathLike, file_digest
from spos.runs.run import LISTS_FOLDER, MODEL_FILE, SUPERNET_RUN, find_config, open_run_directory
from spos.scoring.job import ScoringJob, absolute_paths, summarize_lists
from spos.scoring.supernet import check_supernet, supernet_space
from spos.space.blocks import block_files
from spos.space.flags import SpaceOptions, space_of_run, use_blocks
from spos.space.space import SearchSpace
from spos.space.space_file import described_space


@dataclass(frozen=True)
class TrainedSupernet:
    """A trained supernet, as a file with what is known of it.

    Args:
        params: its parameters.    run: the directory of its training, None if the file does not lie in one.
        data: flags of its images.    dataset: those images.
        lists: folder of the lists that were held out of its training; of new ones, if its run is not known.
        others: further supernets of the space, trained without the same images; scores are means over all.
    """

    params: str
    space: SearchSpace
    data: DataOptions
    dataset: DataSet
    lists: Path
    run: Optional[Path] = None
    others: Tuple[TrainedSupernet, ...] = ()

    @classmethod
    def open(
        cls, params: PathLike, data: DataOptions, space: Optional[SpaceOptions] = None, folder: PathLike = "."
    ) -> TrainedSupernet:
        """A parameter file, with images and space as the flags say. Nothing is written.

        Args:
            folder: where `lists/` shall lie if the file does not lie in a run directory.
        Images of no given size have that of a space file, or of the run of one; `data` says it then.
        Raises: InputError if files are missing, or if the flags or the images contradict the supernet's run.
        """
        params = str(params)
        if not Path(params).is_file():
            raise InputError(f"--supernet-params {params} does not exist; train a supernet first")
        trained = find_config(params)
        run = None if trained is None else Path(params).resolve().parent
        options = space or SpaceOptions()
        use_blocks(options)
        if trained and trained.get("space"):
            data = sized_like(data, described_space(trained, params))
        else:
            data = sized_for(data, options)
        dataset = open_data(data)
        searched = supernet_space(options, dataset, trained, params)
        return cls(params, searched, data, dataset, (run or Path(folder)) / LISTS_FOLDER, run)

    @classmethod
    def of_run(cls, path: Path, batch_size: int = 0) -> TrainedSupernet:
        """A finished run of `train_imagenet.py --model ShuffleNas`, on the images that it was trained on.

        Args:
            batch_size: images in a step of scoring; 0: as in its training.
        Raises: InputError if it is no finished run of a supernet, or if its images are not there.
        """
        run = open_run_directory(path)
        space = space_of_run(run)
        if run.kind != SUPERNET_RUN or space is None:
            raise InputError(f"--supernet {path} is the run of a {run.kind}")
        params = run.path / MODEL_FILE
        if not params.is_file():
            raise InputError(f"the run in {path} is not finished: it has no {MODEL_FILE} yet; the same command goes on")
        data = run.flags(DataOptions)
        data = replace(data, batch_size=batch_size or data.batch_size)
        return cls(str(params), space, data, open_data(data), run.path / LISTS_FOLDER, run.path)

    @property
    def name(self) -> str:
        """Of its folder, and of the file if it is not that of the end of a training."""
        path = Path(self.params).resolve()
        return path.parent.name if path.name == MODEL_FILE else f"{path.parent.name}/{path.stem}"

    @cached_property
    def digests(self) -> Tuple[str, ...]:
        """SHA-256 of its parameters, then those of the others."""
        return tuple(file_digest(one.params) for one in (self, *self.others))

    @cached_property
    def images(self) -> DataSet:
        """Its images with the held-out lists, which are written if they are not there."""
        return with_lists(self.dataset, self.data, self.lists)

    def check(self) -> None:
        """Raises: InputError if a file is no supernet of the space."""
        for one in (self, *self.others):
            check_supernet(one.params, self.space)

    def warn_of_lists(self, search_on: str) -> None:
        """Say what is doubtful about the images: whether any were trained on, and lists shorter than a batch."""
        for one in (self, *self.others):
            if one.run is not None:
                continue
            warn(
                f"{one.params} does not lie in a run directory, so nothing says which images it was trained on; "
                "accuracies may be too high"
            )
        counts = {name: len(self.images.splits[name]) for name in ("bn", SCORING_LISTS[search_on])}
        short = [name for name, count in counts.items() if count < self.data.batch_size]
        if short:
            warn(
                f"the held-out lists {' and '.join(short)} have {' and '.join(str(counts[name]) for name in short)} "
                f"images, fewer than --batch-size {self.data.batch_size}: each is one smaller batch"
            )

    def job(
        self,
        folder: Path,
        search_on: str = "holdout",
        devices: Optional[DeviceOptions] = None,
        shared: bool = False,
    ) -> ScoringJob:
        """What scores its paths. Paths of files become absolute, for workers may run elsewhere.

        Args:
            folder: where decoded images are kept, if they take too much memory, or several processes use them
                (`shared`).
            search_on: the list that scores, a key of SCORING_LISTS.
            devices: whether on GPUs, and in which precision; on the CPU by default.
        Raises: InputError if other images were held out of the training of one of several supernets.
        """
        devices = devices or DeviceOptions()
        data, images = absolute_paths(self.data), self.images
        for one in self.others:
            if one.run is not None:
                with_lists(one.dataset, one.data, one.lists)  # refuses lists that are not those of `images`
        return ScoringJob(
            tuple((os.path.abspath(one.params), sha) for one, sha in zip((self, *self.others), self.digests)),
            self.space,
            replace(data, input_size=images.input_size, crop_ratio=images.crop_ratio),
            os.path.abspath(self.lists),
            search_on,
            summarize_lists(images, search_on),
            tuple(images.contents().items()),
            devices.num_gpus > 0,
            devices.dtype,
            os.path.abspath(folder),
            shared,
            tuple((file, file_digest(file)) for file in block_files(self.space.blocks)),
        )


def open_together(
    files: Sequence[PathLike], data: DataOptions, space: Optional[SpaceOptions] = None, folder: PathLike = "."
) -> TrainedSupernet:
    """The supernets whose mean scores candidates: the first, with the others.

    Raises: InputError as `TrainedSupernet.open`, and if two differ in their space, or have the same parameters.
    """
    first, *others = (TrainedSupernet.open(file, data, space, folder) for file in files)
    for one in others:
        if one.space != first.space:
            raise InputError(f"{one.params} was trained in another search space than {first.params}")
    joint = replace(first, others=tuple(others))
    for index, one in enumerate(others, 1):
        if joint.digests[index] in joint.digests[:index]:
            raise InputError(f"{one.params}: the same parameters stand there twice, so they would count twice")
    return joint


def open_supernets(paths: Sequence[Path], batch_size: int) -> List[TrainedSupernet]:
    """Runs, or files of parameters in them.

    Raises: InputError as `TrainedSupernet.of_run`, and if two have one name or differ in their space.
    """
    supernets = [
        replace(TrainedSupernet.of_run(path.parent, batch_size), params=str(path))
        if path.is_file()
        else TrainedSupernet.of_run(path, batch_size)
        for path in paths
    ]
    names = [supernet.name for supernet in supernets]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"two of the supernets are named {twice.pop()}: their folders must differ in the last part")
    for supernet in supernets:
        supernet.check()
        if supernet.space != supernets[0].space:
            raise InputError(f"{supernet.run} was trained in another search space than {supernets[0].run}")
    return supernets
