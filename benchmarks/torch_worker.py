"""The side of PyTorch, in its own environment: answers the requests of `benchmarks.torch_process`, lines of JSON.

    python -m benchmarks.torch_worker    # started by the benchmarks, not by hand

While MXNet computes, this process waits in a blocking read. Times are taken here, around the work alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np
import torch

from benchmarks.torch_networks import TorchNetwork, TorchTraining
from spos.space.architecture import Architecture
from spos.space.space import SearchSpace


@dataclass
class Worker:
    """What was loaded."""

    networks: Dict[str, TorchNetwork] = field(default_factory=dict)  # by their keys
    training: Optional[TorchTraining] = None  # of the network that was loaded last
    images: Optional[torch.Tensor] = None
    labels: Optional[torch.Tensor] = None
    cpu_at_answer: float = field(default_factory=time.process_time)

    def answer(self, request: Mapping[str, Any]) -> Dict[str, Any]:
        """Do what a request asks. `idle_cpu` is the processor time since the answer before."""
        idle = time.process_time() - self.cpu_at_answer
        arguments = {name: value for name, value in request.items() if name != "command"}
        if arguments.get("architecture"):
            arguments["architecture"] = Architecture(*arguments["architecture"])
        result = COMMANDS[request["command"]](self, **arguments)
        self.cpu_at_answer = time.process_time()
        return {"idle_cpu": idle, **result}


def start(worker: Worker, threads: int) -> Dict[str, Any]:
    torch.set_num_threads(threads)
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}


def load(
    worker: Worker,
    key: str,
    space: Mapping[str, Any],
    arrays: str,
    is_supernet: bool,
    bn: bool,
    dropout: bool,
    training: Optional[Mapping[str, float]] = None,
) -> Dict[str, Any]:
    """A network by the arrays of an .npz file, and an optimizer if it is to be trained."""
    with np.load(arrays, allow_pickle=False) as values:
        worker.networks[key] = TorchNetwork(SearchSpace.from_json(space), values, is_supernet, bn, dropout)
    worker.training = TorchTraining(worker.networks[key], **training) if training else None
    return {}


def data(worker: Worker, file: str) -> Dict[str, Any]:
    """Images (B, N, 3, H, W), B batches, and labels (N,)."""
    with np.load(file, allow_pickle=False) as values:
        worker.images = torch.stack(
            [torch.from_numpy(batch).to(memory_format=torch.channels_last) for batch in values["images"]]
        )
        worker.labels = torch.from_numpy(values["labels"]).long()
    return {}


def train_step(worker: Worker, architecture: Architecture, execution: str) -> Dict[str, Any]:
    begin = time.perf_counter()
    loss = worker.training.step(worker.images[0], worker.labels, architecture, execution)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "loss": float(loss)}


def first_step(worker: Worker, architecture: Architecture, execution: str, changes: str) -> Dict[str, Any]:
    """A step whose changes of all parameters are written to a file."""
    trained = worker.training.network.trained()
    before = {name: tensor.detach().clone() for name, tensor in trained.items()}
    result = train_step(worker, architecture, execution)
    with torch.no_grad():
        np.savez(changes, **{name: (tensor - before[name]).numpy() for name, tensor in trained.items()})
    return result


def infer(worker: Worker, key: str, architecture: Architecture, logits: str = "") -> Dict[str, Any]:
    """Logits of the first batch, written to a file if one is given."""
    with torch.inference_mode():
        begin = time.perf_counter()
        result = worker.networks[key](worker.images[0], architecture)
        seconds = time.perf_counter() - begin
    if logits:
        np.save(logits, result.numpy())
    return {"seconds": seconds}


def update_batch_norm(worker: Worker, key: str, architecture: Architecture, execution: str) -> Dict[str, Any]:
    """Statistics of a path as the mean of those of all batches, by forward passes without gradients."""
    network = worker.networks[key]
    with torch.no_grad():
        begin = time.perf_counter()
        for number, images in enumerate(worker.images, 1):
            network.momentum = 1 / number
            network(images, architecture, training=True, execution=execution)
        seconds = time.perf_counter() - begin
        network.unbias()
    return {"seconds": seconds}


COMMANDS: Mapping[str, Callable[..., Dict[str, Any]]] = {
    function.__name__: function for function in (start, load, data, train_step, first_step, infer, update_batch_norm)
}


def main() -> int:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    worker = Worker()
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
