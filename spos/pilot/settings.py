"""Settings: a search space, a stride plan and an input size; what its networks cost, and which suits a limit.

How long an image takes is known only after measuring, and measuring takes half a minute. So a setting is chosen by a
model of the time, in which every choice block and every multiply-add takes a little, and measured then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Dict, Iterable, Iterator, List, Tuple

import numpy as np

from spos.core.errors import InputError
from spos.core.seeds import derive_rng
from spos.pilot.facts import Facts
from spos.sampling.limits import MILLION
from spos.space.cost import cost_table
from spos.space.flags import SpaceOptions, fit, space_of
from spos.space.space import SearchSpace
from spos.space.space_file import LAYOUTS, shipped_spaces

SIZES = (32, 48, 64, 96, 128, 160, 192, 224)
PUBLISHED = tuple(
    name.lower() for name in LAYOUTS
)  # spaces whose stride plan, squeeze-and-excite and head flags decide
PLANS = ("1,1,2,2,2", "2,1,2,2,2", "2,2,2,2,2")  # of spaces without a plan of their own
NUM_DRAWN = 300
LEAST_SHARE = 0.02  # of a space's architectures that keep the limits
ONNX_BYTES_PER_PARAM = 4
# Of a file beside its parameters, at most: 24 networks of six spaces had up to 6,900 for a choice block, all together.
ONNX_GRAPH_BYTES_PER_BLOCK, ONNX_HEAD_BYTES = 9_000, 30_000

# Milliseconds of one thread that training takes for an image, on the machine that this was written on; a calibration
# says how much faster or slower another one is.
MS_PER_BLOCK, MS_PER_MILLION, MS_OF_IMAGE = 0.09, 0.055, 0.25
# And of one image in MXNet: for a choice block of each space, and for a million multiply-adds; ten networks of 32 to
# 128 px took 0.6 to 1.7 times as long. A file of one's own is taken for the slowest.
LATENCY_MS_PER_BLOCK = {"tiny": 0.09, "nas-bench-macro": 0.11, "mobilenet": 0.3}
LATENCY_MS_PER_SLOW_BLOCK, LATENCY_MS_PER_MILLION = 0.5, 0.06

_COMFORTABLE, _RARE = 0.3, 0.5  # share of a space that should keep the limits, and what less of it costs
_LAST_MAP, _DEEPEST = 2, 0.5  # px of the last map below which a setting is worth less, and by how much
_SIZE_WEIGHT, _PARAMS_WEIGHT = 0.5, 0.2  # of pixels that are thrown away, of what a network can hold


@dataclass(frozen=True)
class DeploymentLimits:
    """What a network may cost, in what can be counted. 0: no limit."""

    macs: float = 0.0
    params: float = 0.0
    latency_ms: float = 0.0
    file_bytes: float = 0.0

    @property
    def counted(self) -> DeploymentLimits:
        """Those that need no measuring."""
        return replace(self, latency_ms=0.0)

    def params_for(self, num_blocks: int) -> float:
        """The smaller of the two limits on parameters, in a space of so many choice blocks; 0 if there is none."""
        graph = num_blocks * ONNX_GRAPH_BYTES_PER_BLOCK + ONNX_HEAD_BYTES
        by_file = max(0.0, self.file_bytes - graph) / ONNX_BYTES_PER_PARAM if self.file_bytes else math.inf
        found = min(self.params or math.inf, by_file)
        return 0.0 if found == math.inf else max(found, 1.0)


@dataclass(frozen=True)
class Setting:
    """A search space at an input size."""

    space: str
    strides: str
    input_size: int

    @property
    def options(self) -> SpaceOptions:
        """The flags that mean it."""
        both = self.space in PUBLISHED
        return SpaceOptions(space=self.space, strides=self.strides, use_se=both, last_conv_after_pooling=both)

    @property
    def flags(self) -> List[str]:
        """The same as words."""
        options = self.options
        words = ["--space", options.space] + (["--strides", options.strides] if options.strides else [])
        words += ["--use-se"] if options.use_se else []
        return words + (["--last-conv-after-pooling"] if options.last_conv_after_pooling else [])

    def search_space(self, num_classes: int) -> SearchSpace:
        """Raises: InputError if the space cannot have this size or plan."""
        return fit(space_of(self.options), self.options, self.input_size, num_classes)

    def __str__(self) -> str:
        return f"{self.space} at {self.input_size} px" + (f", strides {self.strides}" if self.strides else "")


@dataclass(frozen=True)
class Costs:
    """Of architectures drawn uniformly from a setting: (N, 2) MACs and params.

    Args: lowest, highest: of all architectures, exact.    ms_per_block: of latency.
    """

    drawn: np.ndarray
    lowest: Tuple[int, int]
    highest: Tuple[int, int]
    num_blocks: int
    ms_per_block: float

    def latency_ms(self, macs: np.ndarray, slowness: float) -> np.ndarray:
        """Of one image, by the model."""
        return slowness * (self.ms_per_block * self.num_blocks + LATENCY_MS_PER_MILLION * macs / MILLION)

    def within(self, limits: DeploymentLimits, slowness: float) -> np.ndarray:
        """(N,) whether each keeps the limits; of a latency, by the model."""
        macs, params = self.drawn[:, 0], self.drawn[:, 1]
        kept = np.ones(len(macs), bool)
        if limits.macs:
            kept &= macs <= limits.macs
        most = limits.params_for(self.num_blocks)
        if most:
            kept &= params <= most
        if limits.latency_ms:
            kept &= self.latency_ms(macs, slowness) <= limits.latency_ms
        return kept


@dataclass(frozen=True)
class Candidate:
    """A setting under limits.

    Args:
        share: of its architectures that keep the limits.    macs: of a typical one of these.
        worth: the larger, the better it suits.
    """

    setting: Setting
    share: float
    macs: float
    num_blocks: int
    worth: float


def image_seconds(macs: float, num_blocks: int, slowness: float) -> float:
    """Of one thread for training on one image, by the model."""
    per_image = MS_OF_IMAGE + MS_PER_BLOCK * num_blocks + MS_PER_MILLION * macs / MILLION
    return slowness * per_image / 1000


def native_size(facts: Facts) -> int:
    """Beyond which pixels would only be enlarged."""
    return max(SIZES[0], facts.side)


def settings_for(facts: Facts, space: str, strides: str, input_size: int) -> Iterator[Setting]:
    """All that the images allow: no size above theirs, unless they are smaller than the smallest.

    Args: space, strides, input_size: decided already, if not empty or 0.
    """
    sizes = (input_size,) if input_size else tuple(size for size in SIZES if size <= native_size(facts))
    for name in (space,) if space else shipped_spaces():
        plans = (strides,) if strides else PLANS if name in PUBLISHED else ("",)
        yield from (Setting(name, plan, size) for plan in plans for size in sizes)


@lru_cache(maxsize=None)
def costs_of(setting: Setting, num_classes: int) -> Costs:
    """Raises: InputError if the space cannot have this size or plan."""
    space = setting.search_space(num_classes)
    table, rng = cost_table(space), derive_rng(0, "settings")
    drawn = np.array([tuple(table.cost(space.sample(rng)))[:2] for _ in range(NUM_DRAWN)], float)
    low, high = table.range()
    ms_per_block = LATENCY_MS_PER_BLOCK.get(setting.space, LATENCY_MS_PER_SLOW_BLOCK)
    return Costs(drawn, (low[0], low[1]), (high[0], high[1]), space.num_choice_blocks, ms_per_block)


def rank_settings(
    facts: Facts,
    limits: DeploymentLimits,
    trainable_seconds: float,
    slowness: float,
    space: str,
    strides: str,
    input_size: int,
) -> List[Candidate]:
    """Settings in which some architectures keep the limits, best first.

    Args:
        trainable_seconds: that an image may take in training, so that the hours suffice.
        slowness: of this machine, by a calibration.
    Raises: InputError if there are none, with the least that would do; if no setting can be had, with the reason.
    """
    found, least = [], _Least()
    for setting, costs in _possible(settings_for(facts, space, strides, input_size), facts.num_classes):
        if costs.lowest == costs.highest:
            continue
        least.see(costs, slowness)
        kept = costs.within(limits, slowness)
        if kept.mean() >= LEAST_SHARE:
            found.append(_candidate(setting, costs, kept, facts, trainable_seconds, slowness))
    if not found:
        raise InputError(least.complaint(limits, f"{space or 'the spaces that ship'}"))
    return sorted(found, key=lambda candidate: -candidate.worth)


def _possible(settings: Iterable[Setting], num_classes: int) -> List[Tuple[Setting, Costs]]:
    """Those that can be had: not every space has every size and plan. Raises: InputError of the first if none can."""
    found, reasons = [], []
    for setting in settings:
        try:
            found.append((setting, costs_of(setting, num_classes)))
        except InputError as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return found


def _candidate(
    setting: Setting, costs: Costs, kept: np.ndarray, facts: Facts, trainable_seconds: float, slowness: float
) -> Candidate:
    """Networks should take as long as the hours allow, keep the pixels, and end on a map that is not too small."""
    macs = float(np.median(costs.drawn[kept, 0]))
    seconds = image_seconds(macs, costs.num_blocks, slowness)
    plan = setting.search_space(facts.num_classes).strides
    last_map = setting.input_size / math.prod(plan)
    worth = -max(0.0, math.log(seconds / trainable_seconds)) * 2  # too slow to be trained in time
    worth += math.log(macs / MILLION) * 0.5  # more is better, as far as there is time
    worth += _PARAMS_WEIGHT * math.log(np.median(costs.drawn[kept, 1]) / MILLION)
    worth -= _SIZE_WEIGHT * max(0.0, math.log(native_size(facts) / setting.input_size))
    if last_map < _LAST_MAP:
        worth -= _DEEPEST * math.log(_LAST_MAP / last_map)
    worth -= _RARE * max(0.0, math.log(_COMFORTABLE / kept.mean()))
    if kept.all():
        worth -= 0.2  # the limit leaves nothing to decide, and larger networks would be allowed
    return Candidate(setting, float(kept.mean()), macs, costs.num_blocks, worth)


class _Least:
    """The smallest costs that enough architectures of some setting keep, for whoever asks for less."""

    def __init__(self) -> None:
        self.found: Dict[str, float] = {}

    def see(self, costs: Costs, slowness: float) -> None:
        low = np.quantile(costs.drawn, 2 * LEAST_SHARE, axis=0)
        graph = costs.num_blocks * ONNX_GRAPH_BYTES_PER_BLOCK + ONNX_HEAD_BYTES
        seen = {
            "macs": low[0],
            "params": low[1],
            "latency_ms": float(costs.latency_ms(low[0], slowness)),
            "file_bytes": low[1] * ONNX_BYTES_PER_PARAM + graph,
        }
        for name, value in seen.items():
            self.found[name] = min(self.found.get(name, math.inf), float(value))

    def complaint(self, limits: DeploymentLimits, where: str) -> str:
        """One line that says what each limit would have to be at least."""
        shown = {
            "macs": ("--flops-max-m", MILLION, ".2f"),
            "params": ("--params-max-m", MILLION, ".3f"),
            "latency_ms": ("--latency-max", 1.0, ".2f"),
            "file_bytes": ("--model-size-max", 1.0, ".0f"),
        }
        parts = []
        for name, (flag, unit, form) in shown.items():
            given = getattr(limits, name)
            if given:
                wanted = self.found.get(name, math.inf) / unit
                parts.append(f"{flag} {given / unit:g} (at least {wanted:{form}})")
        together = " together" if len(parts) > 1 else ""
        return (
            f"no network of {where} comfortably keeps {', '.join(parts)}{together}; allow more, or give another --space"
        )
