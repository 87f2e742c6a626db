"""Results of a flight: what its stages have written, and how long the exported networks take on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np
from msgspec import to_builtins

from spos.core.errors import InputError
from spos.data.flags import HOLDOUT
from spos.deploy.classification import EVALUATION_FILE
from spos.deploy.exported import open_model
from spos.pilot.flight import FlightState
from spos.pilot.latency import latency_of
from spos.pilot.outcome import OUTCOME_FILE, Outcome
from spos.pilot.plan import Plan
from spos.pilot.stages import CONTROL, FLOAT32, INT8, REPORT_FILE, SEARCHED, TEST, evaluation_folder
from spos.runs.files import read_json, write_json
from spos.runs.run import open_run_directory
from spos.space.architecture import Architecture
from spos.space.architecture_file import parse_architecture
from spos.space.cost import Cost, count_architecture
from spos.space.flags import space_of_run
from spos.space.space import SearchSpace

ROUNDS = 30  # timed calls, of which the median counts


def find_outcome(plan: Plan, state: FlightState, folder: Path) -> Outcome:
    """Read what the stages have written, time both files, and write `outcome.json`."""
    searched, control = folder / SEARCHED, folder / CONTROL
    found, int8 = (_evaluation(searched, name, TEST) for name in (FLOAT32, INT8))
    held_out = {name: _evaluation(searched, name, HOLDOUT)["top1"] for name in (FLOAT32, INT8)}
    other = _evaluation(control, FLOAT32, TEST)
    files = {name: searched / f"{name}.onnx" for name in (FLOAT32, INT8)}
    networks = {run: network_of(run) for run in (searched, control)}
    costs = {run: count_architecture(*network) for run, network in networks.items()}
    table_ms = latency_of(folder, networks[searched][1]) if plan.limits.latency_ms else 0.0
    check_kept(plan, costs[searched], table_ms, files[FLOAT32])
    latency_ms = time_models(files)
    chosen, why = choose_file(plan, held_out, latency_ms)
    outcome = Outcome(
        model=str(files[chosen]),
        why=why,
        top1=found["top1"],
        interval=list(found["top1_interval"]),
        num_images=found["num_images"],
        control_top1=other["top1"],
        control_interval=list(other["top1_interval"]),
        int8_top1=int8["top1"],
        held_out_top1=held_out,
        latency_ms=latency_ms,
        flops=costs[searched].macs,
        params=costs[searched].params,
        control_flops=costs[control].macs,
        control_params=costs[control].params,
        num_bytes={name: file.stat().st_size for name, file in files.items()},
        report=str(folder / REPORT_FILE),
        hours=round(state.spent / 3600, 3),
    )
    write_json(folder / OUTCOME_FILE, to_builtins(outcome))
    return outcome


def _evaluation(run: Path, name: str, split: str) -> Dict[str, Any]:
    return read_json(evaluation_folder(run, name, split) / EVALUATION_FILE)


def network_of(run: Path) -> Tuple[SearchSpace, Architecture]:
    """The architecture that was trained in a run, in its space at its size and strides."""
    directory = open_run_directory(run)
    space = space_of_run(directory)
    if space is None:
        raise InputError(f"{run} is not the run of a subnet")
    return space, parse_architecture(directory.config["architecture"], str(run)).architecture


def check_kept(plan: Plan, cost: Cost, table_ms: float, file: Path) -> None:
    """Raise InputError if the network does not keep the limits. Args: table_ms: its latency by the table."""
    limits, size = plan.limits, file.stat().st_size
    for what, value, most in (
        ("FLOPs", cost.macs, limits.macs),
        ("params", cost.params, limits.params),
        ("bytes", size, limits.file_bytes),
        ("ms by the latency table", table_ms, limits.latency_ms),
    ):
        if most and value > most:
            raise InputError(f"{file} has {value:,} {what}, more than the limit of {most:,.12g}")


def time_models(files: Mapping[str, Path]) -> Dict[str, float]:
    """Milliseconds for one image, the median of some calls, in which the files take turns."""
    calls = {name: _call(file) for name, file in files.items()}
    times: Dict[str, List[float]] = {name: [] for name in files}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: round(1000 * float(np.median(own)), 3) for name, own in times.items()}


def _call(file: Path) -> Callable[[], object]:
    """Of a network on one image, once it has been called."""
    model = open_model(file)
    size = model.info.preprocessing.input_size
    image = np.zeros((1, 3, size, size), np.float32)
    model(image)
    return lambda: model(image)


def choose_file(plan: Plan, held_out: Mapping[str, float], latency_ms: Mapping[str, float]) -> Tuple[str, str]:
    """Which file is to be deployed, and why not the other.

    Args: held_out: top-1 of both on held-out images.
    """
    lost = held_out[FLOAT32] - held_out[INT8]
    if lost > plan.values.int8_loss_max:
        return FLOAT32, f"INT8 loses {lost:.2%} on held-out images"
    if latency_ms[INT8] < latency_ms[FLOAT32]:
        return INT8, f"faster, and loses {max(lost, 0.0):.2%} on held-out images"
    if plan.limits.file_bytes:
        return INT8, f"smaller, and loses {max(lost, 0.0):.2%} on held-out images"
    return FLOAT32, "INT8 is smaller, but not faster here"
