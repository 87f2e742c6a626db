"""Results of a flight: what its stages have written, and how long the exported networks take on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from msgspec import to_builtins

from spos.deploy.exported import open_model
from spos.pilot.flight import FlightState
from spos.pilot.outcome import OUTCOME_FILE, Outcome
from spos.pilot.plan import Plan
from spos.pilot.stages import CONTROL, EVALUATION, FLOAT32, INT8, REPORT_FILE, SEARCHED
from spos.pilot.times import SEARCH
from spos.runs.files import read_json, write_json
from spos.runs.run import BEST_FILE, CONTROL_FILE

ROUNDS = 30  # timed calls, of which the median counts


def find_outcome(plan: Plan, state: FlightState, folder: Path) -> Outcome:
    """Read what the stages have written, time both files, and write `outcome.json`."""
    searched, control = folder / SEARCHED, folder / CONTROL
    found = read_json(searched / EVALUATION / "evaluation.json")
    int8 = read_json(searched / f"{EVALUATION}-int8" / "evaluation.json")
    other = read_json(control / EVALUATION / "evaluation.json")
    files = {name: searched / f"{name}.onnx" for name in (FLOAT32, INT8)}
    costs = {name: read_json(folder / SEARCH / name) for name in (BEST_FILE, CONTROL_FILE)}
    is_int8 = int8["top1"] >= found["top1"] - plan.values.int8_loss_max
    outcome = Outcome(
        model=str(files[INT8 if is_int8 else FLOAT32]),
        is_int8=is_int8,
        top1=found["top1"],
        interval=list(found["top1_interval"]),
        num_images=found["num_images"],
        control_top1=other["top1"],
        control_interval=list(other["top1_interval"]),
        int8_top1=int8["top1"],
        latency_ms={name: time_model(file) for name, file in files.items()},
        flops=costs[BEST_FILE]["flops"],
        params=costs[BEST_FILE]["params"],
        control_flops=costs[CONTROL_FILE]["flops"],
        control_params=costs[CONTROL_FILE]["params"],
        num_bytes={name: file.stat().st_size for name, file in files.items()},
        report=str(folder / REPORT_FILE),
        hours=round(state.spent / 3600, 3),
    )
    write_json(folder / OUTCOME_FILE, to_builtins(outcome))
    return outcome


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
