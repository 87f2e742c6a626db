"""Latency tables: what they sum to, what is refused, and what a search does with one."""

import json
import timeit
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, VARIANTS

from spos.core.errors import InputError
from spos.core.flags import OneLineParser
from spos.latency.table import LatencyTable
from spos.runs.files import write_json
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.flags import ConstraintOptions, SearchOptions, make_domain
from spos.space.architecture import Architecture
from spos.space.architecture_file import load_architecture
from spos.space.cost import Cost, TimedCost, cost_table

SPACE = VARIANTS["se-last-conv"]
UNBOUNDED = Constraints(score_max=None)


def make_table(space, seed=0, noise=0.3, **changes):
    """A table whose latencies follow FLOPs (correlation 0.85 on SPACE): 20 M multiply-adds a millisecond, and noise."""
    rng = np.random.default_rng(seed)
    costs = cost_table(space)
    times = tuple(
        tuple(tuple(round(cost.macs / 2e7 * rng.lognormal(0, noise) + 0.01, 6) for cost in kind) for kind in block)
        for block in costs.blocks
    )
    return LatencyTable(
        **{"space": space, "fixed_ms": 0.5, "blocks_ms": times, "device": "made up", "held_out_error": 0.03, **changes}
    )


@pytest.fixture
def table_file(tmp_path):
    """Writes a table with some keys changed, or with one missing."""

    def write(drop="", **changes):
        values = {**make_table(TINY).to_json(), **changes}
        values.pop(drop, None)
        write_json(tmp_path / "latency.json", values)
        return str(tmp_path / "latency.json")

    return write


def with_entry(value):
    blocks = make_table(TINY).to_json()["blocks_ms"]
    blocks[1][2][0] = value
    return blocks


def test_latency_is_the_corrected_sum_of_the_chosen_blocks(rng):
    table = make_table(SPACE, scale=1.25, offset_ms=-0.125)
    for _ in range(20):
        architecture = SPACE.sample(rng)
        chosen = zip(table.blocks_ms, architecture.block_choices, architecture.channel_choices)
        expected = -0.125 + 1.25 * (0.5 + sum(block[b][c] for block, b, c in chosen))
        assert table.latency_ms(architecture) == pytest.approx(expected, abs=11 * 1e-6)


def test_a_table_comes_back_from_its_file(table_file):
    table = make_table(TINY)
    assert LatencyTable.read(table_file()) == table
    more = {"scale": 2, "offset_ms": -0.1, "held_out_error": 0.03, "versions": {"mxnet": "1.9.1"}, "dtype": "float16"}
    read = LatencyTable.read(table_file(**more, batch_size=8, blocks_ms=with_entry(None)))
    assert read.blocks_ms[1][2][0] is None and {name: getattr(read, name) for name in more} == more
    assert LatencyTable.from_json(json.loads(json.dumps(read.to_json()))) == read


REFUSED = {
    "not a table": ({"kind": "architecture"}, '"kind": "latency_table"'),
    "schema": ({"schema": 2}, "schema is 2, this version reads 1"),
    "missing": ({"drop": "fixed_ms"}, "missing or unknown: fixed_ms"),
    "unknown": ({"unit": "s"}, "missing or unknown: unit"),
    "fingerprint": ({"fingerprint": "0123"}, "fingerprint 0123 does not fit its space"),
    "input size": ({"input_size": 224}, "input_size 224 does not fit its space (16)"),
    "space": ({"space": {}}, "search space is not described"),
    "NaN": ({"fixed_ms": float("nan")}, "NaN is no finite number"),
    "negative": ({"blocks_ms": with_entry(-1.0)}, "blocks_ms[1][2][0] must be a number from 0 to 1e+06, not -1.0"),
    "infinite": ({"blocks_ms": with_entry(float("inf"))}, "Infinity is no finite number"),
    "text": ({"blocks_ms": with_entry("1")}, "blocks_ms[1][2][0] must be a number"),
    "bool": ({"blocks_ms": with_entry(True)}, "blocks_ms[1][2][0] must be a number"),
    "blocks": ({"blocks_ms": with_entry(1.0)[:3]}, "blocks_ms has 3 entries, the space has 4 choice blocks"),
    "choices": ({"blocks_ms": [[], *with_entry(1.0)[1:]]}, "blocks_ms[0] has 0 entries, the space has 4 block choices"),
    "widths": ({"blocks_ms": [[[1]] * 4] * 4}, "blocks_ms[0][0] has 1 entries, the space has 10 channel choices"),
    "flat": ({"blocks_ms": 3}, "blocks_ms has 3, the space has 4 choice blocks"),
    "scale": ({"scale": 0}, "scale must be a number from 0.001 to 1000, not 0"),
    "offset": ({"offset_ms": None}, "offset_ms must be a number"),
    "error": ({"held_out_error": -0.1}, "held_out_error must be"),
    "batch": ({"batch_size": 0}, "batch_size must be an integer of at least 1, not 0"),
    "dtype": ({"dtype": "float8"}, "dtype must be float32, float16, int8, not 'float8'"),
    "device": ({"device": None}, "device must be text"),
    "details": ({"details": "none"}, "details must be an object"),
    "versions": ({"versions": []}, "versions must be an object"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_malformed_table_is_refused(case, table_file):
    changes, message = case
    with pytest.raises(InputError) as error:
        LatencyTable.read(table_file(**changes))
    assert message in str(error.value) and "latency.json: " in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"use_se": False}, "another search space"),
        ({"width_multiple": 8}, "another search space"),
        ({"strides": (1, 2, 2)}, "measured with (2, 2, 2) as strides, here it is (1, 2, 2)"),
        ({"input_size": 32}, "measured with 16 px, here it is 32"),
        ({"num_classes": 10}, "measured with 5 classes, here it is 10"),
    ),
)
def test_a_table_of_another_space_is_refused(changes, message):
    with pytest.raises(InputError) as error:
        Domain(replace(TINY, **changes), latency=make_table(TINY))
    assert message in str(error.value)


