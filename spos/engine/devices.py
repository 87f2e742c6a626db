"""Contexts to compute on, the workers that train together, and versions of what computes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import cv2
import numpy as np

from spos.core.errors import InputError
from spos.core.installation import ROOT
from spos.engine.cluster import Cluster, open_cluster
from spos.engine.compat import mx, return_freed_memory
from spos.engine.flags import DeviceOptions, TrainDeviceOptions
from spos.native import build


def make_devices(options: DeviceOptions) -> Tuple[mx.Context, ...]:
    """The contexts to compute on. Raises InputError if they are not there or cannot do the precision.

    With `--low-memory` this process, and those it starts, give freed memory back from now on.
    """
    if options.low_memory:
        return_freed_memory()
    if options.num_gpus == 0:
        if options.dtype != "float32":
            raise InputError(f"--dtype {options.dtype} needs a GPU: MXNet has no such convolution on CPU")
        return tuple(mx.cpu(i) for i in range(options.num_cpus_ctx))
    if options.num_gpus > mx.context.num_gpus():
        raise InputError(f"--num-gpus {options.num_gpus}: MXNet sees {mx.context.num_gpus()} GPUs on this machine")
    return tuple(mx.gpu(i) for i in range(options.num_gpus))


def join_cluster(options: TrainDeviceOptions) -> Cluster:
    """The workers that train together, this one among them; LOCAL unless `--kv-store` says otherwise."""
    if options.kv_store == "dist_async" and options.dtype != "float32":
        raise InputError(
            f"--kv-store dist_async adds small changes to the parameters, for which {options.dtype} is too coarse: "
            "use --dtype float32 or --kv-store dist_sync"
        )
    return open_cluster(options.kv_store)


def versions() -> Dict[str, Any]:
    """What a result depends on beside its flags: library versions, native kernels, and the commit if it is known."""
    libraries = {"mxnet": mx.__version__, "numpy": np.__version__, "opencv": cv2.__version__}
    return {**libraries, "native": build.version(), "commit": commit_of(ROOT)}


def commit_of(folder: Path) -> Optional[str]:
    """The commit that is checked out in a folder; None if it is not the top of a repository, or there is no git."""
    command = ["git", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    if done.returncode:
        return None
    top, commit = done.stdout.split("\n")[:2]
    return commit if Path(top).resolve() == folder else None  # an environment may lie inside another repository
