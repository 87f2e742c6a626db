"""Input sizes as a choice: the space, its architectures and their costs, files, and what is refused."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, VARIANTS
from sized_spaces import DIGITS, FEW, FILE, SIZED, everything

from spos.core.errors import InputError
from spos.runs.files import write_json
from spos.space.architecture import Architecture, architecture_of, choices_of
from spos.space.architecture_file import ArchitectureRecord, load_architecture
from spos.space.cost import CostTable, cost_table, count_architecture, count_supernet
from spos.space.flags import ArchitectureOptions, SpaceOptions, fit, named_architecture
from spos.space.space import SearchSpace
from spos.space.space_file import load_space, parse_space
from spos.training.assembly import count_by_symbol

SPACES = {"tiny": SIZED, "few": FEW, "file": DIGITS}
BLOCKS, CHANNELS = (0, 3, 1, 3), (3, 0, 6, 2)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_draws_are_of_the_space_and_end_with_the_size(space, rng):
    for _ in range(50):
        drawn = space.sample(rng)
        assert drawn.input_size in space.input_sizes and drawn == space.validate(drawn)
        assert drawn.genes[-1] == drawn.input_size and str(drawn).endswith(f" | {drawn.input_size} px")
        assert architecture_of(choices_of(drawn)) == drawn and list(choices_of(drawn))[-1] == "input_size"


def test_the_size_is_drawn_last_and_uniformly():
    drawn, plain = (space.sample(np.random.default_rng(1)) for space in (SIZED, TINY))
    assert (drawn.block_choices, drawn.channel_choices) == (plain.block_choices, plain.channel_choices)
    rng = np.random.default_rng(2)
    counts = Counter(SIZED.sample(rng).input_size for _ in range(2000))
    assert set(counts) == {12, 16} and abs(counts[12] - 1000) < 150


def test_without_the_choice_nothing_tells_a_size(rng):
    drawn = TINY.sample(rng)
    assert drawn.input_size is None and len(drawn.genes) == 8 and "px" not in str(drawn)
    assert "input_size" not in choices_of(drawn) and "input_sizes" not in TINY.to_json()
    assert TINY.at(None) is TINY.at(16) is TINY


def test_a_space_of_one_size_has_the_same_layers():
    small, large = map(SIZED.at, SIZED.input_sizes)
    assert (small.input_size, small.input_sizes) == (12, ()) and small is SIZED.at(12)
    assert small.fingerprint == SIZED.fingerprint == TINY.fingerprint and small.strides == SIZED.strides
    assert [block.in_size for block in small.choice_blocks] == [6, 3, 3, 2]
    assert large == replace(TINY, fixed_strides=True) and SIZED.at(None) is large
    assert SIZED.num_architectures == 2 * TINY.num_architectures == 2 * 40**4


def test_a_missing_size_is_the_largest():
    assert SIZED.validate(Architecture(BLOCKS, CHANNELS)).input_size == 16
    assert SIZED.at_level(BLOCKS, 2).input_size == 16 and SIZED.at_level(BLOCKS, 2, 12).input_size == 12
    assert SIZED.at(12).validate(Architecture(BLOCKS, CHANNELS, 12)) == Architecture(BLOCKS, CHANNELS)


@pytest.mark.parametrize("space, size", ((SIZED, 14), (SIZED.at(12), 16), (TINY, 12)))
def test_a_size_of_another_space_is_refused(space, size):
    with pytest.raises(InputError, match=rf"input size {size} is not one of space 'OneShot', .*\(a file\)"):
        space.validate(Architecture(BLOCKS, CHANNELS, size), "a file")
    with pytest.raises(InputError, match=f"input size {size} is not one of space 'OneShot'"):
        space.at(size)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_costs_are_those_of_the_size(space, rng):
    table = cost_table(space)
    for size in space.input_sizes:
        for _ in range(5):
            drawn = replace(space.sample(rng), input_size=size)
            counted = count_by_symbol(space, drawn)
            assert tuple(table.cost(drawn)) == tuple(counted) == tuple(count_architecture(space.at(size), drawn))
    assert count_supernet(space) == count_supernet(space.at(None))


@pytest.mark.parametrize("space", (FEW, DIGITS), ids=("few", "file"))
def test_the_range_of_costs_equals_brute_force(space):
    every = everything(space)
    assert len(every) == len(set(every)) == space.num_architectures
    costs = np.array([cost_table(space).cost(one) for one in every])
    assert [tuple(end) for end in cost_table(space).range()] == [tuple(costs.min(0)), tuple(costs.max(0))]


def test_costs_of_choices_are_refused_without_a_size():
    with pytest.raises(InputError, match="give --input-size, one of 12, 16"):
        CostTable(SIZED).choice_costs()


def test_json_gives_the_space_back():
    assert SearchSpace.from_json(json.loads(json.dumps(SIZED.to_json()))) == SIZED
    assert parse_space({**FILE, "input_size": 32}, "file") == DIGITS and DIGITS.fixed_strides


@pytest.mark.parametrize(
    "changes, words",
    (
        ({"input_sizes": [32, 24]}, r"two or more rising sizes, not \[32, 24\]"),
        ({"input_sizes": [24, 24]}, "rising sizes"),
        ({"input_sizes": [24]}, "input_sizes"),
        ({"input_sizes": [0, 24]}, "input_sizes"),
        ({"input_sizes": "24"}, "input_sizes"),
        ({"input_size": 24}, "input_size must be 32, the largest of input_sizes, not 24"),
    ),
)
def test_files_with_other_sizes_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        parse_space({**FILE, **changes}, "sized.json")


@pytest.fixture
def files(tmp_path, rng):
    """A space file, and an architecture file of the smaller size."""
    write_json(tmp_path / "space.json", FILE)
    record = ArchitectureRecord(DIGITS, replace(DIGITS.sample(rng), input_size=24), {"name": "one"})
    write_json(tmp_path / "best.json", record.to_json())
    return tmp_path, record


def test_architecture_files_hold_the_size(files):
    folder, record = files
    assert load_architecture(folder / "best.json") == record
    values = json.loads((folder / "best.json").read_text())
    assert values["input_size"] == 24 and values["flops"] == cost_table(DIGITS.at(24)).cost(record.architecture).macs
    for size, words in ((28, "input size 28"), ("24", "must be an integer"), (32, "states")):
        write_json(folder / "wrong.json", {**values, "input_size": size})
        with pytest.raises(InputError, match=words):
            load_architecture(folder / "wrong.json")


def test_what_flags_name_is_of_one_size(files):
    folder, record = files
    named, space = ArchitectureOptions(architecture=str(folder / "best.json")), SpaceOptions()
    found = named_architecture(named, space)
    assert found.space == DIGITS.at(24) and found.architecture.input_size is None and found.more == record.more
    assert count_architecture(found.space, found.architecture) == count_architecture(DIGITS, record.architecture)


def test_a_space_is_fitted_to_its_sizes_alone():
    assert fit(DIGITS, SpaceOptions(), 24) == DIGITS.at(24)
    assert fit(DIGITS, SpaceOptions(), num_classes=5) == replace(DIGITS, num_classes=5)
    with pytest.raises(InputError, match="input size 28 is not one of space 'sized', 24, 32"):
        fit(DIGITS, SpaceOptions(), 28)


def test_files_of_other_spaces_stay_as_they_were():
    """Keys of what is written of an architecture, and of a space."""
    for name in ("oneshot", "oneshot-s+"):
        record = load_architecture(name)
        assert record.at_its_size is record
        assert list(record.to_json())[:7] == [
            "schema",
            "space",
            "fingerprint",
            "block_choices",
            "channel_choices",
            "flops",
            "params",
        ]
    for space in (*VARIANTS.values(), load_space("tiny")):
        assert "input_sizes" not in space.to_json()
