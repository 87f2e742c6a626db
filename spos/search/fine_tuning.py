"""Fine-tuning of finalists: each trained from its path of the supernet, measured on the images that score."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Mapping

from oneshot_nas_network import Subnet
from spos.core.errors import InputError
from spos.data.flags import SCORING_LISTS
from spos.data.pixels import load_images, remove_images
from spos.data.registry import open_data, with_lists
from spos.data.space import sized_like
from spos.engine.batch_norm import recalibrate_batch_norm
from spos.engine.devices import make_devices
from spos.engine.flags import DeviceOptions
from spos.engine.parameters import load_parameters
from spos.runs.files import write_json
from spos.runs.journal import Journal
from spos.runs.run import LISTS_FOLDER, MODEL_FILE, find_config, options_as
from spos.scoring.accuracy import evaluate
from spos.scoring.trained import TrainedSupernet
from spos.search.finals import FINALS_FILE, FinalRow
from spos.search.flags import SearchOptions
from spos.search.history import Row
from spos.space.architecture import architecture_of, choices_of
from spos.space.architecture_file import ArchitectureRecord
from spos.training.flags import TrainOptions
from spos.training.session import train_subnet

FINALS_FOLDER = "finals"
OF_THE_SUPERNET = ("momentum", "wd", "no_wd", "label_smoothing")  # flags of its training, as far as its run is known


@dataclass
class FineTuning:
    """Trains and measures the finalists of one search, in folders below its run; what is done is not done again.

    Args:
        supernet: whose path a finalist begins with; of several, that of the first.
    """

    folder: Path
    supernet: TrainedSupernet
    options: SearchOptions
    devices: DeviceOptions
    seed: int

    def __post_init__(self) -> None:
        self._journal = Journal(self.folder / FINALS_FILE, FinalRow)

    @cached_property
    def _trained(self) -> Mapping[str, Any]:
        """Flags of the supernet's training, as far as they are known."""
        config = find_config(self.supernet.params) or {}
        return config.get("options", {})

    def __call__(self, row: Row, number: int) -> Mapping[str, Any]:
        """The row of a finalist after round `number`, whose earlier rounds are done.

        Raises: InputError if it was trained with other flags before; Stopped after a signal, with a checkpoint.
        """
        wanted = {"evaluation": row["evaluation"], "round": number, "lr": self.options.finalist_lr}
        wanted.update(choices_of(architecture_of(row)), epochs=self._epochs(number))
        for known in self._journal.rows:
            if all(known[key] == wanted[key] for key in ("evaluation", "round")):
                differing = [key for key in wanted if known.get(key) != wanted[key]]
                if differing:
                    raise InputError(
                        f"{self._journal.path}: evaluation {row['evaluation']} was trained with {differing[0]} "
                        f"{known.get(differing[0])}, now it is {wanted[differing[0]]}; remove this file and the folder "
                        f"{self.folder / FINALS_FOLDER} to hold the finals again"
                    )
                return known
        self._journal.append({**wanted, **self._measured(row, self._train(row, number))})
        return self._journal.rows[-1]

    def _epochs(self, number: int) -> int:
        return self.options.finalist_epochs * 2**number

    def _train(self, row: Row, number: int) -> Path:
        """The run directory of a finished training."""
        own = self.folder / FINALS_FOLDER / f"evaluation-{row['evaluation']}"
        run, file = own / f"round-{number}", own / "architecture.json"
        name = f"evaluation {row['evaluation']}"
        write_json(file, ArchitectureRecord(self.supernet.space, architecture_of(row), {"name": name}).to_json())
        self._copy_lists(run)
        begin = {"init_params": str(own / f"round-{number - 1}" / MODEL_FILE)}
        if number == 0:
            begin = {"init_from_supernet": self.supernet.params}
        epochs, trained = self._epochs(number), options_as(TrainOptions, self._trained, self.supernet.params)
        data = self.supernet.data
        data = replace(data, batch_size=self._trained.get("batch_size", data.batch_size))
        print(f"finalist of {name}: round {number + 1}, {epochs} epochs", flush=True)
        train_subnet(
            data,
            run,
            file,
            self.seed,
            self.devices.num_gpus,
            num_epochs=epochs,
            lr=self.options.finalist_lr,
            train_on="train",
            val_on=self.options.search_on,
            val_frequency=0,
            keep_checkpoints=1,
            **{name: getattr(trained, name) for name in OF_THE_SUPERNET},
            **begin,
        )
        return run

    def _copy_lists(self, run: Path) -> None:
        """The lists that the supernet was trained without, and whose images score."""
        if (run / LISTS_FOLDER).is_dir():
            return
        partial = run.with_name("lists.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self.supernet.lists, partial)
        run.mkdir(exist_ok=True)
        partial.rename(run / LISTS_FOLDER)

    def _measured(self, row: Row, run: Path) -> Dict[str, Any]:
        """Accuracy on the images that score, with BatchNorm statistics of those that update it, as in the search."""
        record = ArchitectureRecord(self.supernet.space, architecture_of(row), {}).at_its_size
        net, ctx = Subnet(record.space, record.architecture), make_devices(replace(self.devices, num_cpus_ctx=1))
        net.initialize(ctx=list(ctx))
        load_parameters(run / MODEL_FILE, net)
        data = sized_like(self.supernet.data, record.space)
        images = with_lists(open_data(data), data, run / LISTS_FOLDER)
        updating, scoring = (
            load_images(images, name, data, run).batches(data.batch_size * len(ctx), ctx)
            for name in ("bn", SCORING_LISTS[self.options.search_on])
        )
        recalibrate_batch_norm(net, (pair for batch in updating for pair in batch), ctx=ctx)
        accuracy = evaluate(net, scoring).to_json()
        remove_images(run)
        return {key: accuracy[key] for key in ("top1", "top1_interval", "num_images")}
