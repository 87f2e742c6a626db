"""Sessions of the autopilot: from images, a limit and hours to a network that can be deployed."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import msgspec

from spos.core.errors import InputError
from spos.core.flags import fill
from spos.core.installation import IN_CHECKOUT
from spos.core.machine import available_memory
from spos.core.tables import table
from spos.deploy.onnx import import_library
from spos.engine.compat import physical_cores
from spos.pilot.facts import PICTURES, Facts, bad_images_allowed, free_disk, sizes_of
from spos.pilot.flags import DEFAULT_SAVE_DIR, LIMITS, AutopilotOptions, ValueOptions, check_options
from spos.pilot.flight import FLIGHT_FILE, Flight, describe_seconds, read_state
from spos.pilot.latency import check_latency
from spos.pilot.look import look_at
from spos.pilot.measure import Bench, Measured, architecture_within, calibrate
from spos.pilot.outcome import OUTCOME_FILE, Outcome, outcome_text, read_outcome
from spos.pilot.plan import (
    PLAN_FILE,
    Plan,
    Shape,
    check_disk,
    check_room,
    given_in,
    in_bytes,
    limits_of,
    make_plan,
    read_plan,
    test_share_of,
)
from spos.pilot.rates import Rates
from spos.pilot.results import find_outcome
from spos.pilot.settings import Candidate, DeploymentLimits, Setting, image_seconds, rank_settings
from spos.pilot.stages import RESULTS
from spos.pilot.times import NETWORKS, REPORT, SHARES, SLACK, SUPERNET
from spos.runs.files import PathLike
from spos.runs.lock import locked
from spos.space.cost import count_supernet

MEASURE_FOLDER = "measure"
LEAST_MEMORY = 700 * 10**6  # bytes, of MXNet and one small network
MOST_MEASURED = 2  # settings
OFF = 1.5  # times as long as expected, from which another setting may suit better
PASSES = ((20_000, 30), (2_000, 60), (0, 100))  # over the images that the final network should have, of so many images
SUPERNET_PASSES = 0.5  # of these, for the supernet
BATCH_SIZES = ((1500, 64), (300, 32), (0, 16))


def autopilot(
    data_dir: PathLike,
    hours: float,
    save_dir: PathLike = DEFAULT_SAVE_DIR,
    flops_max_m: float = 0.0,
    params_max_m: float = 0.0,
    latency_max: float = 0.0,
    model_size_max: int = 0,
    seed: int = 0,
    **values: Any,
) -> Outcome:
    """Plan, and do all of it: a network to deploy from images, a limit and some hours on this machine.

    The same call goes on where it was stopped or killed.

    Args:
        data_dir: the images: a folder with train/, val/, test/ or a sub-folder per class, a CSV file with path,label,
            a folder with train.rec and val.rec, or "digits".
        hours: that everything may take together.
        flops_max_m, params_max_m: largest FLOPs and parameters, in millions.    latency_max: in ms, of MXNet.
        model_size_max: bytes of the ONNX file in float32. One limit at least is needed.
        values: of the plan that you decide yourself: space, input_size, supernet_epochs, evaluations, final_epochs, ..
    Raises: InputError if something cannot be done, before anything is started if that can be known; Stopped after
        Ctrl-C or SIGTERM.
    """
    limits = dict(zip(LIMITS, (flops_max_m, params_max_m, latency_max, model_size_max)))
    given = {name: value for name, value in limits.items() if value}
    options = fill(AutopilotOptions, data_dir=str(data_dir), hours=hours, save_dir=str(save_dir), seed=seed, **given)
    run(options, fill(ValueOptions, **values))
    return read_outcome(Path(save_dir) / OUTCOME_FILE)


def run(options: AutopilotOptions, values: ValueOptions) -> None:
    """What the program does: plan, or go on with the plan of the folder, and fly unless only the plan is asked for."""
    if not IN_CHECKOUT:
        raise InputError("the autopilot runs the programs of a checkout; get the project's folder, and begin there")
    check_options(options, values)
    import_library("onnx")
    import_library("onnxruntime")
    folder = Path(options.save_dir)
    with locked(folder):
        began = time.monotonic()
        plan = _find_plan(options, values, folder)
        planning = time.monotonic() - began
        print(plan_text(plan, folder), flush=True)
        if options.plan_only:
            print(
                f"to go on: the same command without --plan-only; {folder / PLAN_FILE} may be edited before", flush=True
            )
            return
        flight = Flight(plan, folder, planning)
        before = {
            SUPERNET: lambda: check_latency(flight.plan, folder),
            REPORT: lambda: find_outcome(flight.plan, flight.state, folder),
        }
        flight.fly(before)
        outcome = read_outcome(folder / OUTCOME_FILE)
        print("\n" + outcome_text(flight.plan, flight.state, outcome, folder), flush=True)


def _find_plan(options: AutopilotOptions, values: ValueOptions, folder: Path) -> Plan:
    """The plan of the folder if it is what is asked for, the one that is given, or a new one."""
    file, asked = folder / PLAN_FILE, asked_for(options, values)
    if options.plan:
        plan = msgspec.structs.replace(_given_plan(options), is_fixed=True, changes=[])
        if not file.exists():
            _check_unused(folder)
        elif not _is_same(read_plan(file), plan):
            raise InputError(f"{folder} holds another plan; give another --save-dir")
        plan.write(folder)
        return plan
    if file.exists():
        plan = read_plan(file)
        different = [name for name in {**plan.asked, **asked} if plan.asked.get(name) != asked.get(name)]
        if different:
            raise InputError(
                f"{folder} holds an autopilot that was asked for another {different[0].replace('_', '-')} "
                f"({plan.asked.get(different[0])}, not {asked.get(different[0])}); give another --save-dir"
            )
        return plan
    _check_unused(folder)
    plan = new_plan(asked, folder)
    plan.write(folder)
    return plan


def _check_unused(folder: Path) -> None:
    """Raise InputError if a folder without a plan has results, which would be taken for those of a new one."""
    found = [name for name in (FLIGHT_FILE, *RESULTS) if (folder / name).exists()]
    if found:
        raise InputError(
            f"{folder} holds {found[0]} of a flight whose {PLAN_FILE} is gone; put that back, or give another "
            "--save-dir"
        )


def _is_same(one: Plan, other: Plan) -> bool:
    return msgspec.structs.replace(one, is_fixed=True, changes=[]) == other


def _given_plan(options: AutopilotOptions) -> Plan:
    plan = read_plan(Path(options.plan))
    given: Dict[str, Any] = {**options.limits, "hours": options.hours or None, "data_dir": options.data_dir or None}
    for name, value in {**given, "seed": options.seed}.items():
        if value is not None and plan.asked.get(name) != value:
            raise InputError(
                f"--plan {options.plan} is for {name.replace('_', '-')} {plan.asked.get(name)}, not {value}; leave the "
                "flag out, or make a new plan"
            )
    return plan


def asked_for(options: AutopilotOptions, values: ValueOptions) -> Dict[str, Any]:
    """What makes two calls the same."""
    asked = {"data_dir": options.data_dir, **options.limits, "hours": options.hours, "seed": options.seed or 0}
    return {**asked, "values": values.given()} if values.given() else asked


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a setting.

    Args:
        trainable: seconds that training on an image may take.
        decided: space, stride plan and input size that the user decided; empty or 0 if not.
    """

    facts: Facts
    limits: DeploymentLimits
    trainable: float
    decided: Tuple[str, str, int]

    def ranked(self, slowness: float) -> List[Candidate]:
        """Settings, best first, on a machine by its calibration. Raises: InputError if there are none."""
        return rank_settings(self.facts, self.limits, self.trainable, slowness, *self.decided)


