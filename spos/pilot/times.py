"""Times: what every stage takes by the rates, and how hours are shared out among them."""

from __future__ import annotations

import math
from typing import Any, Collection, Mapping, Optional, Tuple

from msgspec import Meta, Struct
from msgspec.structs import replace
from typing_extensions import Annotated

from spos.data.flags import MAX_BAD_IMAGES
from spos.pilot.rates import Rates
from spos.pilot.settings import Setting
from spos.runs.schema import Count, Positive, Share

IMAGES, TABLE, SUPERNET, SEARCH, NETWORKS, DEPLOY, REPORT = STAGES = (
    *("images", "latency table", "supernet", "search", "networks"),
    *("deploy", "report"),
)
SLACK = 0.03  # of the hours, for what nobody has thought of
SHARES = {SUPERNET: 0.36, SEARCH: 0.14, NETWORKS: 0.5}  # of the time that can be decided
MOST_EVALUATIONS, FEWEST_EVALUATIONS, FEWEST_EPOCHS = 600, 24, 2
SMALLEST_POPULATION, POPULATION, GENERATIONS = 8, 30, 8
FINALISTS, FINALIST_SHARE, MOST_FINALIST_EPOCHS = 4, 0.06, 5
FEW_STEPS = 5000  # of a supernet
WARM_UP_EPOCHS = 18  # that channel selection takes to grow in the published layouts
VALIDATION_SHARE, CHECKPOINT_SECONDS = 0.03, 15.0
EPOCHS = {SUPERNET: "supernet_epochs", NETWORKS: "final_epochs"}  # values that say how long trainings are

AtLeastThree = Annotated[int, Meta(ge=3)]  # a generation has two parents, and one that is new
FromMinusOne = Annotated[int, Meta(ge=-1)]


