"""A trained subnet as the tools of deployment are given it: a file, and what the run it lies in says about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

from spos.core.errors import InputError, warn
from spos.core.flags import changed_flags
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.preprocessing import Preprocessing
from spos.data.registry import imagenet_preprocessing, open_data, with_lists
from spos.deploy.flags import TrainedOptions
from spos.deploy.subnet import DeployedSubnet, read_subnet
from spos.runs.files import read_json, read_text
from spos.runs.run import (
    CONFIG_FILE,
    DATA_PATHS,
    LISTS_FOLDER,
    PREPROCESSING,
    RECORD_PATHS,
    options_as,
    run_folder,
)
from spos.space.architecture_file import ArchitectureRecord
from spos.space.flags import ArchitectureOptions, SpaceOptions, fit, named_architecture, trained_architecture


@dataclass(frozen=True)
class FileOfRun:
    """A network's file, and what the run it lies in says about it.

    Args:
        run: the directory of its run, None if the file does not lie in one; config: what that says.
    """

    path: Path
    run: Optional[Path]
    config: Mapping[str, Any]

    @classmethod
    def at(cls, path: Path) -> FileOfRun:
        """Raises: InputError if the config of its run is damaged."""
        run = run_folder(path)
        return FileOfRun(path, run, read_json(run / CONFIG_FILE) if run else {})

    def data_options(self, given: DataOptions) -> DataOptions:
        """Flags that are given now, then those of the run.

        Another data set, or another folder of it, leaves nothing of the places that the run has them from.
        """
        of_run = options_as(DataOptions, self.config.get("options", {}), f"the run of {self.path}")
        changed = {flag[2:].replace("-", "_") for flag in changed_flags(given)}
        if "dataset" in changed:
            changed |= {*DATA_PATHS, "use_rec"}
        elif "data_dir" in changed:
            changed |= {*RECORD_PATHS, "use_rec"}
        return replace(of_run, **{name: getattr(given, name) for name in changed})

    def recorded_preprocessing(self) -> Optional[Preprocessing]:
        """How the images of the run are prepared; None if nothing says it."""
        if PREPROCESSING not in self.config:
            return None
        return Preprocessing.from_json(self.config[PREPROCESSING], str(self.run))

    def open_images(self, options: DataOptions, num_classes: int, input_size: int) -> DataSet:
        """The images, without held-out lists, for a network of so many classes and px.

        Args:
            options: as `data_options` gives them.
        Raises: InputError if the images are not there, or do not fit the network.
        """
        data = open_data(options)
        sizes = (("classes", num_classes, data.num_classes), ("px", input_size, data.input_size))
        for what, own, there in sizes:
            if own != there:
                raise InputError(f"{self.path} is for {own} {what}, the images of {data.name} have {there}")
        return data

    def with_lists(self, data: DataSet, options: DataOptions, save_dir: Path) -> DataSet:
        """`data` with the lists of the run.

        Args:
            save_dir: for the lists, if the file does not lie in a run.
        """
        if self.run is None:
            warn(f"{self.path} does not lie in a run directory, so nothing says which images it was trained on")
        return with_lists(data, options, (self.run or save_dir) / LISTS_FOLDER)


@dataclass(frozen=True)
class TrainedSubnet(FileOfRun):
    """What the flags name.

    Args:
        record: the architecture, in the space that fits the images.
    """

    subnet: DeployedSubnet
    record: ArchitectureRecord

    def open_data(self, options: DataOptions, save_dir: Path) -> DataSet:
        """The images of the run, in its own lists, prepared as the run says, if it does.

        Arguments and errors: as `open_images` and `with_lists`.
        """
        space = self.subnet.space
        data = self.with_lists(self.open_images(options, space.num_classes, space.input_size), options, save_dir)
        own = self.recorded_preprocessing()
        if own is None:
            return data
        return replace(data, mean=own.mean, std=own.std, crop_ratio=options.crop_ratio or own.crop_ratio)

    def preprocessing(self, options: DataOptions, class_names: str = "") -> Preprocessing:
        """How images are prepared: as the run says; as the data flags say, if it does not.

        Args:
            class_names: text file with a name in each line; empty for those of the data set, if it has any.
        Raises: InputError if the file does not fit, or if the flags name images that are not there.
        """
        found = replace(self._known_preprocessing(options), input_size=self.subnet.space.input_size)
        if options.crop_ratio:
            found = replace(found, crop_ratio=options.crop_ratio)
        if class_names:
            return replace(found, class_names=self._read_names(class_names))
        if len(found.class_names) != self.subnet.space.num_classes:
            warn("the names of the classes are not known, only their numbers; --class-names gives them")
            return replace(found, class_names=())
        return found

    def _read_names(self, path: str) -> Tuple[str, ...]:
        try:
            lines = read_text(path).splitlines()
        except (OSError, InputError) as error:
            raise InputError(f"--class-names {path} cannot be read: {error}") from None
        names = tuple(line.strip() for line in lines if line.strip())
        if len(names) != self.subnet.space.num_classes:
            raise InputError(
                f"--class-names {path} has {len(names)} names, {self.path} has {self.subnet.space.num_classes} classes"
            )
        return names

    def _known_preprocessing(self, options: DataOptions) -> Preprocessing:
        recorded = self.recorded_preprocessing()
        if recorded:
            return recorded
        if self.run is None and options.dataset == DataOptions.dataset:  # ImageNet is known without its images
            return imagenet_preprocessing(replace(options, input_size=self.subnet.space.input_size))
        return open_data(options).preprocessing


def open_trained(
    trained: TrainedOptions, named: ArchitectureOptions, options: SpaceOptions, input_size: int = 0
) -> TrainedSubnet:
    """Read the parameters and find out of which architecture they are.

    Args:
        input_size: for images of another size than those of the run, whose stride plan stays, or of the architecture,
            whose stride plan follows as in training; 0 for the same.
    Raises: InputError if that is not known, if the flags contradict the run, or as `read_subnet`.
    """
    path = Path(trained.params)
    if not path.is_file():
        raise InputError(f"--params {path} does not exist")
    file = FileOfRun.at(path)
    record = named_architecture(named, options)
    if file.run is not None:
        own = trained_architecture(str(path), options)
        if record and record.architecture != own.architecture:
            raise InputError(f"{' '.join(changed_flags(named))}: {path} lies in a run of another architecture")
        if options.strides:
            raise InputError(f"--strides: {path} lies in a run, which has its own; leave the flag out")
        record = replace(own, space=replace(own.space, input_size=input_size or own.space.input_size))
    elif record is None:
        raise InputError(
            f"{path} does not lie in a run directory: name its architecture by --architecture, or by --block-choices "
            "and --channel-choices with the flags of its space"
        )
    else:
        record = replace(record, space=fit(record.space, options, input_size or record.space.input_size))
    subnet = read_subnet(path, record.space, record.architecture)
    return TrainedSubnet(path, file.run, file.config, subnet, replace(record, space=subnet.space))
