"""The plan: every value of every stage, why, and how long each takes; decided from facts and rates alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Collection, Dict, List, Mapping, Optional

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from spos.core.errors import InputError
from spos.data.augmentation import LARGE_IMAGE
from spos.data.dataset import IMAGENET_CROP_RATIO
from spos.pilot.facts import PICTURES, Facts, bad_images_allowed, sizes_of
from spos.pilot.rates import Rates
from spos.pilot.settings import LEAST_SHARE, PUBLISHED, DeploymentLimits, Setting, costs_of
from spos.pilot.times import (
    DEPLOY,
    EPOCHS,
    IMAGES,
    NETWORKS,
    REPORT,
    SEARCH,
    SHARES,
    SUPERNET,
    TABLE,
    Times,
    Values,
    share_out,
)
from spos.runs.files import read_json, with_value, write_json
from spos.sampling.limits import MILLION

PLAN_FILE = "plan.json"
FEW_IMAGES, TEST_SHARES = 2000, (0.2, 0.1)  # of each class that test, of fewer images and of more
UNEVEN = 3  # times as many images of the largest class as of the smallest, from which all classes are shown alike
TABLE_SECONDS_OF_CHOICE, TABLE_SECONDS_OF_NETWORKS = 0.25, 60.0
FILES_OF_RUN = 5  # parameters, and parameters with optimizer states of two checkpoints
FIELDS = Values.__struct_fields__
FOLLOWED = {SUPERNET: {"supernet_epochs", "space"}, NETWORKS: {"final_epochs"}}  # edited, others of the stage follow


class StagePlan(Struct, frozen=True):
    """A stage: seconds, bytes of memory and of disk that it is to take, and why it is as it is.

    Args: first_seconds: what it was to take before anything was decided anew.
    """

    name: str
    seconds: float
    memory: int
    disk: int
    why: str
    first_seconds: float = 0.0


class Plan(Struct, frozen=True):
    """Everything that is decided before it is done.

    Args:
        asked: what the user gave: data, limits, hours, seed, values of their own.
        is_fixed: followed to the letter, whatever it takes.
        share: of the space's architectures that keep the limits.
        changes: what was decided anew while it was done, in words.
        planned: `values` as they were written last, from which edited ones differ; None: nobody wrote them down.
        edited: values that the user decided in the file, by name.
    """

    asked: Dict[str, Any]
    facts: Facts
    rates: Rates
    decode_seconds: float
    share: float
    values: Values
    stages: List[StagePlan]
    is_fixed: bool = False
    changes: List[str] = []
    planned: Optional[Values] = None
    edited: Dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """Of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def limits(self) -> DeploymentLimits:
        """In what can be counted."""
        return limits_of(self.asked)

    @property
    def given(self) -> Mapping[str, Any]:
        """Values that the user decided, by flags or in the file."""
        return {**given_in(self.asked), **self.edited}

    def stage(self, name: str) -> StagePlan:
        return next(stage for stage in self.stages if stage.name == name)

    def write(self, folder: Path) -> None:
        write_json(folder / PLAN_FILE, msgspec.to_builtins(self))


def read_plan(path: Path) -> Plan:
    """The plan of a file, in which values may have been edited: these are decided, and others follow from them.

    Raises: InputError that names what is wrong in the file.
    """
    content = read_json(path)
    try:
        plan = msgspec.convert(content, Plan)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is no plan of the autopilot: {with_value(error, content)}") from None
    try:
        return _with_edits(plan)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _with_edits(plan: Plan) -> Plan:
    """A plan whose edited values are noted, with what follows from them. Raises: InputError if they cannot be had."""
    values, before = plan.values, plan.planned or plan.values
    edits = {name: getattr(values, name) for name in FIELDS if getattr(values, name) != getattr(before, name)}
    if not edits:
        return plan
    plan = replace(plan, edited={**plan.edited, **edits})
    share = plan.share if values.setting == before.setting else _share_of(plan)
    times = times_of(plan.facts, plan.rates, values.test_share)
    follows = {
        "resize": packed_side(values.input_size, plan.facts),
        "train_images": times.train,
        "warm_up": values.space in PUBLISHED,
    }
    values = replace(values, **{name: value for name, value in follows.items() if name not in plan.edited})
    _check_edited(values)
    others = [name for name in SHARES if not edits.keys() & FOLLOWED.get(name, set())]
    decided = {**{name: getattr(values, name) for name in EPOCHS.values()}, **plan.edited}
    values = share_out(values, times, 0.0, others, decided)
    stages = _edited_stages(plan, times, values, share)
    return replace(plan, values=values, planned=values, share=share, stages=stages)


def _check_edited(values: Values) -> None:
    if values.batch_size > values.train_images:
        raise InputError(
            f"batch_size {values.batch_size} is more than the {values.train_images:,} images that the supernet learns "
            "from; make it smaller"
        )
    if values.finalists == 1:
        raise InputError("finalists 1 decides nothing; 0, or 2 and more do")