def test_a_table_serves_searches_that_leave_out_narrow_widths(rng):
    narrow = replace(TINY, min_channel_choice=2)
    domain = Domain(narrow, UNBOUNDED, latency=make_table(TINY))
    for _ in range(20):
        architecture = domain.sample(rng)
        assert min(architecture.channel_choices) >= 2
        assert domain.cost(architecture).latency_ms == make_table(TINY).latency_ms(architecture)


def test_a_missing_time_is_refused_only_where_the_search_may_come(table_file):
    table = LatencyTable.read(table_file(blocks_ms=with_entry(None)))
    with pytest.raises(InputError, match="no time for choice block 1 with block choice 2 and channel choice 0"):
        Domain(TINY, latency=table)
    narrow = Domain(replace(TINY, min_channel_choice=1), replace(UNBOUNDED, latency_max_ms=5), latency=table)
    fixed = Domain(TINY, UNBOUNDED, fixed_block_choices=(0, 0, 0, 0), latency=table)
    for domain in (narrow, fixed):
        domain.check()
        domain.sample(np.random.default_rng(0))


def test_an_offset_below_what_some_architecture_takes_is_refused():
    with pytest.raises(InputError, match="offset_ms -3 is too low"):
        Domain(TINY, latency=make_table(TINY, offset_ms=-3))


def test_costs_of_a_domain_have_latency_if_there_is_a_table(rng):
    table, architecture = make_table(TINY), TINY.sample(rng)
    plain = Domain(TINY).cost(architecture)
    timed = Domain(TINY, latency=table).cost(architecture)
    assert type(plain) is Cost and type(timed) is TimedCost
    assert timed[:2] == plain == cost_table(TINY).cost(architecture)
    assert timed.latency_ms == table.latency_ms(architecture)


def test_fields_of_a_row_have_latency_if_there_is_a_table(rng):
    architecture = TINY.sample(rng)
    plain = Domain(TINY).cost_fields(architecture)
    timed = Domain(TINY, latency=make_table(TINY)).cost_fields(architecture)
    assert list(plain) == ["flops", "params", "flop_ratio", "param_ratio", "score"]
    assert timed == {**plain, "latency_ms": make_table(TINY).latency_ms(architecture)}


def test_a_latency_that_equals_its_limit_is_admitted(rng):
    table = make_table(SPACE)
    for _ in range(200):
        architecture = SPACE.sample(rng)
        latency = table.latency_ms(architecture)
        for bound, admitted in ((latency, True), (latency - 1e-6, False)):
            constraints = Constraints(score_max=None, latency_max_ms=bound)
            assert bool(Domain(SPACE, constraints, latency=table).admits(architecture)) is admitted


def test_a_limit_on_latency_never_judges_a_cost_without_it():
    with pytest.raises(ValueError, match="latency is limited"):
        Constraints(latency_max_ms=3).admits(Cost(1, 1))
    with pytest.raises(InputError, match="needs a latency table"):
        Domain(TINY, Constraints(latency_max_ms=3))


