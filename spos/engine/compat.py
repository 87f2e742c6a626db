"""The only module that imports MXNet; every other one says `from spos.engine.compat import mx`.

MXNet 1.9.1 and GluonCV 0.10.5 use names that NumPy and Python have since removed, and MXNet reads its settings once,
while it loads. So importing this module, unlike any other here, does work: it checks the versions, sets what the user
has not set, puts the missing names back, and loads the CUDA libraries. MXNet itself is imported when `mx` is first
asked for, so that an `import mxnet` elsewhere can have all this done before it goes on (`spos/engine/before_mxnet.py`).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import re
import sys
import types
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, MutableMapping, Optional, Sequence

from spos.core.errors import warn
from spos.core.installation import IN_CHECKOUT, install_command
from spos.engine.gpu import (
    gpu_problem,
    gpu_problems,
    installed_cuda_build,
    preload_cuda_libraries,
    read_compute_capabilities,
)

__all__ = [
    "gpu_problem",
    "gpu_problems",
    "import_gluoncv",
    "installed_cuda_build",
    "mx",
    "num_threads",
    "physical_cores",
    "read_compute_capabilities",
    "threads_of_each",
]

OLDEST_PYTHON = (3, 8)
NEWEST_PYTHON = (3, 12)
OMP_NUM_THREADS = "OMP_NUM_THREADS"
_THREADS = re.compile(r"[1-9][0-9]{0,5}$")
ADVICE = f"run `{install_command()}`, then use {'env/bin/python' if IN_CHECKOUT else 'this Python again'}"

# MXNet copies arrays of more elements than this with OpenMP threads, and small batches after one such copy took 3 times
# as long (2 cores). This is more than any array here has.
CPU_PARALLEL_SIZE = 2_000_000_000

# See mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
KEPT_BYTES = 2**30
LOW_MEMORY = "SPOS_LOW_MEMORY"  # environment variable; 1: freed memory goes back to the system

# NumPy 1.24 took out the first four. The others are still in 1.26, and gone from 2.0.
NUMPY_VALUES: Dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": float,
    "object": object,
    "PZERO": 0.0,
    "NZERO": -0.0,
    "PINF": float("inf"),
    "NINF": float("-inf"),
    "Inf": float("inf"),
    "NaN": float("nan"),
    "NAN": float("nan"),
}
NUMPY_RENAMED = {
    "alltrue": "all",
    "in1d": "isin",
    "product": "prod",
    "round_": "round",
    "row_stack": "vstack",
    "trapz": "trapezoid",
}
NUMPY_FINANCIAL = ("fv", "ipmt", "irr", "mirr", "nper", "npv", "pmt", "ppmt", "pv", "rate")

SYSTEM_LIBRARIES = {
    "libgomp.so.1": "the Debian package libgomp1",
    "libquadmath.so.0": "the Debian package libquadmath0",
    "libGL.so.1": "the Debian package libgl1",
    "libgthread-2.0.so.0": "the Debian package libglib2.0-0",
    "libcuda.so.1": "the NVIDIA driver (or the CPU flavour: `sh scripts/setup.sh cpu`)",
}


def check_python(version: Sequence[Any]) -> None:
    """Raise ImportError if MXNet 1.9.1 does not work with this Python."""
    major, minor = version[:2]
    if not OLDEST_PYTHON <= (major, minor) <= NEWEST_PYTHON:
        raise ImportError(f"this is Python {major}.{minor}, MXNet 1.9.1 works with 3.8 to 3.12: {ADVICE}")


def check_numpy(version: str) -> None:
    """Raise ImportError if MXNet 1.9.1 does not work with this NumPy."""
    if int(version.split(".")[0]) >= 2:
        raise ImportError(f"this is NumPy {version}, MXNet 1.9.1 works with 1.24 and 1.26, not with 2: {ADVICE}")


def physical_cores() -> int:
    """Count the physical cores this process may use, by its CPU affinity and its container's quota."""
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
    try:
        cores = len({_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus})
    except OSError:
        cores = len(cpus)
    return min(cores, _cpu_quota() or cores)


