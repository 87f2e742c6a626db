"""Stages as commands of the programs, made of the values of a plan and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from spos.data.flags import HOLDOUT
from spos.deploy.classification import EVALUATION_FOLDER, SHEET_FILE
from spos.latency.measurements import MEASUREMENTS_FILE, TABLE_FILE
from spos.pilot.facts import DIGITS, RECORD, Facts
from spos.pilot.plan import Plan
from spos.pilot.times import DEPLOY, IMAGES, NETWORKS, REPORT, SEARCH, SUPERNET, TABLE
from spos.runs.run import BEST_FILE, CONTROL_FILE, HISTORY_FILE, LOG_FILE, MODEL_FILE, SUBNET
from spos.runs.run import SUPERNET as SUPERNET_MODEL
from spos.search.choice import MODEL_AND_FLOPS

PACKED, LATENCY, SEARCHED, CONTROL = "images", "latency", "searched", "control"  # folders
RESULTS = (PACKED, LATENCY, SUPERNET, SEARCH, SEARCHED, CONTROL)  # folders, in the order in which they appear
FLOAT32, INT8 = "model", "model-int8"  # names of exported files
PACKING = "utils.pack_images"
TEST = "val"  # what utils.evaluate calls the images that test
REPORT_FILE = "report.html"
SUPERNET_LR, NETWORK_LR = 0.2, 0.2  # of batches of 64
RECIPE = ("--lr-mode", "cosine", "--warmup-epochs", "1", "--label-smoothing", "--no-wd", "--log-interval", "100000")


@dataclass(frozen=True)
class Command:
    """A program and its flags.

    Args:
        done: a file that appears last, so that the program need not run when it is there; None: let it look itself.
        progress: a journal of which it writes a row at every step, and how many there will be; 0 if nobody knows.
    """

    words: Tuple[str, ...]
    threads: int
    done: Optional[Path] = None
    progress: Optional[Path] = None
    steps: int = 0


def stages_of(plan: Plan, folder: Path) -> Dict[str, List[List[Command]]]:
    """Of every stage the groups of its commands, one group behind the other; those of a group run side by side."""
    values, threads = plan.values, plan.values.threads
    data = data_flags(plan, folder)
    space = values.setting.flags
    run = {name: folder / name for name in (SUPERNET, SEARCH, SEARCHED, CONTROL)}
    all_stages = {
        IMAGES: [[_pack(plan, folder)]],
        TABLE: [[_table(plan, folder, space)]],
        SUPERNET: [[_supernet(plan, run[SUPERNET], [*space, *data])]],
        SEARCH: [[_search(plan, folder, run[SEARCH], [*space, *data])]],
        NETWORKS: [
            [
                _network(plan, run[name], run[SEARCH] / file, data)
                for name, file in ((SEARCHED, BEST_FILE), (CONTROL, CONTROL_FILE))
            ]
        ],
        DEPLOY: _deploy(run[SEARCHED], run[CONTROL], threads),
        REPORT: [[_report(folder, threads)]],
    }
    return {stage.name: all_stages[stage.name] for stage in plan.stages}


def data_flags(plan: Plan, folder: Path) -> List[str]:
    """Of the images, for the programs that train and score."""
    values, digits = plan.values, plan.facts.kind == DIGITS
    images = [
        "--dataset",
        DIGITS if digits else RECORD,
        "--data-dir",
        str(folder) if digits else _where(plan.facts, folder),
    ]
    images += ["--input-size", str(values.input_size), "--batch-size", str(values.batch_size)]
    return [*images, "-j", str(max(1, values.threads // 2))]


def _where(facts: Facts, folder: Path) -> str:
    return facts.where if facts.kind == RECORD else str(folder / PACKED)


def _pack(plan: Plan, folder: Path) -> Command:
    values, target = plan.values, folder / PACKED
    words = [PACKING, plan.facts.where, str(target), "--resize", str(values.resize)]
    words += ["-j", str(values.threads), "--seed", str(_seed(plan)), "--max-bad-images", str(values.max_bad_images)]
    if not plan.facts.num_test:
        words += ["--val-fraction", str(values.test_share)]
    return Command(tuple(words), values.threads, target / "train.rec")


def table_file(folder: Path) -> Path:
    """Of the latencies that were measured, if there is a limit on them."""
    return folder / LATENCY / TABLE_FILE


def _table(plan: Plan, folder: Path, space: List[str]) -> Command:
    target = folder / LATENCY
    words = ["utils.build_latency_table", *space, "--input-size", str(plan.values.input_size)]
    words += ["--classes", str(plan.facts.num_classes), "--passes", "1", "--save-dir", str(target)]
    return Command(tuple(words), plan.values.threads, target / TABLE_FILE, target / MEASUREMENTS_FILE)


def _supernet(plan: Plan, run: Path, flags: List[str]) -> Command:
    values = plan.values
    words = [
        "train_imagenet.py",
        "--model",
        SUPERNET_MODEL,
        *flags,
        *RECIPE,
        "--wd",
        "3e-5",
        "--seed",
        str(_seed(plan)),
    ]
    words += ["--num-epochs", str(values.supernet_epochs), "--lr", _lr(SUPERNET_LR, values.batch_size)]
    words += ["--val-frequency", str(values.supernet_validate_every)]
    words += ["--save-frequency", str(values.supernet_save_every)]
    words += ["--initial-values", "aligned"] if values.aligned else []
    words += ["--epoch-start-cs", str(values.warm_up_from), "--cs-warm-up"] if values.warm_up_from >= 0 else []
    words += ["--class-balanced"] if values.class_balanced else []
    words += ["--save-dir", str(run)]
    return Command(tuple(words), values.supernet_threads, run / MODEL_FILE, run / LOG_FILE, values.supernet_epochs)


def _search(plan: Plan, folder: Path, run: Path, flags: List[str]) -> Command:
    values, limits = plan.values, plan.limits
    words = ["search_supernet.py", "--supernet-params", str(folder / SUPERNET / MODEL_FILE), *flags]
    words += ["--search-mode", "surrogate", "--population-size", str(values.population)]
    words += ["--search-iters", str(values.generations), "--retain-length", str(max(2, values.population // 4))]
    words += ["--flop-max", "-1", "--score-max", "-1", "--seed", str(_seed(plan)), "--choose-by", MODEL_AND_FLOPS]
    if limits.macs:
        words += ["--flop-max-m", repr(limits.macs / 1e6)]
    most = limits.params_for(values.setting.search_space(plan.facts.num_classes).num_choice_blocks)
    if most:
        words += ["--param-max-m", repr(round(most / 1e6, 6))]
    if limits.latency_ms:
        words += ["--latency-table", str(table_file(folder)), "--latency-max", repr(limits.latency_ms)]
    if values.finalists:
        words += ["--finalists", str(values.finalists), "--finalist-epochs", str(values.finalist_epochs)]
    words += ["--save-dir", str(run)]
    return Command(tuple(words), values.threads, None, run / HISTORY_FILE, values.evaluations)


def _network(plan: Plan, run: Path, architecture: Path, data: List[str]) -> Command:
    values = plan.values
    words = ["train_imagenet.py", "--model", SUBNET, "--architecture", str(architecture)]
    words += [*data, *RECIPE, "--wd", "3e-4"]
    words += ["--num-epochs", str(values.final_epochs), "--lr", _lr(NETWORK_LR, values.batch_size)]
    words += ["--val-frequency", str(values.final_validate_every), "--save-frequency", str(values.final_save_every)]
    words += ["--class-balanced"] if values.class_balanced else []
    words += ["--seed", str(_seed(plan)), "--save-dir", str(run)]
    return Command(tuple(words), values.subnet_threads, run / MODEL_FILE, run / LOG_FILE, values.final_epochs)


def _deploy(searched: Path, control: Path, threads: int) -> List[List[Command]]:
    """Both files, then what they and the control are worth on the test images.

    On the held-out images, too, which say whether the INT8 file may stand for the other: nothing is chosen by those
    that test.
    """
    params = ["--params", str(searched / MODEL_FILE)]
    files = {name: searched / f"{name}.onnx" for name in (FLOAT32, INT8)}
    groups = []
    for name, flags in ((FLOAT32, []), (INT8, ["--dtype", "int8"])):
        words = ("utils.export_model", *params, *flags, "--output", str(searched / name))
        groups.append([Command(words, threads, files[name])])
    for name, file in files.items():
        for split in (TEST, HOLDOUT):
            groups.append([_evaluate(["--model", str(file)], evaluation_folder(searched, name, split), split, threads)])
    of_control = ["--params", str(control / MODEL_FILE)]
    groups.append([_evaluate(of_control, evaluation_folder(control, FLOAT32, TEST), TEST, threads)])
    return groups


def _evaluate(network: List[str], details: Path, split: str, threads: int) -> Command:
    words = ("utils.evaluate", *network, "--split", split, "--details", str(details))
    return Command(words, threads, details / SHEET_FILE)


def evaluation_folder(run: Path, name: str, split: str) -> Path:
    """Of a file of a run on some of its images. That of the float32 network on the test images is in the report."""
    parts = (["int8"] if name == INT8 else []) + ([split] if split != TEST else [])
    return run / "-".join([EVALUATION_FOLDER, *parts])


def _report(folder: Path, threads: int) -> Command:
    runs = [str(folder / name) for name in (SUPERNET, SEARCH, SEARCHED, CONTROL)]
    words = ("utils.report", *runs, "--autopilot", str(folder), "--output", str(folder / REPORT_FILE))
    return Command(words, threads)


def _lr(of_64: float, batch_size: int) -> str:
    return f"{of_64 * batch_size / 64:g}"


def _seed(plan: Plan) -> int:
    return int(plan.asked["seed"])