def _share_of(plan: Plan) -> float:
    """Of the architectures of an edited setting, those that keep the limits that can be counted.

    Raises: InputError if these are too few, or there is no such setting.
    """
    setting = plan.values.setting
    share = float(costs_of(setting, plan.facts.num_classes).within(plan.limits.counted, 1.0).mean())
    if share < LEAST_SHARE:
        raise InputError(f"{share:.1%} of the architectures of {setting} keep the limits; name another space or size")
    return share


def _edited_stages(plan: Plan, times: Times, values: Values, share: float) -> List[StagePlan]:
    """Seconds and reasons of those stages that edited values change."""
    before = plan.planned or plan.values
    planned, seconds = times.of(before), times.of(values)
    old_why, why = (_why(one, times, plan.facts, own) for one, own in ((before, plan.share), (values, share)))
    stages = []
    for stage in plan.stages:
        name = stage.name
        if seconds.get(name) != planned.get(name):
            stage = replace(stage, seconds=round(seconds[name], 1))
        stages.append(replace(stage, why=why[name]) if why[name] != old_why[name] else stage)
    return stages


def given_in(asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values that the user decided, by their flags."""
    return asked.get("values", {})


def limits_of(asked: Mapping[str, Any]) -> DeploymentLimits:
    """Limits of the flags that were given."""
    return DeploymentLimits(
        macs=asked.get("flops_max_m", 0.0) * MILLION,
        params=asked.get("params_max_m", 0.0) * MILLION,
        latency_ms=asked.get("latency_max", 0.0),
        file_bytes=asked.get("model_size_max", 0.0),
    )


class Shape(Struct, frozen=True):
    """What was chosen before the times are decided.

    Args:
        share: of the setting's architectures that keep the limits.    num_choices: of all choice blocks together.
        num_bytes: of the supernet's parameters.
    """

    setting: Setting
    batch_size: int
    threads: int
    share: float
    num_choices: int
    num_bytes: int


def make_plan(
    asked: Mapping[str, Any],
    facts: Facts,
    rates: Rates,
    decode_seconds: float,
    shape: Shape,
    seconds: float,
) -> Plan:
    """Share the seconds that are left out among the stages.

    Args: seconds: that all stages may take together.
    Raises: InputError if they do not suffice for the least of each stage, with how many would.
    """
    given = given_in(asked)
    test_share = test_share_of(facts, given)
    times = times_of(facts, rates, test_share)
    fixed = _fixed_seconds(asked, times, facts, decode_seconds, shape)
    needed = sum(fixed.values()) + times.least()
    if seconds < needed:
        raise InputError(
            f"--hours are too few: with images, export and report ({sum(fixed.values()):.0f} s) the least of supernet, "
            f"search and networks ends after {needed / 3600:.2f} hours here; give --hours "
            f"{math.ceil(1.2 * needed / 360) / 10:g}, a smaller --input-size, or fewer images"
        )
    setting = shape.setting
    values = Values(
        space=setting.space,
        strides=setting.strides,
        input_size=setting.input_size,
        batch_size=shape.batch_size,
        threads=shape.threads,
        supernet_threads=rates.supernet_threads,
        subnet_threads=rates.subnet_threads,
        test_share=test_share,
        resize=packed_side(setting.input_size, facts),
        train_images=times.train,
        class_balanced=facts.largest >= UNEVEN * facts.smallest,
        warm_up=setting.space in PUBLISHED,
        int8_loss_max=given.get("int8_loss_max", 0.01),
        max_bad_images=bad_images_allowed(facts.num_images, given),
    )
    values = share_out(values, times, seconds - sum(fixed.values()), (), given)
    stages = _stages(values, times, fixed, facts, shape)
    return Plan(dict(asked), facts, rates, decode_seconds, shape.share, values, stages, planned=values)


def times_of(facts: Facts, rates: Rates, test_share: float) -> Times:
    """Of images that are split like this."""
    sizes = sizes_of(facts, test_share)
    return Times(rates, sizes.full, sizes.train, sizes.holdout, sizes.test)


def test_share_of(facts: Facts, given: Mapping[str, Any]) -> float:
    """The share of each class that tests where nobody has set test images aside."""
    return float(given.get("test_share") or TEST_SHARES[facts.num_train >= FEW_IMAGES])


def replanned(plan: Plan, begun: Collection[str], seconds: float, slowness: float) -> Plan:
    """The plan with the stages that have not begun made shorter or longer, so that these end in `seconds`.

    Args:
        begun: names of stages that keep their values.
        slowness: how many times as long as planned things have taken so far.
    """
    times = times_of(plan.facts, plan.rates, plan.values.test_share).slower(slowness)
    after = sum(stage.seconds for stage in plan.stages if stage.name in (DEPLOY, REPORT))
    values = share_out(plan.values, times, max(0.0, seconds - after), begun, plan.given)
    planned, why = times.of(values), _why(values, times, plan.facts, plan.share)
    stages = [
        stage
        if stage.name in begun
        else replace(stage, seconds=round(planned.get(stage.name, stage.seconds), 1), why=why[stage.name])
        for stage in plan.stages
    ]
    return replace(plan, values=values, planned=values, stages=stages)


def packed_side(input_size: int, facts: Facts) -> int:
    """Of the shorter side: as read in training, with a margin where pictures are cut; never enlarged."""
    wanted = round(input_size / IMAGENET_CROP_RATIO) if input_size >= LARGE_IMAGE else input_size
    return 0 if facts.side <= wanted else wanted


def _fixed_seconds(
    asked: Mapping[str, Any], times: Times, facts: Facts, decode_seconds: float, shape: Shape
) -> Dict[str, float]:
    """Of the stages whose length nothing decides."""
    start = times.rates.start_seconds
    fixed = {DEPLOY: 7 * start + 8 + 5 * times.test / times.rates.scored_images, REPORT: 2 * start}
    if facts.kind == PICTURES:
        images = facts.num_train + facts.num_test
        fixed[IMAGES] = start + 2.5 * images * max(decode_seconds, 1e-4) / shape.threads
    if asked.get("latency_max"):
        fixed[TABLE] = TABLE_SECONDS_OF_NETWORKS + TABLE_SECONDS_OF_CHOICE * shape.num_choices
    return fixed


def _stages(values: Values, times: Times, fixed: Mapping[str, float], facts: Facts, shape: Shape) -> List[StagePlan]:
    rates, seconds = times.rates, {**fixed, **times.of(values)}
    run, images = FILES_OF_RUN * shape.num_bytes, facts.num_train + facts.num_test
    packed = int(images * facts.num_bytes * (min(1.0, 2 * (values.resize / facts.side) ** 2) if values.resize else 1))
    room = {
        IMAGES: (0, packed),
        TABLE: (rates.supernet_bytes, 10**6),
        SUPERNET: (rates.supernet_bytes, run),
        SEARCH: (rates.supernet_bytes, 10**6),
        NETWORKS: (2 * rates.subnet_bytes, 2 * run),
        DEPLOY: (rates.subnet_bytes, 2 * shape.num_bytes),
        REPORT: (0, 10**6),
    }
    why = _why(values, times, facts, shape.share)
    return [
        StagePlan(name, round(seconds[name], 1), memory, disk, why[name], round(seconds[name], 1))
        for name, (memory, disk) in room.items()
        if name in seconds
    ]


def _why(values: Values, times: Times, facts: Facts, share: float) -> Dict[str, str]:
    """What every stage is, in words."""
    images = facts.num_train + facts.num_test
    tested = f"{times.test:,} of {images:,} images test, " if not facts.num_test else ""
    little = f"; the best {values.finalists} are trained a little" if values.finalists else ""
    aligned = "; choices begin as one function" if values.aligned else ""
    rates = times.rates
    is_known = values.warm_up_from >= 0 and rates.full_width_images
    wide = f", {rates.full_width_images:,.0f} at full width, with which it begins" if is_known else ""
    return {
        IMAGES: f"{facts.layout}: {tested}{times.holdout:,} score candidates",
        TABLE: "the time of every choice on this machine",
        SUPERNET: f"{values.setting}; {share:.0%} of its architectures keep the limit; {values.supernet_epochs} epochs "
        f"of {times.train:,} images, {rates.supernet_images:,.0f} a second{wide}{aligned}",
        SEARCH: f"{values.evaluations} candidates of {times.candidate:.2f} s{little}",
        NETWORKS: f"the searched network and a random one side by side: {values.final_epochs} epochs of {times.full:,} "
        f"images, {rates.subnet_images:,.0f} a second each",
        DEPLOY: "ONNX in float32 and INT8, on the test images",
        REPORT: "a page about all of it",
    }


def check_room(plan: Plan, memory: int, disk: int) -> None:
    """Raise InputError if a stage needs more memory than there is, or all of them more disk, with what would work."""
    needed = max(stage.memory for stage in plan.stages)
    if needed > memory:
        stage = max(plan.stages, key=lambda stage: stage.memory)
        raise InputError(
            f"{stage.name} need {in_bytes(needed)} of memory, and {in_bytes(memory)} are free; a smaller --batch-size "
            f"than {plan.values.batch_size} or a smaller --input-size than {plan.values.input_size} will do"
        )
    check_disk(sum(stage.disk for stage in plan.stages), disk)


def check_disk(needed: int, disk: int) -> None:
    """Raise InputError if results need more disk than there is."""
    if needed > disk:
        raise InputError(
            f"results need about {in_bytes(needed)} of disk, and {in_bytes(disk)} are free at --save-dir; free some, "
            "or give a --save-dir on another disk"
        )


def in_bytes(count: float) -> str:
    """Like 1.2 GB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def change_text(before: Plan, after: Plan, reason: str) -> Optional[str]:
    """What a new plan changed, in words; None if nothing."""
    names = ("supernet_epochs", "evaluations", "finalists", "final_epochs")
    changed = [
        f"{name.replace('_', ' ')} {getattr(before.values, name)} -> {getattr(after.values, name)}"
        for name in names
        if getattr(before.values, name) != getattr(after.values, name)
    ]
    return f"{reason}: {', '.join(changed)}" if changed else None
