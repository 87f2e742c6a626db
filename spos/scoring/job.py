"""What a process that scores candidates runs: `score(job, architecture, race)`.

A job names everything by value or by file, so that it can be sent to another process or machine. The evaluator is
built once in each process. A worker that would score something else than the search asks for refuses.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from spos.core.errors import InputError, warn
from spos.core.executors import device_index
from spos.data.dataset import DataSet
from spos.data.flags import DataOptions
from spos.data.pixels import load_images
from spos.data.registry import open_data, with_lists
from spos.engine.compat import mx
from spos.engine.gpu import avoid_autotuning
from spos.runs.files import file_digest
from spos.runs.run import DATA_PATHS, LISTS_FOLDER, MODEL_FILE, SUPERNET_RUN, RunDirectory, open_run_directory
from spos.scoring.accuracy import Accuracy
from spos.scoring.candidate import CandidateEvaluator, candidate_evaluator
from spos.scoring.racing import Race
from spos.scoring.supernet import check_supernet, load_supernet
from spos.space.flags import space_of_run
from spos.space.space import Architecture, SearchSpace

SCORING_LISTS = {"holdout": "search_val", "val": "test"}  # by --search-on


@dataclass(frozen=True)
class ScoringJob:
    """Everything that the accuracy of an architecture depends on.

    Args:
        lists: folder of the held-out lists.
        images: the digests of the lists that update BatchNorm and that score, by name.
        contents: checksum of labels and of a sample of the images, which is no part of the identity.
        on_gpu: compute on the GPU of this process, else on the CPU.    dtype: of the network while scoring.
        run: folder where decoded images are kept, if they have to be.    shared: several processes use them.
    """

    supernet_params: str
    supernet_sha256: str
    space: SearchSpace
    data: DataOptions
    lists: str
    search_on: str
    images: Tuple[Tuple[str, Tuple[int, ...]], ...]
    contents: Tuple[Tuple[str, str], ...]
    on_gpu: bool
    dtype: str
    run: str
    shared: bool

    @property
    def identity(self) -> Dict[str, str]:
        """What two searches must have in common to share scores; a part of every row of the history."""
        seen = [self.images, self.data.input_size, self.data.crop_ratio, self.data.batch_size]
        return {
            "fingerprint": self.space.fingerprint,
            "supernet": self.supernet_sha256[:16],
            "images": hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16],
        }


def make_job(
    supernet_params: str,
    space: SearchSpace,
    options: DataOptions,
    data: DataSet,
    lists: Path,
    search_on: str,
    on_gpu: bool,
    dtype: str,
    run: Path,
    shared: bool,
) -> ScoringJob:
    """The job of a search on `data`, which has its lists. Paths become absolute, for workers may run elsewhere."""
    paths = {name: os.path.abspath(getattr(options, name)) for name in DATA_PATHS if getattr(options, name)}
    sizes = {"input_size": data.input_size, "crop_ratio": data.crop_ratio}
    return ScoringJob(
        os.path.abspath(supernet_params),
        file_digest(supernet_params),
        space,
        replace(options, **paths, **sizes),
        os.path.abspath(lists),
        search_on,
        _summarize(data, search_on),
        tuple(data.contents().items()),
        on_gpu,
        dtype,
        os.path.abspath(run),
        shared,
    )


def warn_of_short_lists(data: DataSet, search_on: str, batch_size: int) -> None:
    """Say when lists hold fewer images than a batch: they work, each as one smaller batch."""
    counts = {name: len(data.splits[name]) for name in ("bn", SCORING_LISTS[search_on])}
    short = [name for name, count in counts.items() if count < batch_size]
    if short:
        warn(
            f"the held-out lists {' and '.join(short)} have {' and '.join(str(counts[name]) for name in short)} "
            f"images, fewer than --batch-size {batch_size}: each is one smaller batch"
        )


_lock = threading.Lock()  # a Dask worker may have several threads
_evaluators: Dict[ScoringJob, CandidateEvaluator] = {}  # at most one


def score(job: ScoringJob, architecture: Architecture, race: Optional[Race] = None) -> Accuracy:
    """Accuracy of an architecture; on a part of the images if it lost its race."""
    with _lock:
        if job not in _evaluators:
            _evaluators.clear()
            _evaluators[job] = make_evaluator(job)
        return _evaluators[job](architecture, race)


def make_evaluator(job: ScoringJob) -> CandidateEvaluator:
    """Raises: InputError if the files of this machine are not those of the job."""
    here = f"worker on {socket.gethostname()}"
    if not Path(job.supernet_params).is_file():
        raise InputError(f"{here}: {job.supernet_params} does not exist there; copy it")
    if file_digest(job.supernet_params) != job.supernet_sha256:
        raise InputError(f"{here}: {job.supernet_params} is not the supernet that the search began with; copy it there")
    if job.on_gpu:
        avoid_autotuning(os.environ)
    ctx = (mx.gpu(device_index()) if job.on_gpu else mx.cpu(),)
    net = load_supernet(job.supernet_params, job.space, ctx)
    data = with_lists(open_data(job.data), job.data, Path(job.lists))
    own = (*_summarize(data, job.search_on), *data.contents().items())
    for (name, expected), (_, found) in zip((*job.images, *job.contents), own):
        if expected != found:
            raise InputError(
                f"{here} has other images in its list '{name}' of {data.name} than the search: copy the images to all "
                "machines"
            )
    return candidate_evaluator(
        net, data, job.data, Path(job.run), ctx, job.dtype, SCORING_LISTS[job.search_on], job.shared
    )


def load_job_images(job: ScoringJob) -> None:
    """Decode the images of a job into the files that its processes share, unless they are there."""
    data = with_lists(open_data(job.data), job.data, Path(job.lists))
    for name, _ in job.images:
        load_images(data, name, job.data, Path(job.run), shared=True)


def _summarize(data: DataSet, search_on: str) -> Tuple[Tuple[str, Tuple[int, ...]], ...]:
    names = ("bn", SCORING_LISTS[search_on])
    return tuple((name, tuple(data.splits[name].digest())) for name in names)


@dataclass(frozen=True)
class TrainedSupernet:
    """A finished run of `train_imagenet.py --model ShuffleNas`."""

    run: RunDirectory
    space: SearchSpace
    data: DataOptions

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def params(self) -> str:
        return str(self.run.path / MODEL_FILE)

    def with_lists(self) -> DataSet:
        """Its images, with the lists that were held out of its training."""
        return with_lists(open_data(self.data), self.data, self.run.path / LISTS_FOLDER)

    def job(self, folder: Path, on_gpu: bool = False, shared: bool = False) -> ScoringJob:
        """What scores with it.

        Args:
            folder: where decoded images are kept, if they take too much memory, or several processes use them
                (`shared`).
        """
        lists, data = self.run.path / LISTS_FOLDER, self.with_lists()
        return make_job(self.params, self.space, self.data, data, lists, "holdout", on_gpu, "float32", folder, shared)


def open_supernet(path: Path, batch_size: int = 0) -> TrainedSupernet:
    """Args: batch_size: images in a step of scoring; 0: as in its training.

    Raises: InputError if it is no finished run of a supernet.
    """
    run = open_run_directory(path)
    space = space_of_run(run)
    if run.kind != SUPERNET_RUN or space is None:
        raise InputError(f"--supernet {path} is the run of a {run.kind}")
    if not (path / MODEL_FILE).is_file():
        raise InputError(f"the run in {path} is not finished: it has no {MODEL_FILE} yet; the same command goes on")
    options = run.flags(DataOptions)
    return TrainedSupernet(run, space, replace(options, batch_size=batch_size or options.batch_size))


def open_supernets(paths: Sequence[Path], batch_size: int) -> List[TrainedSupernet]:
    """Raises: InputError as `open_supernet`, and if two have one name or differ in their space."""
    supernets = [open_supernet(path, batch_size) for path in paths]
    names = [supernet.name for supernet in supernets]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"two of the supernets are named {twice.pop()}: their folders must differ in the last part")
    for supernet in supernets:
        check_supernet(supernet.params, supernet.space)
        if supernet.space != supernets[0].space:
            raise InputError(f"{supernet.run.path} was trained in another search space than {supernets[0].run.path}")
    return supernets
