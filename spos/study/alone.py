"""Networks trained alone: many architectures under one recipe, several at a time, each by `train_imagenet.py`.

A folder holds the training runs, one for each architecture, variant of the recipe and seed, and `alone.jsonl` with a
row for each that has ended. What is in it is not trained again, and a run that was stopped goes on where it was.
"""

from __future__ import annotations

import shlex
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

from msgspec import UNSET, Struct, UnsetType

from spos.core.errors import InputError
from spos.core.flags import with_hyphens
from spos.core.programs import check_end, start
from spos.core.progress import progress_bar
from spos.core.stopping import StopRequest
from spos.engine.devices import versions
from spos.runs.files import check_shape, write_json
from spos.runs.journal import Journal, read_rows
from spos.runs.lock import wait_until_free
from spos.runs.run import LOG_FILE, SUBNET
from spos.runs.schema import Count, NotNegative, Positive, Scored, Share, Text
from spos.space.architecture import Architecture, architecture_of, choices_of
from spos.space.architecture_file import ArchitectureRecord
from spos.space.blocks import block_files
from spos.space.space import SearchSpace
from spos.study.flags import AloneOptions
from spos.training.log import training_speed

ALONE_FILE = "alone.jsonl"
NETWORKS_FOLDER = "networks"
OWN_FLAGS = ("--model", "--architecture", "--block-choices", "--channel-choices", "--blocks", "--seed", "--save-dir")
POLL_SECONDS = 0.2
END_SECONDS = 600.0  # that a training of a ranking that was killed gets to end: it may be validating
FREE_FLAGS = ("save_dir", "jobs", "batch_size")  # with which a run may go on at another value


class ValidatedRow(Struct):
    """What the last row of the log of a subnet's training has to say."""

    loss: float
    val_top1: Share
    val_top5: Share
    val_images: Positive
    ema_top1: Union[Share, UnsetType] = UNSET


class AloneRow(Scored, kw_only=True):
    """A row of `alone.jsonl`."""

    seed: Count
    flops: Count
    params: Count
    num_images: Positive
    train_loss: float
    seconds: NotNegative
    images_per_second: Union[NotNegative, UnsetType] = UNSET
    ema_top1: Union[Share, UnsetType] = UNSET
    variant: Union[Text, UnsetType] = UNSET
    flags: Union[str, UnsetType] = UNSET
    stratum: Union[Count, UnsetType] = UNSET
    group: Union[Text, UnsetType] = UNSET


