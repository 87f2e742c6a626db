"""Images per second of the input pipeline, against OpenCV decoding the same files and doing nothing else.

python -m benchmarks.input_pipeline --rec images.rec --idx images.idx --input-size 224 --runs 15

Without --rec, JPEGs of coloured noise are made for the time of the run. Plain is Gluon's own data set of record files
with its transforms, the same augmentation, and its loader with as many processes. The contestants take turns on the
same cores; a ratio is that of two runs side by side, so a busy machine slows both.
"""

from __future__ import annotations

if __name__ == "__main__":
    import spos.core.startup  # noqa: F401  # first

import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from benchmarks.measure import OTHER, OURS, PLAIN, OutputOptions, Result, Row, Way, rows_of
from spos.core.errors import InputError
from spos.core.flags import OneLineParser, pick, positive, run_program
from spos.data.augmentation import IMAGENET_AUGMENTATION, augmentation_for
from spos.data.dataset import IMAGENET_CROP_RATIO, IMAGENET_MEAN, IMAGENET_STD
from spos.data.loader import ImageLoader
from spos.data.order import Order
from spos.data.preprocessing import Preparation
from spos.data.recordio import Index, RecordFile, RecordReader, read_index
from spos.engine.compat import mx, physical_cores

PLAIN_NAME = "plain: Gluon's data set and loader"
ROLE = {PLAIN_NAME: PLAIN, "training": OURS}
NUM_NOISE_IMAGES = 160


class Speed(NamedTuple):
    """Of one run. The processor's time of all threads hardly changes when other programs take a part of the machine."""

    images_per_second: float
    cpu_ms: float  # for each image


def main(argv: Optional[List[str]] = None) -> int:
    parser = OneLineParser(__doc__, (OutputOptions,))
    parser.add_argument("--rec", default="")
    parser.add_argument("--idx", default="")
    defaults = {"--input-size": 224, "--batch-size": 32, "--runs": 15, "--threads": physical_cores(), "--repeat": 4}
    for name, default in defaults.items():
        parser.add_argument(name, type=positive, default=default)
    args = parser.parse_args(argv)
    output = pick(OutputOptions, args)
    output.check()
    if bool(args.rec) != bool(args.idx):
        raise InputError("--rec and --idx are given together or not at all")
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(args.threads) as pool, tempfile.TemporaryDirectory() as folder:
        given = RecordFile(args.rec, args.idx) if args.rec else make_images(folder)
        file = repeated(given, args.repeat, folder)
        decode_only = make_decoding(file, pool)
        contestants = {
            "OpenCV decoding again": decode_only,
            PLAIN_NAME: make_plain_pipeline(file, args.input_size, args.batch_size, args.threads),
            "training": make_pipeline(file, args.input_size, args.batch_size, args.threads, training=True),
            "evaluation": make_pipeline(file, args.input_size, args.batch_size, args.threads, training=False),
        }
        speeds = measure(decode_only, contestants, args.runs)
        num_images = len(read_index(file.idx))
    notes = [f"{num_images} images, {args.input_size} px, {args.threads} threads, {args.runs} runs"]
    # the plain one decodes in other processes, whose processor time is not counted here
    notes += [f"{name}: {describe(pairs)}" for name, pairs in speeds.items() if name != PLAIN_NAME]
    names = ("input_size", "batch_size", "runs", "threads", "repeat")
    options = {**{name: getattr(args, name) for name in names}, "images": "given" if args.rec else "noise"}
    Result("input_pipeline", "an image", options, rows_of_speeds(speeds), notes).report(output)
    return 0


def rows_of_speeds(speeds: Dict[str, List[Tuple[Speed, Speed]]]) -> List[Row]:
    ways = [Way(name, ROLE.get(name, OTHER), lambda _: None) for name in speeds]
    return rows_of(ways, {name: [1 / own.images_per_second for own, _ in pairs] for name, pairs in speeds.items()})


def describe(pairs: List[Tuple[Speed, Speed]]) -> str:
    """Medians of a contestant and of decoding, and of their ratios, by the clock and by the work of the processor."""
    own, base = (Speed(*map(statistics.median, zip(*speeds))) for speeds in zip(*pairs))
    wall = statistics.median(one.images_per_second / other.images_per_second for one, other in pairs)
    cpu = statistics.median(other.cpu_ms / one.cpu_ms for one, other in pairs)
    return (
        f"{own.images_per_second:6.0f} images/s of {base.images_per_second:6.0f}, ratio {wall:.3f};  "
        f"CPU {own.cpu_ms:.2f} ms an image, decoding {base.cpu_ms:.2f}, ratio {cpu:.3f}"
    )


