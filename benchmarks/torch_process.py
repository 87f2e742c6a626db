"""PyTorch in a process and an environment of its own (GluonCV does not import beside it), in turns with MXNet.

One request is under way at a time, so one of the two computes and the other waits in a read. That it does is measured:
a process that spins while it waits would take the other's cores.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.flags import flag
from spos.core.installation import ROOT
from spos.engine.compat import num_threads
from spos.space.architecture import Architecture
from spos.space.space import SearchSpace

IDLE_SHARE_MAX = 0.05  # processor seconds of the waiting side for each second of the other's work
SETTLE_SECONDS = 0.05  # before the other side is asked: ONNX Runtime's threads spin on after a call
NETWORK = "network"  # key of the only one
LEAST_SECONDS = 1.0  # of work, before a share says something


@dataclass(frozen=True)
class TorchOptions:
    """PyTorch beside MXNet."""

    torch_python: str = flag("", "a Python that has PyTorch and NumPy, in an environment of its own (empty: left out)")


WITHOUT = "PyTorch was left out: --torch-python names no Python that has it."


class TorchProcess:
    """A Python with PyTorch that does what it is asked; use it with `with`.

    Raises: InputError if that Python does not run, or has no PyTorch.
    """

    def __init__(self, python: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed by `close`
        self._count = 0
        self._idle: Dict[str, List[float]] = {"PyTorch": [0.0, 0.0], "MXNet": [0.0, 0.0]}  # (processor, waited)
        self._answered: Optional[float] = None
        try:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.torch_worker"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
            )
        except OSError as error:
            raise InputError(f"--torch-python {python} does not run: {error.strerror}") from None
        try:
            self.version: str = self.ask("start", threads=num_threads())["torch"]
        except InputError:
            self.close()
            raise

    def __enter__(self) -> TorchProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, command: str, **arguments: Any) -> Dict[str, Any]:
        """The answer to a request. Raises InputError if the process has ended, with the last line it wrote."""
        time.sleep(SETTLE_SECONDS)
        started, cpu = time.perf_counter(), time.process_time()
        try:
            print(json.dumps({"command": command, **arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise InputError(f"the process of PyTorch ended: {self._last_error()}")
        answer = json.loads(line)
        now = time.perf_counter()
        self._note("MXNet", time.process_time() - cpu, now - started)
        if self._answered is not None:
            self._note("PyTorch", answer["idle_cpu"], started - self._answered)
        self._answered = now
        return answer

    def load(
        self,
        space: SearchSpace,
        arrays: Mapping[str, np.ndarray],
        is_supernet: bool,
        bn: bool = True,
        dropout: bool = True,
        training: Optional[Mapping[str, float]] = None,
        key: str = NETWORK,
    ) -> None:
        """Make a network of these arrays, in the place of the one that had this key."""
        file = self.new_file("npz")
        np.savez(file, **arrays)
        self.ask(
            "load",
            key=key,
            space=space.to_json(),
            arrays=str(file),
            is_supernet=is_supernet,
            bn=bn,
            dropout=dropout,
            training=training,
        )
        file.unlink()

    def give_data(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Batches of images (B, N, 3, H, W) and the labels (N,) of the first."""
        file = self.new_file("npz")
        np.savez(file, images=images, labels=labels)
        self.ask("data", file=str(file))
        file.unlink()

    def first_step(self, architecture: Architecture, execution: str) -> Tuple[float, Dict[str, np.ndarray]]:
        """Loss of a step, and what it changed, by parameter."""
        file = self.new_file("npz")
        answer = self.ask("first_step", architecture=choices(architecture), execution=execution, changes=str(file))
        with np.load(file, allow_pickle=False) as values:
            changes = dict(values)
        file.unlink()
        return answer["loss"], changes

    def logits(self, architecture: Architecture, key: str = NETWORK) -> np.ndarray:
        """Of the first batch."""
        file = self.new_file("npy")
        self.ask("infer", key=key, architecture=choices(architecture), logits=str(file))
        return np.load(file, allow_pickle=False)

    def seconds(self, command: str, architecture: Architecture, **arguments: Any) -> float:
        """How long the work of a request took, without the request. Raises InputError if its loss is not finite."""
        answer = self.ask(command, architecture=choices(architecture), **arguments)
        if not np.isfinite(answer.get("loss", 0.0)):
            raise InputError("the loss of PyTorch is not finite: its times are of another computation")
        return answer["seconds"]

    def idle_shares(self) -> Dict[str, float]:
        """Processor time of each side for each second that it waited for the other."""
        return {side: cpu / waited for side, (cpu, waited) in self._idle.items() if waited >= LEAST_SECONDS}

    def check_idle(self) -> None:
        """Raise InputError if one side computed while it should have waited: the times are worth nothing then."""
        for side, share in self.idle_shares().items():
            if share > IDLE_SHARE_MAX:
                raise InputError(f"{side} took {share:.0%} of a core while it waited for the other; not reported")

    def new_file(self, suffix: str) -> Path:
        self._count += 1
        return Path(self._folder.name) / f"{self._count}.{suffix}"

    def close(self) -> None:
        """Let the process end."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        self._folder.cleanup()

    def _note(self, side: str, cpu: float, waited: float) -> None:
        self._idle[side][0] += cpu
        self._idle[side][1] += waited

    def _last_error(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return lines[-1] if lines else f"exit code {self._process.returncode}"


def choices(architecture: Architecture) -> List[List[int]]:
    """As requests write an architecture."""
    return [list(architecture.block_choices), list(architecture.channel_choices)]
