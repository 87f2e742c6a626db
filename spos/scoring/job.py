"""Scoring jobs, and what a process that scores candidates runs: `score(job, architecture, race)`.

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
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.core.executors import device_index
from spos.data.dataset import DataSet
from spos.data.flags import SCORING_LISTS, DataOptions
from spos.data.pixels import load_images
from spos.data.registry import open_data, with_lists
from spos.engine.compat import mx
from spos.engine.gpu import avoid_autotuning
from spos.runs.files import file_digest
from spos.runs.run import DATA_PATHS
from spos.scoring.accuracy import Accuracy
from spos.scoring.candidate import CandidateEvaluator, Paths, candidate_evaluator
from spos.scoring.racing import Race
from spos.scoring.supernet import load_supernet
from spos.space.architecture import Architecture
from spos.space.blocks import load_blocks
from spos.space.space import SearchSpace


@dataclass(frozen=True)
class ScoringJob:
    """Everything that the accuracy of an architecture depends on.

    Args:
        supernets: files of their parameters, each with its digest (SHA-256); the score is the mean of theirs.
        lists: folder of the held-out lists.
        images: the digests of the lists that update BatchNorm and that score, by name.
        contents: checksums of labels and of a sample of the images, which are no part of the identity.
        on_gpu: compute on the GPU of this process, else on the CPU.    dtype: of the network while scoring.
        run: folder where decoded images are kept, if they have to be.    shared: several processes use them.
        quantized: candidates are measured in INT8, which is a part of the identity.
        num_refit_images: as of `candidate_evaluator`, likewise.
        blocks: the user's files that describe blocks of the space, which every process runs, and their digests.
    """

    supernets: Tuple[Tuple[str, str], ...]
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
    blocks: Tuple[Tuple[str, str], ...] = ()
    quantized: bool = False
    num_refit_images: int = 0

    @property
    def identity(self) -> Dict[str, str]:
        """What two searches must have in common to share scores; a part of every row of the history."""
        seen: List[Any] = [self.images, self.data.input_size, self.data.crop_ratio, self.data.batch_size]
        seen += ["int8"] if self.quantized else []
        seen += [["refit", self.num_refit_images]] if self.num_refit_images else []
        return {
            "fingerprint": self.space.fingerprint,
            "supernet": digest_of_all([digest for _, digest in self.supernets])[:16],
            "images": hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:16],
        }


def digest_of_all(digests: Sequence[str]) -> str:
    """That of a supernet; of several one that does not depend on their order, as their mean does not."""
    return digests[0] if len(digests) == 1 else hashlib.sha256(",".join(sorted(digests)).encode()).hexdigest()


def absolute_paths(options: DataOptions) -> DataOptions:
    """The same files, wherever a process works."""
    given = [name for name in DATA_PATHS if getattr(options, name)]
    paths: Dict[str, Any] = {name: os.path.abspath(getattr(options, name)) for name in given}
    return replace(options, **paths)


_lock = threading.Lock()  # a Dask worker may have several threads
_evaluators: Dict[ScoringJob, CandidateEvaluator] = {}  # at most one


def score(
    job: ScoringJob,
    architecture: Architecture,
    race: Optional[Race] = None,
    paths: Optional[Callable[[Supernet], Paths]] = None,
) -> Accuracy:
    """Accuracy of an architecture; on a part of the images if it lost its race.

    Args:
        paths: as of `candidate_evaluator`; a module's function, the same for all calls with this job.
    """
    with _lock:
        if job not in _evaluators:
            _evaluators.clear()
            _evaluators[job] = make_evaluator(job, paths)
        return _evaluators[job](architecture, race)


def make_evaluator(job: ScoringJob, paths: Optional[Callable[[Supernet], Paths]] = None) -> CandidateEvaluator:
    """Raises: InputError if the files of this machine are not those of the job."""
    here = f"worker on {socket.gethostname()}"
    for file, digest in job.blocks:
        if not Path(file).is_file() or file_digest(file) != digest:
            raise InputError(f"{here}: --blocks {file} is not there as the search has it; copy it")
        load_blocks(file)
    for file, digest in job.supernets:
        if not Path(file).is_file():
            raise InputError(f"{here}: {file} does not exist there; copy it")
        if file_digest(file) != digest:
            raise InputError(f"{here}: {file} is not the supernet that the search began with; copy it there")
    if job.on_gpu:
        avoid_autotuning(os.environ)
    ctx = (mx.gpu(device_index()) if job.on_gpu else mx.cpu(),)
    net, *others = (load_supernet(file, job.space, ctx) for file, _ in job.supernets)
    data = with_lists(open_data(job.data), job.data, Path(job.lists))
    own = (*summarize_lists(data, job.search_on), *data.contents().items())
    for (name, expected), (_, found) in zip((*job.images, *job.contents), own):
        if expected != found:
            raise InputError(
                f"{here} has other images in its list '{name}' of {data.name} than the search: copy the images to all "
                "machines"
            )
    split = SCORING_LISTS[job.search_on]
    return candidate_evaluator(
        net,
        data,
        job.data,
        Path(job.run),
        ctx,
        job.dtype,
        split,
        job.shared,
        others,
        paths,
        job.num_refit_images,
    )


def load_job_images(job: ScoringJob) -> None:
    """Decode the images of a job into the files that its processes share, unless they are there."""
    data = with_lists(open_data(job.data), job.data, Path(job.lists))
    for name, _ in job.images:
        load_images(data, name, job.data, Path(job.run), shared=True)


def summarize_lists(data: DataSet, search_on: str) -> Tuple[Tuple[str, Tuple[int, ...]], ...]:
    """Numbers that tell the lists that a job uses from others, by name."""
    names = ("bn", SCORING_LISTS[search_on])
    return tuple((name, tuple(data.splits[name].digest())) for name in names)