class Values(Struct, frozen=True, forbid_unknown_fields=True):
    """Values of all stages: what commands are made of.

    Args:
        resize: shorter side of packed images; 0: files as they are.
        train_images: of the supernet, without those held out.
        warm_up: whether the space has widths to be selected by a warm-up, which then begins at `warm_up_from` (-1: no).
        .._save_every, .._validate_every: epochs (0: at the end only).
        max_bad_images: that packing may leave out.
    """

    space: str
    strides: str
    input_size: Positive
    batch_size: Positive
    threads: Positive
    supernet_threads: Positive
    subnet_threads: Positive
    test_share: Share
    resize: Count
    train_images: Positive
    class_balanced: bool
    warm_up: bool
    int8_loss_max: Share
    supernet_epochs: Positive = FEWEST_EPOCHS
    warm_up_from: FromMinusOne = -1
    supernet_validate_every: Count = 0
    supernet_save_every: Positive = 1
    population: AtLeastThree = SMALLEST_POPULATION
    generations: Positive = 1
    finalists: Count = 0
    finalist_epochs: Positive = 1
    final_epochs: Positive = FEWEST_EPOCHS
    final_validate_every: Count = 0
    final_save_every: Positive = 1
    max_bad_images: Count = MAX_BAD_IMAGES

    @property
    def setting(self) -> Setting:
        return Setting(self.space, self.strides, self.input_size)

    @property
    def evaluations(self) -> int:
        """Architectures that the search scores at most."""
        return self.population * self.generations

    @property
    def aligned(self) -> bool:
        """Whether the supernet has so few steps that its choices had better begin as one function."""
        return self.warm_up and self.supernet_epochs * (self.train_images // self.batch_size) < FEW_STEPS


class Times(Struct, frozen=True):
    """Seconds of what can be decided.

    Args: full, train, holdout, test: images that networks are trained on, that the supernet is, that score, that test.
    """

    rates: Rates
    full: int
    train: int
    holdout: int
    test: int

    @property
    def supernet_epoch(self) -> float:
        return (1 + VALIDATION_SHARE) * self.train / self.rates.supernet_images

    def supernet(self, values: Values, epochs: Optional[float] = None) -> float:
        """Of its first epochs (None: of all). Until half of the warm-up is over they count as those at full width."""
        count = values.supernet_epochs if epochs is None else epochs
        full = min(count, values.warm_up_from + WARM_UP_EPOCHS / 2) if values.warm_up_from >= 0 else 0.0
        wider = self.rates.supernet_images / (self.rates.full_width_images or self.rates.supernet_images)
        return (count - full + full * wider) * self.supernet_epoch

    @property
    def candidate(self) -> float:
        return self.rates.candidate_seconds + 2 * self.holdout / self.rates.scored_images

    @property
    def final_epoch(self) -> float:
        return (1 + VALIDATION_SHARE) * self.full / self.rates.subnet_images

    @property
    def final_validation(self) -> float:
        return self.test / (3 * self.rates.subnet_images)

    def finalists(self, count: int, epochs: int) -> float:
        """Of halving: every round half as many, twice as long."""
        seconds, width = 0.0, count
        while width > 1:
            seconds += width * (epochs * self.train / self.rates.subnet_images + self.candidate)
            width, epochs = math.ceil(width / 2), 2 * epochs
        return seconds

    def least(self) -> float:
        """Of the fewest epochs and evaluations."""
        start = self.rates.start_seconds
        few = FEWEST_EPOCHS * (self.supernet_epoch + self.final_epoch)
        return 3 * start + few + FEWEST_EVALUATIONS * self.candidate + self.final_validation

    def of(self, values: Values) -> Mapping[str, float]:
        """Seconds by stage."""
        start = self.rates.start_seconds
        search = values.evaluations * self.candidate + self.finalists(values.finalists, values.finalist_epochs)
        return {
            SUPERNET: start + self.supernet(values),
            SEARCH: start + search,
            NETWORKS: start + values.final_epochs * self.final_epoch + self.final_validation,
        }

    def slower(self, factor: float) -> Times:
        """On a machine that takes so many times as long."""
        rates = self.rates
        changed = replace(
            rates,
            supernet_images=rates.supernet_images / factor,
            full_width_images=rates.full_width_images / factor,
            subnet_images=rates.subnet_images / factor,
            candidate_seconds=rates.candidate_seconds * factor,
            scored_images=rates.scored_images / factor,
        )
        return replace(self, rates=changed)


def share_out(values: Values, times: Times, seconds: float, begun: Collection[str], given: Mapping[str, Any]) -> Values:
    """Values of the stages that have not begun, so that these take so many seconds together.

    The search is decided first, for it can make use of so many candidates only; supernet and networks share the rest.

    Args: given: values that are decided already.
    """
    left = {name: share for name, share in SHARES.items() if name not in begun}
    if SEARCH in left:
        values = _search(values, times, seconds * left.pop(SEARCH) / (sum(left.values()) + SHARES[SEARCH]), given)
        seconds -= times.of(values)[SEARCH]
    if SUPERNET in left:
        room = seconds * left[SUPERNET] / sum(left.values()) - times.rates.start_seconds
        epochs = given.get("supernet_epochs") or _epochs(room, times.supernet_epoch)
        values = _with_supernet_epochs(values, epochs, times, given)
        while not given.get("supernet_epochs") and epochs > FEWEST_EPOCHS and times.supernet(values) > room:
            epochs = _epochs(min(room / times.supernet(values), 1.0) * (epochs - 1), 1.0)
            values = _with_supernet_epochs(values, epochs, times, given)
        seconds -= times.of(values)[SUPERNET]
    if NETWORKS in left:
        rest = seconds - times.rates.start_seconds - times.final_validation
        epochs = given.get("final_epochs") or _epochs(rest, times.final_epoch)
        validate, save = _every(epochs, times.final_epoch, times.final_validation)
        planned = {"final_validate_every": validate, "final_save_every": save}
        values = replace(values, final_epochs=epochs, **_or_given(planned, given))
    return values


def _search(values: Values, times: Times, seconds: float, given: Mapping[str, Any]) -> Values:
    seconds -= times.rates.start_seconds
    finalists, finalist_epochs = _finalists(times, seconds * FINALIST_SHARE / SHARES[SEARCH], given)
    seconds -= times.finalists(finalists, finalist_epochs)
    evaluations = given.get("evaluations") or min(
        max(int(seconds / times.candidate), FEWEST_EVALUATIONS), MOST_EVALUATIONS
    )
    population = given.get("population") or min(max(evaluations // GENERATIONS, SMALLEST_POPULATION), POPULATION)
    return replace(
        values,
        finalists=finalists,
        finalist_epochs=finalist_epochs,
        population=population,
        generations=given.get("generations") or max(1, round(evaluations / population)),
    )


def _or_given(planned: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Planned values, but for those that are given."""
    return {name: given.get(name, value) for name, value in planned.items()}


def _finalists(times: Times, seconds: float, given: Mapping[str, Any]) -> Tuple[int, int]:
    """How many, and for how many epochs each; none if there is no time for one."""
    count = given.get("finalists", FINALISTS)
    if count < 2:
        return 0, 1
    epochs = given.get("finalist_epochs") or int(seconds / times.finalists(count, 1))
    if epochs < 1 and "finalists" not in given:
        return 0, 1
    return count, given.get("finalist_epochs") or min(max(epochs, 1), MOST_FINALIST_EPOCHS)


def _with_supernet_epochs(values: Values, epochs: int, times: Times, given: Mapping[str, Any]) -> Values:
    validate, save = _every(epochs, times.supernet_epoch, 5 * times.candidate)
    begin = epochs // 3
    has_room = values.warm_up and begin + WARM_UP_EPOCHS <= 0.7 * epochs
    planned = {
        "supernet_validate_every": validate,
        "supernet_save_every": save,
        "warm_up_from": begin if has_room else -1,
    }
    return replace(values, supernet_epochs=epochs, **_or_given(planned, given))


def _epochs(seconds: float, epoch: float) -> int:
    return max(FEWEST_EPOCHS, int(seconds / epoch))


def _every(epochs: int, epoch: float, validation: float) -> Tuple[int, int]:
    """Epochs between validations, which are to take a small share of the time, and between checkpoints."""
    validate = max(1, math.ceil(validation / (VALIDATION_SHARE * epoch)))
    return (validate if validate < epochs else 0), max(1, math.ceil(CHECKPOINT_SECONDS / epoch))