def new_plan(asked: Dict[str, Any], folder: Path) -> Plan:
    """Look at the images, measure on this machine, and plan. Raises: InputError if it cannot work."""
    began = time.monotonic()
    given = given_in(asked)
    facts, sample = look_at(asked["data_dir"], given)
    print(facts_text(facts, bad_images_allowed(facts.num_images, given)), flush=True)
    memory, disk = available_memory(), free_disk(folder)
    if memory < LEAST_MEMORY:
        raise InputError(
            f"{in_bytes(memory)} of memory are free, and the smallest training takes {in_bytes(LEAST_MEMORY)}; end "
            "other programs, or use a machine with more"
        )
    threads = given.get("jobs") or max(1, physical_cores())
    batch_size = given.get("batch_size") or _by_count(BATCH_SIZES, facts.num_train)
    _check_images_fit(facts, test_share_of(facts, given), batch_size, disk)
    decided = given.get("space", ""), given.get("strides", ""), given.get("input_size", 0)
    wanted = Wanted(facts, limits_of(asked), trainable_seconds(facts, asked["hours"], threads), decided)
    replace(wanted, limits=wanted.limits.counted).ranked(1.0)  # refuses what cannot be met, before anything is measured
    work = folder / MEASURE_FOLDER
    with _work_folder(work):
        slowness = calibrate(work, sample.images, sample.labels, batch_size)
        bench = partial(Bench, images=sample.images, labels=sample.labels, batch_size=batch_size, num_threads=threads)
        chosen, rates = _measured(wanted, slowness, bench, work)
    space = chosen.setting.search_space(facts.num_classes)
    shape = Shape(
        setting=chosen.setting,
        batch_size=batch_size,
        threads=threads,
        share=chosen.share,
        num_choices=sum(len(space.pairs(index)) for index in range(space.num_choice_blocks)),
        num_bytes=4 * count_supernet(space).params,
    )
    seconds = asked["hours"] * 3600 * (1 - SLACK) - (time.monotonic() - began)
    plan = make_plan(asked, facts, rates, sample.decode_seconds, shape, seconds)
    check_room(plan, memory, disk)
    return plan


