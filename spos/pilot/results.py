"""Results of a flight: what its stages have written, and how long the exported networks take on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict

import numpy as np
from msgspec import to_builtins

from spos.core.errors import InputError
from spos.deploy.classification import EVALUATION_FILE
from spos.deploy.exported import open_model
from spos.pilot.flight import FlightState
from spos.pilot.outcome import OUTCOME_FILE, Outcome
from spos.pilot.plan import Plan
from spos.pilot.stages import CONTROL, FLOAT32, HELD_OUT, INT8, REPORT_FILE, SEARCHED, TEST, evaluation_folder
from spos.runs.files import read_json, write_json
from spos.runs.run import open_run_directory
from spos.space.architecture_file import parse_architecture
from spos.space.cost import Cost, count_architecture
from spos.space.flags import space_of_run

ROUNDS = 30  # timed calls, of which the median counts


def find_outcome(plan: Plan, state: FlightState, folder: Path) -> Outcome:
    """Read what the stages have written, time both files, and write `outcome.json`."""
    searched, control = folder / SEARCHED, folder / CONTROL
    found, int8 = (_evaluation(searched, name, TEST) for name in (FLOAT32, INT8))
    held_out = {name: _evaluation(searched, name, HELD_OUT)["top1"] for name in (FLOAT32, INT8)}
    other = _evaluation(control, FLOAT32, TEST)
    files = {name: searched / f"{name}.onnx" for name in (FLOAT32, INT8)}
    costs = {run: cost_of(run) for run in (searched, control)}
    check_kept(plan, costs[searched], files[FLOAT32])
    is_int8 = held_out[INT8] >= held_out[FLOAT32] - plan.values.int8_loss_max
    outcome = Outcome(
        model=str(files[INT8 if is_int8 else FLOAT32]),
        is_int8=is_int8,
        top1=found["top1"],
        interval=list(found["top1_interval"]),
        num_images=found["num_images"],
        control_top1=other["top1"],
        control_interval=list(other["top1_interval"]),
        int8_top1=int8["top1"],
        held_out_top1=held_out,
        latency_ms={name: time_model(file) for name, file in files.items()},
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


def cost_of(run: Path) -> Cost:
    """Of the network that was trained in a run, at its size and strides."""
    directory = open_run_directory(run)
    space = space_of_run(directory)
    if space is None:
        raise InputError(f"{run} is not the run of a subnet")
    return count_architecture(space, parse_architecture(directory.config["architecture"], str(run)).architecture)


def check_kept(plan: Plan, cost: Cost, file: Path) -> None:
    """Raise InputError if the network does not keep the limits that can be counted."""
    limits, size = plan.limits, file.stat().st_size
    for what, value, most in (
        ("FLOPs", cost.macs, limits.macs),
        ("params", cost.params, limits.params),
        ("bytes", size, limits.file_bytes),
    ):
        if most and value > most:
            raise InputError(f"{file} has {value:,} {what}, more than the limit of {most:,.0f}")


def time_model(file: Path) -> float:
    """Milliseconds for one image, the median of some calls in turn."""
    model = open_model(file)
    size = model.info.preprocessing.input_size
    image = np.zeros((1, 3, size, size), np.float32)
    model(image)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        model(image)
        times.append(time.perf_counter() - began)
    return round(1000 * float(np.median(times)), 3)
