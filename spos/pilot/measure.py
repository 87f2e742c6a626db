"""Measuring of rates, by the programs themselves on a few of the images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import cv2
import numpy as np
from msgspec import Struct

from spos.core.programs import run_side_by_side
from spos.core.seeds import derive_rng
from spos.data.arrays import pack_arrays
from spos.pilot.rates import Rates
from spos.pilot.settings import PUBLISHED, Setting, image_seconds
from spos.runs.files import write_json
from spos.runs.journal import read_rows
from spos.runs.run import LOG_FILE, MODEL_FILE, SUBNET, SUPERNET
from spos.space.architecture import Architecture
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import cost_table

NUM_IMAGES, NUM_TEST, HELD_OUT = 448, 64, 64  # of the sample that programs are measured on; images are repeated
SECONDS, MOST_EPOCHS = 6.0, 20  # that a measured training should take, of which the first epoch does not count
LONG = 5e-3  # seconds of an image, from which all threads are faster than one for sure
NUM_CANDIDATES = 6
CALIBRATION = Setting("small", "2,1,2,2,2", 32)
CALIBRATION_MACS, CALIBRATION_BLOCKS = 2.5e6, 8  # of a typical architecture of it
FORWARD_SHARE = 1 / 3  # of a training step's time


class Measured(Struct, frozen=True):
    """A training that has run: its speed, and its largest memory."""

    images_per_second: float
    memory: int


def calibrate(folder: Path, images: np.ndarray, labels: np.ndarray, batch_size: int) -> float:
    """How many times as long as by the model an image takes here."""
    sample = write_sample(folder, images, labels, CALIBRATION.input_size, batch_size)
    run = folder / "calibration"
    expected = image_seconds(CALIBRATION_MACS, CALIBRATION_BLOCKS, 1.0)
    (measured,) = _train([_supernet_command(CALIBRATION, sample, run, _length(expected))], [1], [run])
    return 1 / measured.images_per_second / expected


@dataclass(frozen=True)
class Bench:
    """A setting to be measured.

    Args:
        folder: for what is made meanwhile.    images, labels: a sample, (S, H, W, 3) uint8.
        num_threads: of all work together.    seconds_of_image: expected.
    """

    folder: Path
    setting: Setting
    images: np.ndarray
    labels: np.ndarray
    batch_size: int
    num_threads: int
    seconds_of_image: float

    @cached_property
    def sample(self) -> List[str]:
        return write_sample(self.folder, self.images, self.labels, self.setting.input_size, self.batch_size)

    @property
    def threads_of_network(self) -> int:
        """Of each of two that are trained side by side."""
        return max(1, self.num_threads // 2)

    def networks(self, architecture: Architecture) -> Measured:
        """The slower of two networks that are trained side by side.

        Args: architecture: a typical one within the limits.
        """
        file, length = self.folder / "architecture.json", _length(self.seconds_of_image)
        space = self.setting.search_space(int(self.labels.max()) + 1)
        write_json(file, ArchitectureRecord(space, architecture, {"name": "measured"}).to_json())
        pair = [self.folder / f"subnet-{number}" for number in range(2)]
        commands = [_subnet_command(file, self.sample, run, length) for run in pair]
        found = _train(commands, [self.threads_of_network] * 2, pair)
        return Measured(min(one.images_per_second for one in found), max(one.memory for one in found))

    def rates(self, networks: Measured) -> Rates:
        """Of a supernet and some candidates, beside those of the networks."""
        length = _length(1 / networks.images_per_second)
        runs: Dict[int, Measured] = {}
        for count in sorted({self.num_threads} if self.seconds_of_image > LONG else {1, self.num_threads}):
            run = self._supernet(count)
            (runs[count],) = _train([_supernet_command(self.setting, self.sample, run, length)], [count], [run])
        best = max(runs, key=lambda count: runs[count].images_per_second)
        full = runs[best]
        if self.setting.space in PUBLISHED:
            run = self.folder / "supernet-full"
            command = [*_supernet_command(self.setting, self.sample, run, length), "--use-all-channels"]
            (full,) = _train([command], [best], [run])
        flags = [*self.setting.flags, *self.sample]
        candidate, start = _score(self.folder, self._supernet(best) / MODEL_FILE, flags, self.num_threads)
        scored = runs[best].images_per_second / FORWARD_SHARE
        return Rates(
            supernet_images=runs[best].images_per_second,
            supernet_threads=best,
            subnet_images=networks.images_per_second,
            subnet_threads=self.threads_of_network,
            candidate_seconds=max(0.0, candidate - 2 * HELD_OUT / scored),
            scored_images=scored,
            start_seconds=start,
            supernet_bytes=max(runs[best].memory, full.memory),
            subnet_bytes=networks.memory,
            full_width_images=full.images_per_second,
        )

    def _supernet(self, num_threads: int) -> Path:
        return self.folder / f"supernet-{num_threads}"


def write_sample(folder: Path, images: np.ndarray, labels: np.ndarray, size: int, batch_size: int) -> List[str]:
    """Flags of a small data set made of the sample, at an input size."""
    side = min(size, images.shape[1])
    small = images if side == images.shape[1] else np.stack([_resized(image, side) for image in images])
    chosen = np.arange(NUM_IMAGES + NUM_TEST) % len(small)
    _, small_labels = np.unique(labels[chosen], return_inverse=True)
    small_labels[-NUM_TEST:] = np.minimum(small_labels[-NUM_TEST:], small_labels[:NUM_IMAGES].max())
    target = folder / f"images-{size}"
    pack_arrays(
        target,
        small[chosen[:NUM_IMAGES]],
        small_labels[:NUM_IMAGES],
        small[chosen[NUM_IMAGES:]],
        small_labels[NUM_IMAGES:],
    )
    lists = ("--holdout", str(HELD_OUT), "--update-bn-images", str(HELD_OUT))
    images_flags = ("--dataset", "record", "--data-dir", str(target), "--input-size", str(size), "--crop-ratio", "1")
    return [*images_flags, *lists, "-j", "1", "--batch-size", str(batch_size)]


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _length(seconds_of_image: float) -> List[str]:
    """Flags of a training that is long enough to be measured, and not longer."""
    epoch = seconds_of_image * (NUM_IMAGES - 2 * HELD_OUT)
    epochs = min(max(2, round(SECONDS / epoch)), MOST_EPOCHS)
    scale = max(1, round(2 * epoch / SECONDS))
    words = ["--num-epochs", str(epochs), "--reduced-dataset-scale", str(scale), "--save-frequency", str(epochs)]
    return [*words, "--val-frequency", "0", "--val-architectures", "1", "--log-interval", "100000"]


def _supernet_command(setting: Setting, sample: Sequence[str], run: Path, length: Sequence[str]) -> List[str]:
    flags = [*setting.flags, *sample, *length]
    return ["train_imagenet.py", "--model", SUPERNET, *flags, "--save-dir", str(run)]


def _subnet_command(file: Path, sample: Sequence[str], run: Path, length: Sequence[str]) -> List[str]:
    flags = [*sample, *length, "--save-dir", str(run)]
    return ["train_imagenet.py", "--model", SUBNET, "--architecture", str(file), *flags]


def _train(commands: Sequence[Sequence[str]], threads: Sequence[int], runs: Sequence[Path]) -> List[Measured]:
    """Run trainings side by side. Raises: InputError with the last line of one that fails."""
    done = run_side_by_side(commands, threads, [run.with_name(f"{run.name}.log") for run in runs])
    return [Measured(speed(read_rows(run / LOG_FILE)), memory) for run, (_, memory) in zip(runs, done)]


def speed(rows: Sequence[Mapping[str, Any]]) -> float:
    """Images a second of a training's log, without its first epoch, in which kernels are prepared."""
    rates = [float(row["images_per_second"]) for row in rows[1:]]
    return len(rates) / sum(1 / rate for rate in rates)


def _score(folder: Path, supernet: Path, flags: Sequence[str], num_threads: int) -> Tuple[float, float]:
    """Seconds of a candidate, and of a program before it scores any."""
    run = folder / "search"
    command = [
        *("search_supernet.py", "--supernet-params", str(supernet), "--search-mode", "random", "--search-iters", "1"),
        *("--population-size", str(NUM_CANDIDATES), "--retain-length", "1", "--flop-max", "-1", "--score-max", "-1"),
        *flags,
        *("--save-dir", str(run)),
    ]
    ((seconds, _),) = run_side_by_side([command], [num_threads], [folder / "search.log"])
    row = read_rows(run / LOG_FILE)[0]
    return row["seconds"] / row["evaluations"], max(1.0, seconds - row["seconds"])


def architecture_within(setting: Setting, num_classes: int, macs: float) -> Architecture:
    """Of some drawn architectures that with the MACs closest to those of a typical network within the limits."""
    space, rng = setting.search_space(num_classes), derive_rng(0, "measured")
    drawn = [space.sample(rng) for _ in range(200)]
    table = cost_table(space)
    return min(drawn, key=lambda architecture: abs(table.cost(architecture).macs - macs))