def test_an_impossible_latency_names_the_smallest_reachable_one():
    table = make_table(SPACE)
    smallest = 0.5 + sum(min(time for kind in block for time in kind) for block in table.blocks_ms)
    message = rf"latency <= 1 ms; the smallest reachable is {smallest:.6g} ms"
    with pytest.raises(InputError, match=message):
        Domain(SPACE, Constraints(latency_max_ms=1.0), latency=table).check()


def test_latency_and_flops_that_exclude_each_other_are_refused_soon():
    table = make_table(SPACE)
    smallest = 0.5 + sum(min(time for kind in block for time in kind) for block in table.blocks_ms)
    constraints = Constraints(score_max=None, flop_max_m=64.2, latency_max_ms=smallest + 0.001)
    with pytest.raises(InputError, match="and latency from .* ms.*each limit alone can be kept"):
        Domain(SPACE, constraints, latency=table).check()


def test_flags_make_a_domain_with_latency(table_file):
    limits = ConstraintOptions(flop_max=-1, score_max=-1, latency_table=table_file(), latency_max=1.5)
    domain = make_domain(TINY, SearchOptions(), limits)
    assert [str(limit) for limit in domain.constraints.limits()] == ["latency <= 1.5 ms"]
    assert domain.latency == make_table(TINY)
    unlimited = ConstraintOptions(flop_max=-1, score_max=-1, latency_table=table_file())
    without_limit = make_domain(TINY, SearchOptions(), unlimited)
    assert without_limit.latency == domain.latency and without_limit.constraints.limits() == []


@pytest.mark.parametrize(
    "changes, message",
    (
        ({"latency_max": 3.0}, "--latency-max needs --latency-table"),
        ({"latency_table": "gone.json", "latency_max": 3.0}, "gone.json does not exist"),
    ),
)
def test_flags_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        make_domain(TINY, SearchOptions(), ConstraintOptions(**changes))


@pytest.mark.parametrize(
    "error, largest, message",
    (
        (0.101, 0.1, "off by 10.1% on half of the networks that it was tried on, allowed are 10.0%"),
        (0.04, 0.03, "off by 4.0%"),
        (None, 0.1, "does not say how far it is off"),
    ),
)
def test_a_table_that_predicts_badly_is_refused_unless_told_otherwise(error, largest, message, table_file):
    path = table_file(held_out_error=error)
    with pytest.raises(InputError, match=f"{message}.*--latency-error-max -1 takes it"):
        make_domain(TINY, SearchOptions(), ConstraintOptions(latency_table=path, latency_error_max=largest))
    make_domain(TINY, SearchOptions(), ConstraintOptions(latency_table=path, latency_error_max=-1))


def test_half_of_the_networks_may_be_off_by_a_tenth_and_no_more(table_file):
    at_the_limit = ConstraintOptions(latency_table=table_file(held_out_error=0.1))
    assert make_domain(TINY, SearchOptions(), at_the_limit).latency == make_table(TINY, held_out_error=0.1)
    above = ConstraintOptions(latency_table=table_file(held_out_error=0.1000001))
    with pytest.raises(InputError, match="off by 10.0%"):
        make_domain(TINY, SearchOptions(), above)


@pytest.mark.parametrize("flag", ("--latency-max", "--flop-max", "--score-max"))
@pytest.mark.parametrize("value", ("nan", "inf"))
def test_limits_are_finite(flag, value, capsys):
    with pytest.raises(SystemExit):
        OneLineParser("", (ConstraintOptions,)).parse_args([flag, value])
    assert "must be a finite number" in capsys.readouterr().err


def test_a_cost_with_latency_takes_microseconds():
    """Loose by a factor of ten, for busy machines."""
    domain = Domain(SPACE, latency=make_table(SPACE))
    architecture = load_architecture("oneshot-s+").architecture
    domain.cost(architecture)
    assert min(timeit.repeat(lambda: domain.cost(architecture), number=100, repeat=5)) / 100 < 1e-4


def test_fixed_choices_and_latency_go_together(rng):
    table, blocks = make_table(SPACE), tuple(range(4)) * 5
    domain = Domain(SPACE, Constraints(latency_max_ms=11), fixed_block_choices=blocks, latency=table)
    samples = [domain.sample(rng) for _ in range(20)]
    assert all(sample.block_choices == blocks and table.latency_ms(sample) <= 11 for sample in samples)
    assert len(set(samples)) == 20
    assert isinstance(samples[0], Architecture)
