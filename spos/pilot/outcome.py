"""The outcome: accuracies with intervals, the file to deploy, its latency, and what can be done with it next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Dict, List

from msgspec import Struct, ValidationError, convert

from spos.core.errors import InputError
from spos.core.tables import table
from spos.pilot.flight import FlightState, describe_seconds
from spos.pilot.plan import Plan, in_bytes
from spos.pilot.stages import FLOAT32, INT8, SEARCHED, data_flags, table_file
from spos.pilot.times import SUPERNET
from spos.runs.files import read_json
from spos.runs.run import MODEL_FILE, SUBNET

OUTCOME_FILE = "outcome.json"


class Outcome(Struct, frozen=True):
    """What came out.

    Args:
        model: the file to deploy.    why: it and not the other.
        top1, interval, num_images: of the float32 file, on the test images; control_..: of the random network.
        int8_top1: of the INT8 file.
        held_out_top1: of both files on the images that score candidates, which decide whether INT8 is deployed; the
            networks have seen them in training.
        latency_ms: of one image in ONNX Runtime on this machine, by file.
        flops, params: of the network.    num_bytes: of each file.
    """

    model: str
    why: str
    top1: float
    interval: List[float]
    num_images: int
    control_top1: float
    control_interval: List[float]
    int8_top1: float
    held_out_top1: Dict[str, float]
    latency_ms: Dict[str, float]
    flops: int
    params: int
    control_flops: int
    control_params: int
    num_bytes: Dict[str, int]
    report: str
    hours: float


def read_outcome(path: Path) -> Outcome:
    """Raises: InputError that names what is wrong."""
    try:
        return convert(read_json(path), Outcome)
    except ValidationError as error:
        raise InputError(f"{path} says no outcome of the autopilot: {error}") from None


def outcome_text(plan: Plan, state: FlightState, outcome: Outcome, folder: Path) -> str:
    """The tables at the end."""
    low, high = outcome.interval
    rows = [
        ("test top-1", f"{outcome.top1:.2%}  (95% interval {low:.2%} to {high:.2%}, {outcome.num_images:,} images)"),
        ("  FLOPs, params", f"{outcome.flops / 1e6:.2f}M, {outcome.params / 1e6:.3f}M"),
        ("a random network, trained alike", _percent(outcome.control_top1, outcome.control_interval)),
        ("  FLOPs, params", f"{outcome.control_flops / 1e6:.2f}M, {outcome.control_params / 1e6:.3f}M"),
        ("float32 file", _file(outcome, FLOAT32)),
        ("INT8 file", f"{_file(outcome, INT8)}, test top-1 {outcome.int8_top1:.2%}"),
        ("to deploy", f"{outcome.model}  ({outcome.why})"),
        ("report", outcome.report),
    ]
    times = [(stage.name, _planned(stage.seconds, state.stages[stage.name].seconds)) for stage in plan.stages]
    spent = f"{outcome.hours:.2f} of {plan.asked['hours']:g} hours"
    parts = [
        table(rows),
        table([("stage", "planned, took"), *times, ("together", spent)]),
        next_steps(plan, outcome, folder),
    ]
    return "\n\n".join(parts)


def next_steps(plan: Plan, outcome: Outcome, folder: Path) -> str:
    """Three commands to go on with."""
    data, limit = [*plan.values.setting.flags, *data_flags(plan, folder)], _other_limit(plan, folder)
    lines = [
        "predict:     " + _command("predict.sh", "--model", outcome.model, "PICTURES"),
        "fine-tune:   "
        + _command(
            *("run.sh", "train_imagenet.py", "--model", SUBNET, "--dataset", "folder"),
            *("--data-dir", "OTHER_PICTURES", "--input-size", str(plan.values.input_size)),
            *("--init-params", str(folder / SEARCHED / MODEL_FILE), "--num-epochs", "10", "--lr", "0.02"),
            *("--save-dir", str(folder / "fine-tuned")),
        ),
        "other limit: "
        + _command(
            *("run.sh", "search_supernet.py", "--supernet-params", str(folder / SUPERNET / MODEL_FILE), *data, *limit),
            *("--search-mode", "surrogate", "--flop-max", "-1", "--score-max", "-1"),
            *("--save-dir", str(folder / "search-again")),
        ),
    ]
    return "\n".join(lines)


def _other_limit(plan: Plan, folder: Path) -> List[str]:
    """Half of the limit that was searched with."""
    limits = plan.limits
    if limits.macs:
        return ["--flop-max-m", f"{limits.macs / 2e6:g}"]
    if limits.latency_ms:
        return ["--latency-table", str(table_file(folder)), "--latency-max", f"{limits.latency_ms / 2:g}"]
    return ["--param-max-m", f"{limits.params_for(0) / 2e6:.3f}"]


def _command(script: str, *words: str) -> str:
    return " ".join(["sh", f"scripts/{script}", *map(shlex.quote, words)])


def _percent(top1: float, interval: List[float]) -> str:
    return f"{top1:.2%}  (95% interval {interval[0]:.2%} to {interval[1]:.2%})"


def _file(outcome: Outcome, name: str) -> str:
    return f"{in_bytes(outcome.num_bytes[name])}, {outcome.latency_ms[name]:.2f} ms an image"


def _planned(planned: float, took: float) -> str:
    return f"{describe_seconds(planned)}, {describe_seconds(took)}"
