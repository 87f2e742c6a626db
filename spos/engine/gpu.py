"""GPUs: which of them the MXNet 1.9.1 wheels can run, and where their CUDA libraries are.

MXNet is not imported here: `scripts/setup.sh` asks before it downloads anything, with any Python
(`python -m spos.engine.gpu cu112`), and `spos.engine.compat` asks before it imports MXNet.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from importlib import metadata
from typing import List, MutableMapping, Optional, Tuple

# Lowest and highest compute capability of each wheel. The wheels carry machine code for some capabilities and nothing
# to compile for others; code for X.y also runs on X.z with z >= y. Read from the code objects inside each libmxnet.so:
# cu101 and cu102 hold 3.0 5.0 6.0 7.0 7.5, cu110 holds 5.0 6.0 7.0 8.0, cu112 and cu117 hold 5.0 6.0 7.0 8.0 8.6.
CAPABILITY_RANGE = {
    "cu101": ((3, 0), (7, 5)),
    "cu102": ((3, 0), (7, 5)),
    "cu110": ((5, 0), (8, 9)),
    "cu112": ((5, 0), (8, 9)),
    "cu117": ((5, 0), (8, 9)),
}

# (package, library), a library after those it needs. These are CUDA 11: older builds use the system's CUDA.
CUDA_11_LIBRARIES = (
    ("nvidia-cuda-runtime-cu11", "libcudart.so.11.0"),
    ("nvidia-cuda-nvrtc-cu11", "libnvrtc.so.11.2"),
    ("nvidia-nvtx-cu11", "libnvToolsExt.so.1"),
    ("nvidia-cublas-cu11", "libcublasLt.so.11"),
    ("nvidia-cublas-cu11", "libcublas.so.11"),
    ("nvidia-cufft-cu11", "libcufft.so.10"),
    ("nvidia-curand-cu11", "libcurand.so.10"),
    ("nvidia-cusparse-cu11", "libcusparse.so.11"),
    ("nvidia-cusolver-cu11", "libcusolver.so.11"),
    ("nvidia-cudnn-cu11", "libcudnn.so.8"),
    ("nvidia-nccl-cu11", "libnccl.so.2"),
)
CUDA_11_BUILDS = ("cu112", "cu117")

AUTOTUNE = "MXNET_CUDNN_AUTOTUNE_DEFAULT"  # MXNet reads it when it makes a convolution

# CUdevice_attribute, cuda.h
_CAPABILITY_MAJOR = 75
_CAPABILITY_MINOR = 76


def gpu_problem(compute_capability: Tuple[int, int], cuda_build: str) -> Optional[str]:
    """Say in one line why a GPU cannot run a wheel, or return None if it can.

    Args:
        compute_capability: (major, minor), e.g. (8, 6) for an A10.
        cuda_build: suffix of the wheel's name, e.g. "cu112".
    Raises: ValueError for a build that MXNet 1.9.1 does not have.
    """
    if cuda_build not in CAPABILITY_RANGE:
        raise ValueError(f"MXNet 1.9.1 has no build {cuda_build!r}; it has {', '.join(sorted(CAPABILITY_RANGE))}")
    lowest, highest = CAPABILITY_RANGE[cuda_build]
    if lowest <= tuple(compute_capability) <= highest:
        return None
    others = [build for build, (low, high) in CAPABILITY_RANGE.items() if low <= tuple(compute_capability) <= high]
    advice = f"use {' or '.join(others)}" if others else "no MXNet 1.9.1 build can: use another GPU, or the CPU"
    return (
        f"a GPU of compute capability {_dotted(compute_capability)} cannot run mxnet-{cuda_build}, "
        f"which is built for {_dotted(lowest)} to {_dotted(highest)}; {advice}"
    )


def read_compute_capabilities() -> List[Tuple[int, int]]:
    """Return (major, minor) of each GPU, or an empty list if there is no GPU or no driver.

    The driver library is asked first because it respects CUDA_VISIBLE_DEVICES; nvidia-smi does not.
    """
    try:
        return _ask_driver(ctypes.CDLL("libcuda.so.1"))
    except OSError:
        return _ask_nvidia_smi()


def parse_compute_caps(text: str) -> List[Tuple[int, int]]:
    """Parse the output of `nvidia-smi --query-gpu=compute_cap --format=csv,noheader`: one '8.6' a line.

    Other lines are skipped: drivers before 510 print an error about an unknown field instead.
    """
    capabilities = []
    for line in text.splitlines():
        major, _, minor = line.strip().partition(".")
        if major.isdigit() and minor.isdigit():
            capabilities.append((int(major), int(minor)))
    return capabilities


def installed_cuda_build() -> Optional[str]:
    """Return the suffix of the installed GPU wheel, e.g. "cu112", or None for the CPU wheel."""
    for build in CAPABILITY_RANGE:
        try:
            metadata.distribution(f"mxnet-{build}")
        except metadata.PackageNotFoundError:
            continue
        return build
    return None


def gpu_problems(cuda_build: str) -> List[str]:
    """Return one line for each GPU of this machine that cannot run the build, or one that says there is no GPU."""
    capabilities = read_compute_capabilities()
    if not capabilities:
        return [f"no NVIDIA GPU found, or no driver: mxnet-{cuda_build} does not load without a driver"]
    problems = [gpu_problem(capability, cuda_build) for capability in capabilities]
    return [f"GPU {index}: {problem}" for index, problem in enumerate(problems) if problem is not None]


def avoid_autotuning(environ: MutableMapping[str, str]) -> None:
    """Let cuDNN choose convolution kernels by its rules, unless the user has set what MXNet does.

    By default MXNet times all kernels for every new shape, in every process, and takes the fastest. Each of the 338
    convolutions of the space of OneShot-S+ would be timed at every batch size that a search has, and two workers, or
    a search that goes on, could choose differently, round differently and count other hits.
    """
    environ.setdefault(AUTOTUNE, "0")


def preload_cuda_libraries(cuda_build: Optional[str]) -> List[str]:
    """Load the CUDA libraries of the nvidia-* packages, so that the dynamic loader finds them for libmxnet.so.

    Packages that are not installed are passed over: the system's CUDA is used then.

    Returns: names of the libraries loaded.
    """
    if cuda_build not in CUDA_11_BUILDS:
        return []
    loaded = []
    for package, library in CUDA_11_LIBRARIES:
        path = _packaged_file(package, library)
        if path is not None:
            ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
            loaded.append(library)
    return loaded


def _packaged_file(package: str, name: str) -> Optional[str]:
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == name), None)


def _ask_driver(cuda: ctypes.CDLL) -> List[Tuple[int, int]]:
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    capabilities = []
    for index in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        cuda.cuDeviceGet(ctypes.byref(device), index)
        cuda.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
        cuda.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
        capabilities.append((major.value, minor.value))
    return capabilities


def _ask_nvidia_smi() -> List[Tuple[int, int]]:
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_compute_caps(answer.stdout.decode("utf-8", "replace"))


def _dotted(compute_capability: Tuple[int, int]) -> str:
    return ".".join(str(part) for part in compute_capability)


def main(argv: Optional[List[str]] = None) -> int:
    """Print what stops this machine's GPUs from running a build; exit status 1 if there are GPUs and none can."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0] not in CAPABILITY_RANGE:
        print(f"usage: python -m spos.engine.gpu {{{','.join(CAPABILITY_RANGE)}}}", file=sys.stderr)
        return 2
    problems = gpu_problems(arguments[0])
    for problem in problems:
        print(problem)
    return 1 if problems and len(problems) == len(read_compute_capabilities()) else 0


if __name__ == "__main__":
    sys.exit(main())
