"""Measuring of rates, by the programs themselves on a few of the images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Sequence, Tuple

import cv2
import numpy as np
from msgspec import Struct

from spos.core.seeds import derive_rng
from spos.data.arrays import pack_arrays
from spos.pilot.programs import run_side_by_side
from spos.pilot.rates import Rates
from spos.pilot.settings import Setting, image_seconds
from spos.runs.files import write_json
from spos.runs.journal import read_rows
from spos.runs.run import LOG_FILE, MODEL_FILE, SUBNET, SUPERNET
from spos.space.architecture import Architecture
from spos.space.architecture_file import ArchitectureRecord
from spos.space.cost import cost_table

NUM_IMAGES, NUM_TEST = 1600, 64  # of the sample that programs are measured on; images are repeated
SECONDS = 5.0  # that a measured epoch should take
NUM_CANDIDATES = 6
CALIBRATION = Setting("small", "2,1,2,2,2", 32)
FORWARD_SHARE = 1 / 3  # of a training step's time


class Measured(Struct, frozen=True):
    """One program that has run: seconds in all, seconds and images of its last epoch, and its largest memory."""

    seconds: float
    images_per_second: float
    memory: int


def calibrate(folder: Path, images: np.ndarray, labels: np.ndarray, batch_size: int) -> float:
    """How many times as long as by the model an image takes here."""
    costs, threads = 2.5e6, 1
    sample = write_sample(folder, images, labels, CALIBRATION.input_size, batch_size)
    measured = _train(
        [_supernet_command(CALIBRATION, sample, batch_size, folder / "calibration")],
        [threads],
        [folder / "calibration"],
    )[0]
    return 1 / measured.images_per_second / image_seconds(costs, 8, 1.0)


def measure(
    folder: Path,
    setting: Setting,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    num_threads: int,
    seconds_of_image: float,
    architecture: Architecture,
) -> Rates:
    """Measure a supernet, two networks side by side, and some candidates.

    Args:
        folder: for what is made meanwhile.    images, labels: a sample, (S, H, W, 3) uint8.
        num_threads: of all work together.    seconds_of_image: expected.
        architecture: a typical one within the limits.
    """
    sample = write_sample(folder, images, labels, setting.input_size, batch_size)
    threads = sorted({1, num_threads})
    scale = max(1, round(seconds_of_image * NUM_IMAGES / SECONDS))
    runs = {}
    for count in threads:
        run = folder / f"supernet-{count}"
        command = _supernet_command(setting, sample, batch_size, run, scale)
        runs[count] = _train([command], [count], [run])[0]
    best = max(threads, key=lambda count: runs[count].images_per_second)
    supernet = runs[best]
    each = max(1, num_threads // 2)
    file = folder / "architecture.json"
    space = setting.search_space(int(labels.max()) + 1)
    write_json(file, ArchitectureRecord(space, architecture, {"name": "measured"}).to_json())
    pair = [folder / f"subnet-{number}" for number in range(2)]
    commands = [_subnet_command(file, setting, sample, batch_size, run, scale) for run in pair]
    subnets = _train(commands, [each, each], pair)
    candidate, start = _score(folder, folder / f"supernet-{best}" / MODEL_FILE, [*setting.flags, *sample], num_threads)
    scored = supernet.images_per_second / FORWARD_SHARE
    return Rates(
        supernet_images=supernet.images_per_second,
        supernet_threads=best,
        subnet_images=min(one.images_per_second for one in subnets),
        subnet_threads=each,
        candidate_seconds=max(0.0, candidate - 2 * _HELD_OUT / scored),
        scored_images=scored,
        start_seconds=start,
        supernet_bytes=supernet.memory,
        subnet_bytes=max(one.memory for one in subnets),
    )


_HELD_OUT = 160  # images of each list of the sample


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
    return [
        *("--dataset", "record", "--data-dir", str(target), "--input-size", str(size), "--crop-ratio", "1"),
        *(
            "--holdout",
            str(_HELD_OUT),
            "--update-bn-images",
            str(_HELD_OUT),
            "-j",
            "1",
            "--batch-size",
            str(batch_size),
        ),
    ]


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


_SHORT = ("--num-epochs", "2", "--val-frequency", "0", "--val-architectures", "1", "--log-interval", "100000")


def _supernet_command(setting: Setting, sample: Sequence[str], batch_size: int, run: Path, scale: int = 1) -> List[str]:
    flags = [*setting.flags, *sample, *_SHORT, "--reduced-dataset-scale", str(scale)]
    return ["train_imagenet.py", "--model", SUPERNET, *flags, "--save-dir", str(run)]


def _subnet_command(
    file: Path, setting: Setting, sample: Sequence[str], batch_size: int, run: Path, scale: int
) -> List[str]:
    flags = [*setting.stride_flags, *sample, *_SHORT, "--reduced-dataset-scale", str(scale), "--save-dir", str(run)]
    return ["train_imagenet.py", "--model", SUBNET, "--architecture", str(file), *flags]


def _train(commands: Sequence[Sequence[str]], threads: Sequence[int], runs: Sequence[Path]) -> List[Measured]:
    """Run trainings side by side. Raises: InputError with the last line of one that fails."""
    done = run_side_by_side(commands, threads, [run.with_name(f"{run.name}.log") for run in runs])
    rates = [float(read_rows(run / LOG_FILE)[-1]["images_per_second"]) for run in runs]
    return [Measured(seconds, rate, memory) for (seconds, memory), rate in zip(done, rates)]


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
    row = json.loads((run / LOG_FILE).read_text().splitlines()[0])
    return row["seconds"] / row["evaluations"], max(1.0, seconds - row["seconds"])


def architecture_within(setting: Setting, num_classes: int, macs: float) -> Architecture:
    """Of some drawn architectures that with the MACs closest to those of a typical network within the limits."""
    space, rng = setting.search_space(num_classes), derive_rng(0, "measured")
    drawn = [space.sample(rng) for _ in range(200)]
    table = cost_table(space)
    return min(drawn, key=lambda architecture: abs(table.cost(architecture).macs - macs))