@contextmanager
def _work_folder(work: Path) -> Iterator[None]:
    """A folder for this block alone; if a program in it fails it stays, until the next one, for its output says why."""
    shutil.rmtree(work, ignore_errors=True)
    has_failed = False
    try:
        yield
    except InputError:
        has_failed = True
        raise
    finally:
        if not has_failed:
            shutil.rmtree(work, ignore_errors=True)


def _measured(wanted: Wanted, slowness: float, make_bench: Callable[..., Bench], work: Path) -> Tuple[Candidate, Rates]:
    """The setting that suits best and its rates; another one is tried where the first is slower than expected."""
    tried: Dict[Setting, Tuple[Candidate, Bench, Measured]] = {}
    while len(tried) < MOST_MEASURED:
        best = wanted.ranked(slowness)[0]
        if best.setting in tried:
            break
        expected = image_seconds(best.macs, best.num_blocks, slowness)
        print(f"measuring {best.setting}", flush=True)
        bench = make_bench(folder=work / str(len(tried)), setting=best.setting, seconds_of_image=expected)
        networks = bench.networks(architecture_within(best.setting, wanted.facts.num_classes, best.macs))
        tried[best.setting] = best, bench, networks
        real = 1 / networks.images_per_second
        if real < OFF * expected:
            break
        slowness *= real / expected
    chosen, bench, networks = tried[best.setting]
    return chosen, bench.rates(networks)


def _check_images_fit(facts: Facts, test_share: float, batch_size: int, disk: int) -> None:
    check_disk((facts.num_train + facts.num_test) * facts.num_bytes if facts.kind == PICTURES else 0, disk)
    learned = sizes_of(facts, test_share).train
    if learned < batch_size:
        raise InputError(
            f"{learned} images are left for the supernet to learn from, fewer than a batch of {batch_size}; give a "
            f"smaller --batch-size ({learned} at most), or more images"
        )


def trainable_seconds(facts: Facts, hours: float, threads: int) -> float:
    """What training on one image may take on one thread, so that networks and supernet see every image often enough."""
    passes = _by_count(PASSES, facts.num_train)
    seconds, each = hours * 3600, max(1, threads // 2)
    final = seconds * SHARES[NETWORKS] * each / (passes * facts.num_train)
    supernet = seconds * SHARES[SUPERNET] / (SUPERNET_PASSES * passes * facts.num_train)
    return min(final, supernet)


def _by_count(steps: Tuple[Tuple[int, int], ...], count: int) -> int:
    return next(value for least, value in steps if count >= least)


def facts_text(facts: Facts, bad_allowed: int) -> str:
    """What was seen of the images. Args: bad_allowed: how many may be undecodable."""
    test = f", {facts.num_test:,} that test" if facts.num_test else ""
    uneven = "" if facts.largest < 2 * facts.smallest else f" ({facts.largest / facts.smallest:.0f}:1)"
    rows = [
        ("images", f"{facts.num_train:,} to learn from{test}; {facts.layout}, {facts.side} px"),
        ("classes", f"{facts.num_classes}, of {facts.smallest:,} to {facts.largest:,} images{uneven}"),
    ]
    if facts.num_bad:
        seen = f"{facts.num_bad} of {facts.num_sampled} that were looked at"
        rows.append(("undecodable", f"{seen}; packing ends at more than {bad_allowed:,} in all (--max-bad-images)"))
    return table(rows)


def plan_text(plan: Plan, folder: Path) -> str:
    """The plan for people: what, how long, how much memory and disk, and why."""
    rows: List[Tuple[str, str]] = [("plan", str(folder / PLAN_FILE) + (" (fixed)" if plan.is_fixed else ""))]
    for stage in plan.stages:
        memory = f", {in_bytes(stage.memory)} of memory" if stage.memory else ""
        disk = f", {in_bytes(stage.disk)} of disk" if stage.disk > 10**6 else ""
        rows.append((f"  {stage.name}", f"{describe_seconds(stage.seconds)}{memory}{disk}: {stage.why}"))
    done = ""
    if (folder / FLIGHT_FILE).exists():
        done = f"; {describe_seconds(read_state(folder / FLIGHT_FILE).spent)} of it gone"
    rows.append(("together", f"{describe_seconds(plan.seconds)} of {plan.asked['hours']:g} hours{done}"))
    rates, decoded = plan.rates, 1 / max(plan.decode_seconds, 1e-9)
    rows.append(
        (
            "measured here",
            f"{decoded:,.0f} images a second decoded, supernet {rates.supernet_images:,.0f} by "
            f"{rates.supernet_threads} of {plan.values.threads} threads, two networks {rates.subnet_images:,.0f} each, "
            f"a candidate {rates.candidate_seconds:.2f} s and {rates.scored_images:,.0f} images a second",
        )
    )
    return table(rows)