@dataclass(frozen=True)
class Network:
    """One architecture to be trained with one seed.

    Args:
        about: what its row says beside the result.
        variant: name of what differs from the recipe of all, if something does.    flags: that, behind the recipe.
    """

    architecture: Architecture
    seed: int
    about: Mapping[str, Any] = field(default_factory=dict)
    variant: str = ""
    flags: Tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its run: variant, choices, in one digit each if there are not more than ten, an input size, and seed."""
        choices = (self.architecture.block_choices, self.architecture.channel_choices)
        separator = "" if max(map(max, choices)) < 10 else "."
        size = () if self.architecture.input_size is None else (f"{self.architecture.input_size}px",)
        variant = (self.variant,) if self.variant else ()
        return "-".join((*variant, *(separator.join(map(str, part)) for part in choices), *size, str(self.seed)))

    @property
    def key(self) -> Tuple[Architecture, int, str]:
        """What no other has."""
        return (self.architecture, self.seed, self.variant)

    @property
    def own_flags(self) -> str:
        """As a shell takes them."""
        return " ".join(map(shlex.quote, self.flags))


def key_of(row: Mapping[str, Any]) -> Tuple[Architecture, int, str]:
    """The `key` of the network that a row of `alone.jsonl` is of."""
    return (architecture_of(row), row["seed"], row.get("variant", ""))


def check_recipe(recipe: Sequence[str]) -> None:
    """Raise InputError if there is no recipe, or if it sets what belongs to each network."""
    if not recipe:
        raise InputError("the recipe is missing: flags of train_imagenet.py behind --, like -- --dataset digits")
    own = [word for word in with_hyphens(recipe) if word.partition("=")[0] in OWN_FLAGS]
    if own:
        raise InputError(f"{own[0]} is set for each network; leave it out of the recipe")


def describe_run(program: str, options: AloneOptions, recipe: Sequence[str], space: SearchSpace) -> Dict[str, Any]:
    """The config of a run that trains networks alone: what has to be the same when it goes on.

    Args: options: the program's own flags.
    """
    flags = {name: value for name, value in asdict(options).items() if name not in FREE_FLAGS}
    return {
        "program": program,
        "options": {**flags, "recipe": " ".join(recipe)},
        "space": space.to_json(),
        "fingerprint": space.fingerprint,
        "versions": versions(),
    }


def train_all(
    networks: Sequence[Network], space: SearchSpace, recipe: Sequence[str], folder: Path, num_jobs: int
) -> List[Dict[str, Any]]:
    """Train what has no row yet, `num_jobs` at a time, and return the rows of all, in their order.

    Args:
        space: of the architectures.    recipe: flags of `train_imagenet.py`.
    Raises: InputError if a training fails, with its last line; the others are stopped and go on the next time.
    """
    journal = Journal(folder / ALONE_FILE, AloneRow)
    known = {key_of(row): row for row in journal.rows}
    for network in networks:
        if known.get(network.key, {}).get("flags", network.own_flags) != network.own_flags:
            raise InputError(f"{network.variant} was trained with other flags in {folder}; give it another name")
    waiting = deque(network for network in networks if network.key not in known)
    running: List[_Training] = []
    done = len(networks) - len(waiting)
    bar = progress_bar(total=len(networks), initial=done, desc="networks", unit="net")
    with StopRequest() as stop, bar:
        with stop.at_once():
            for network in waiting:  # trainings of a program that was killed may still be writing their checkpoints
                wait_until_free(folder / NETWORKS_FOLDER / network.name, END_SECONDS)
        try:
            while waiting or running:
                while waiting and len(running) < num_jobs:
                    running.append(_Training(waiting.popleft(), space, recipe, folder))
                with stop.at_once():
                    time.sleep(POLL_SECONDS)
                for training in [one for one in running if one.has_ended]:
                    running.remove(training)
                    journal.append(training.row())
                    bar.update()
                    if bar.disable:
                        print(describe(journal.rows[-1], len(networks) - len(waiting) - len(running), len(networks)))
        finally:
            for training in running:
                training.stop()
    rows = {key_of(row): row for row in journal.rows}
    return [rows[network.key] for network in networks]


def describe(row: Mapping[str, Any], count: int, total: int) -> str:
    """One line of text for a network that has been trained."""
    averaged = f" (averaged weights {row['ema_top1']:.2%})" if "ema_top1" in row else ""
    variant = f"  {row['variant']}" if "variant" in row else ""
    return (
        f"[{count}/{total}]{variant}  top-1 {row['top1']:.2%}{averaged}  {row['flops'] / 1e6:.3f}M FLOPs  "
        f"{row['params'] / 1e6:.3f}M params  seed {row['seed']}  {row['seconds']:.0f} s"
    )


class _Training:
    """A process that trains one network in a folder of its own."""

    def __init__(self, network: Network, space: SearchSpace, recipe: Sequence[str], folder: Path) -> None:
        self.network = network
        self.record = ArchitectureRecord(space, network.architecture, {"name": network.name}).to_json()
        self.run = folder / NETWORKS_FOLDER / network.name
        architecture_file = self.run.with_name(f"{network.name}.json")
        write_json(architecture_file, self.record)
        own = ["--model", SUBNET, "--architecture", str(architecture_file), "--seed", str(network.seed)]
        own += ["--save-dir", str(self.run)]
        for file in block_files(space.blocks):
            own += ["--blocks", file]
        self._log = self.run.with_name(f"{network.name}.log")
        self._started = time.monotonic()
        self._process = start(["train_imagenet.py", *own, *recipe, *network.flags], None, self._log)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """Let it write a checkpoint and end."""
        self._process.terminate()
        self._process.wait()

    def row(self) -> Dict[str, Any]:
        """What is kept of it; `seconds` are those since it was started last. Raises InputError if it failed."""
        check_end(f"training {self.network.name}", self._process.returncode, self._log)
        rows = read_rows(self.run / LOG_FILE)
        end = check_shape(rows[-1], self.run / LOG_FILE, ValidatedRow)
        network, speed = self.network, training_speed(rows)
        variant = {"variant": network.variant, "flags": network.own_flags} if network.variant else {}
        return {
            **choices_of(network.architecture),
            **{key: self.record[key] for key in ("flops", "params")},
            **network.about,
            **variant,
            "seed": network.seed,
            **{key: end[key] for key in ("ema_top1",) if key in end},
            "top1": end["val_top1"],
            "top5": end["val_top5"],
            "num_images": end["val_images"],
            "train_loss": end["loss"],
            "seconds": round(time.monotonic() - self._started, 1),
            **({"images_per_second": round(speed, 1)} if speed else {}),
        }


def first_rows(rows: Sequence[Mapping[str, Any]]) -> Dict[Architecture, Mapping[str, Any]]:
    """The first row of each architecture, which tells what is the same for all of its seeds."""
    found: Dict[Architecture, Mapping[str, Any]] = {}
    for row in rows:
        found.setdefault(architecture_of(row), row)
    return found


def mean_top1(rows: Sequence[Mapping[str, Any]]) -> Dict[Architecture, float]:
    """Accuracy of each architecture, averaged over its seeds; in the order of the rows."""
    by_architecture: Dict[Architecture, List[float]] = {}
    for row in rows:
        by_architecture.setdefault(architecture_of(row), []).append(row["top1"])
    return {architecture: sum(tops) / len(tops) for architecture, tops in by_architecture.items()}