def repeated(file: RecordFile, times: int, folder: str) -> RecordFile:
    """The same images several times, so that starting and ending an epoch counts as little as it does in training."""
    index, content = read_index(file.idx), Path(file.rec).read_bytes()
    many = RecordFile(f"{folder}/a.rec", f"{folder}/a.idx")
    Path(many.rec).write_bytes(content * times)
    offsets = np.concatenate([index.offsets + i * len(content) for i in range(times)])
    Path(many.idx).write_bytes(Index(np.arange(len(offsets)), offsets).to_bytes())
    return many


def make_images(folder: str) -> RecordFile:
    """JPEGs of smooth coloured noise, 500 x 375 px, whose content compresses about as photographs do."""
    file, rng = RecordFile(f"{folder}/noise.rec", f"{folder}/noise.idx"), np.random.default_rng(0)
    writer = mx.recordio.MXIndexedRecordIO(file.idx, file.rec, "w")
    for i in range(NUM_NOISE_IMAGES):
        coarse = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        header = mx.recordio.IRHeader(0, float(i % 10), i, 0)
        writer.write_idx(i, mx.recordio.pack_img(header, image, quality=90))
    writer.close()
    return file


def make_plain_pipeline(file: RecordFile, input_size: int, batch_size: int, num_workers: int) -> Callable[[], int]:
    """An epoch of training batches by Gluon's own data set, transforms and loader, as its image recipes write it."""
    ours, transforms = IMAGENET_AUGMENTATION, mx.gluon.data.vision.transforms
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(input_size, scale=ours.area, ratio=ours.aspect),
            transforms.RandomFlipLeftRight(),
            transforms.RandomColorJitter(brightness=ours.jitter, contrast=ours.jitter, saturation=ours.jitter),
            transforms.RandomLighting(ours.pca_noise),
            transforms.ToTensor(),
            transforms.Normalize([value / 255 for value in IMAGENET_MEAN], [value / 255 for value in IMAGENET_STD]),
        ]
    )
    images = mx.gluon.data.vision.ImageRecordDataset(file.rec).transform_first(transform)
    loader = mx.gluon.data.DataLoader(images, batch_size, shuffle=True, num_workers=num_workers)

    def run() -> int:
        num_images = 0
        for batch, _ in loader:
            num_images += batch.shape[0]
        mx.nd.waitall()
        return num_images

    return run


def make_decoding(file: RecordFile, pool: ThreadPoolExecutor) -> Callable[[], int]:
    """Decode every image in memory to full size, an image a task."""
    with RecordReader(file.rec) as reader:
        contents = [np.frombuffer(reader.read_image(int(o))[1], np.uint8) for o in read_index(file.idx).offsets]

    def run() -> int:
        return sum(pool.map(lambda content: cv2.imdecode(content, cv2.IMREAD_COLOR) is not None, contents))

    return run


def make_pipeline(
    file: RecordFile, input_size: int, batch_size: int, num_workers: int, training: bool
) -> Callable[[], int]:
    """A whole epoch of batches, from the file to arrays of the engine."""
    augmentation = augmentation_for(input_size) if training else None
    look = Preparation(input_size, IMAGENET_MEAN, IMAGENET_STD, IMAGENET_CROP_RATIO, augmentation)
    order = Order(seed=0, every_epoch=True) if training else Order()
    loader = ImageLoader(file, look, order, batch_size, num_workers, num_classes=2**24)
    epochs = iter(range(10**9))

    def run() -> int:
        num_images = 0
        for batch in loader.epoch(next(epochs)):
            num_images += len(batch.positions)
        mx.nd.waitall()
        return num_images

    return run


def measure(
    base: Callable[[], int], contestants: Dict[str, Callable[[], int]], num_runs: int
) -> Dict[str, List[Tuple[Speed, Speed]]]:
    """The speed of each contestant and of `base` right before it; the first round is not counted."""
    speeds: Dict[str, List[Tuple[Speed, Speed]]] = {name: [] for name in contestants}
    for run in range(num_runs + 1):
        for name, contestant in contestants.items():
            before, own = clock(base), clock(contestant)
            if run > 0:
                speeds[name].append((own, before))
    return speeds


def clock(run: Callable[[], int]) -> Speed:
    wall, cpu = time.perf_counter(), time.process_time()
    num_images = run()
    return Speed(num_images / (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu) / num_images)


if __name__ == "__main__":
    sys.exit(run_program(main))