def _cpu_quota() -> Optional[int]:
    """Return the whole CPUs the control group allows, at least 1, or None without a limit."""
    with contextlib.suppress(OSError, ValueError):  # version 2: "200000 100000" or "max 100000"
        quota, period = _read("/sys/fs/cgroup/cpu.max").split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    with contextlib.suppress(OSError, ValueError):  # version 1: -1 is no limit
        micros, of_micros = (int(_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us")) for name in ("quota", "period"))
        return None if micros < 0 else max(1, micros // of_micros)
    return None


def _read(path: str) -> str:
    return Path(path).read_text().strip()


def check_threads(environ: MutableMapping[str, str]) -> None:
    """Make OMP_NUM_THREADS a whole number, or take it out: OpenMP takes more than that, and MXNet ends the process.

    Of several, one for each level of nesting, the first counts.
    """
    text = environ.get(OMP_NUM_THREADS)
    if text is None or _THREADS.match(text):
        return
    first = text.partition(",")[0].strip()
    if _THREADS.match(first):
        environ[OMP_NUM_THREADS] = first
        return
    del environ[OMP_NUM_THREADS]
    if text.strip():  # empty is as unset
        warn(f"OMP_NUM_THREADS is {text!r}, which is no number of threads; it is left out, so all cores compute")


check_threads(os.environ)
THREADS_OF_USER = os.environ.get(OMP_NUM_THREADS)  # before `set_variables`, which fills it in


def threads_of_each(num_processes: int) -> str:
    """OMP_NUM_THREADS for each of several processes on this machine: the user's, or an equal part of the cores."""
    return THREADS_OF_USER or str(max(1, physical_cores() // num_processes))


def num_threads() -> int:
    """How many threads MXNet computes with."""
    return int(os.environ[OMP_NUM_THREADS])


def set_variables(environ: Any) -> None:
    """Set MXNet's variables in `environ`, except those the user has set.

    Without OMP_NUM_THREADS, MXNet is as slow as with one thread. With MXNET_SAFE_ACCUMULATION, sums over float16 (in
    BatchNorm, softmax, norms) are of float32.
    """
    if OMP_NUM_THREADS not in environ:
        environ[OMP_NUM_THREADS] = str(physical_cores())
    environ.setdefault("MXNET_CPU_PARALLEL_SIZE", str(CPU_PARALLEL_SIZE))
    environ.setdefault("MXNET_SAFE_ACCUMULATION", "1")
    environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # a line of log for every executor
    environ.setdefault("JOBLIB_MULTIPROCESSING", "0")  # or scikit-learn leaves a semaphore behind when it is killed


def keep_freed_memory() -> None:
    """Let the C library reuse large blocks instead of returning them to the system, if it is glibc.

    A batch of 32 images of 224 px is 4,700 new pages otherwise: 14 ms of page faults on the machine this was tried on.
    """
    if os.environ.get(LOW_MEMORY) != "1":
        _set_malloc({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: KEPT_BYTES})


def return_freed_memory() -> None:
    """Undo `keep_freed_memory`, also for processes that this one starts.

    Maps of many sizes, as the paths of a supernet have them, then leave no gaps: training peaked at 2.6 instead of
    4.8 GB (224 px, batch 16) and took twice as long.
    """
    os.environ[LOW_MEMORY] = "1"
    _set_malloc({_M_MMAP_MAX: 65536, _M_TRIM_THRESHOLD: 128 * 1024})  # what glibc begins with


def _set_malloc(values: Dict[int, int]) -> None:
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in values.items():
            mallopt(parameter, value)


def add_numpy_names(numpy: Any) -> None:
    """Put back the names that MXNet and GluonCV take from NumPy and that this NumPy has not.

    Looks into the module's dictionary and never asks for the attribute: for removed names NumPy answers with warnings.
    """
    values = dict(NUMPY_VALUES, msort=lambda a: numpy.sort(a, axis=0))
    values.update({name: _removed_function(name) for name in NUMPY_FINANCIAL})
    for name, value in values.items():
        if name not in vars(numpy):
            setattr(numpy, name, value)
    for name, new_name in NUMPY_RENAMED.items():
        if name not in vars(numpy):
            setattr(numpy, name, getattr(numpy, new_name))


def _removed_function(name: str) -> Callable:
    def removed(*args, **kwargs):
        raise NotImplementedError(f"numpy.{name} was removed in NumPy 1.20: use the package numpy-financial")

    return removed


def add_distutils() -> None:
    """Supply `distutils.version` on Python 3.12, unless setuptools does.

    MXNet and GluonCV only build LooseVersion and StrictVersion objects and compare two of them.
    """
    try:
        import distutils.version  # noqa: F401
    except ImportError:
        from packaging.version import Version

        package, version = types.ModuleType("distutils"), types.ModuleType("distutils.version")
        vars(version).update(LooseVersion=Version, StrictVersion=Version)
        vars(package).update(__path__=[], version=version)
        sys.modules.update({"distutils": package, "distutils.version": version})


def missing_library_advice(error: BaseException) -> str:
    """Turn the loader's 'libgomp.so.1: cannot open shared object file' into what to install."""
    library, separator, _ = str(error).partition(": cannot open shared object file")
    if not separator:
        return str(error)
    source = SYSTEM_LIBRARIES.get(library, "your distribution, or from CUDA if its name says so")
    return f"the system library {library} is missing; it comes from {source}"


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _prepare() -> None:
    check_python(sys.version_info)
    keep_freed_memory()
    set_variables(os.environ)  # before NumPy: its OpenBLAS reads the number of threads
    try:
        import numpy
    except ModuleNotFoundError:
        raise _not_installed("numpy") from None
    check_numpy(numpy.__version__)
    add_numpy_names(numpy)
    if importlib.util.find_spec("mxnet") is None:
        raise _not_installed("mxnet")
    try:
        with _no_warnings():
            add_distutils()
            preload_cuda_libraries(installed_cuda_build())
    except OSError as error:
        raise ImportError(f"MXNet does not load: {missing_library_advice(error)}") from None


def _not_installed(module: Optional[str]) -> ImportError:
    return ImportError(f"module {module!r} is not installed for {sys.executable}: {ADVICE}")


def _import_mxnet() -> types.ModuleType:
    try:
        with _no_warnings():
            import mxnet
    except ModuleNotFoundError as error:
        raise _not_installed(error.name) from None
    except OSError as error:
        raise ImportError(f"MXNet does not load: {missing_library_advice(error)}") from None
    return mxnet


def import_gluoncv() -> types.ModuleType:
    """Import GluonCV without the warnings of its version checks, and return it.

    Raises: ImportError if PyTorch 2 is installed beside it, which GluonCV refuses.
    """
    try:
        with _no_warnings():
            import gluoncv
    except RuntimeError as error:
        raise ImportError(f"GluonCV does not import: {error}. Keep torch out of this environment: {ADVICE}") from error
    return gluoncv


if TYPE_CHECKING:
    import mxnet as mx
else:
    _prepare()

    def __getattr__(name: str) -> types.ModuleType:
        if name != "mx":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()["mx"] = _import_mxnet()
        return globals()["mx"]


def main() -> int:
    """Print the versions, and what this installation cannot do; exit status 1 if it is not complete.

    This is the last step of `scripts/setup.sh`.
    """
    import numpy

    from spos.engine.compat import mx

    import_gluoncv()
    build = installed_cuda_build()
    python = ".".join(str(part) for part in sys.version_info[:3])
    print(
        f"Python {python}, MXNet {mx.__version__} ({build or 'cpu'}), NumPy {numpy.__version__}, "
        f"GluonCV {metadata.version('gluoncv')}"
    )
    for problem in gpu_problems(build) if build else []:
        print(f"warning: {problem}", file=sys.stderr)
    try:
        import cv2  # noqa: F401  # mxnet.recordio.pack_img needs it, and MXNet goes without it silently
    except ImportError as error:
        print(f"OpenCV does not import: {missing_library_advice(error)}", file=sys.stderr)
        return 1
    return 0
