"""From rows of timings to a latency table: what is shared, corrected, judged and refused."""

from dataclasses import replace
from itertools import cycle, repeat

import pytest
from conftest import ROOT, SPACES, TINY, VARIANTS, small_file

from spos.core.errors import InputError
from spos.core.timing import Timing
from spos.latency.fit import Agreement
from spos.latency.measurements import (
    FIT,
    HELD_OUT,
    Measurements,
    Plan,
    alike,
    as_row,
    draw_networks,
    draw_parts,
    read_measurements,
)
from spos.latency.table import LatencyTable
from spos.runs.files import write_json
from spos.search.domain import Domain
from spos.space.cost import cost_table
from spos.space.space_file import load_space, parse_space

SPACE = replace(TINY, min_channel_choice=2)
COPIES, SCALE, OFFSET, REFERENCE = 3, 1.25, 0.5, 4.0
PASSES = 2
PLAN = Plan(
    SPACE, COPIES, PASSES, {FIT: draw_networks(SPACE, FIT, 6, 0), HELD_OUT: draw_networks(SPACE, HELD_OUT, 7, 0)}
)


def true_ms(index, block_choice, channel_choice):
    """Of a choice block alone: a function of what it computes."""
    first = next(positions[0] for positions in alike(SPACE).values() if index in positions)
    return cost_table(SPACE).blocks[first][block_choice][channel_choice].macs / 1e5


def true_network_ms(architecture):
    pairs = zip(architecture.block_choices, architecture.channel_choices)
    return SCALE * (1.5 + sum(true_ms(i, b, c) for i, (b, c) in enumerate(pairs))) + OFFSET


def rows(plan=PLAN, disturb=lambda ms: ms, block_ms=true_ms, network_ms=true_network_ms):
    """What a machine would say on which whole networks take a factor and an offset more than their parts."""

    def row(place, times, speed):
        unit = 30 if place[1] == "networks" else REFERENCE
        off = 1 + 0.01 * (-1) ** place[0]  # one pass finds all times too long, the other too short
        return as_row(*place, [Timing(off * time / unit, 0.01, 20, 1) for time in times], unit * speed / 1e3)

    speeds = {"networks": cycle((1, 0.8, 1, 1.2)), "blocks": cycle((1, 0.8, 1, 1.2)), "fixed": repeat(1)}
    for of_pass, kind, key in plan.rows():
        if kind == "fixed":
            times = [1.0, 0.5]
        elif kind == "blocks":
            times = [COPIES * block_ms(*key, c) for c in plan.widths(*key)]
        else:
            times = [disturb(network_ms(network)) for network in plan.at_once(*key)]
        yield row((of_pass, kind, key), times, next(speeds[kind]))


def make_table(**changes):
    return Measurements.of(PLAN, list(rows(**changes))).table(device="made up")


def test_networks_are_predicted_by_their_parts(rng):
    table = make_table()
    for _ in range(10):
        architecture = SPACE.sample(rng)
        assert table.latency_ms(architecture) == pytest.approx(true_network_ms(architecture), rel=1e-4)
    assert (table.scale, table.offset_ms) == pytest.approx((SCALE, OFFSET), rel=1e-3)
    assert table.held_out_error == pytest.approx(0, abs=1e-4)
    assert table.details["held_out"]["networks"] == 7 and table.details["held_out"]["tau_b"] == 1


def test_the_error_is_that_of_networks_the_fit_did_not_see(rng):
    seen = {true_network_ms(network) for network in PLAN.networks[FIT]}
    table = make_table(disturb=lambda ms: ms if ms in seen else 1.25 * ms)
    assert table.held_out_error == pytest.approx(0.2, abs=1e-3)


def test_choices_below_the_narrowest_are_not_measured():
    table = make_table()
    assert all(kind[:2] == (None, None) and None not in kind[2:] for block in table.blocks_ms for kind in block)
    assert LatencyTable.from_json(table.to_json()) == table


def test_blocks_of_one_geometry_are_measured_once():
    keys = [key for kind, key in Plan(VARIANTS["se-last-conv"], 3, 1, {}).groups() if kind == "blocks"]
    assert len(keys) == len(set(keys)) == 8 * 4  # the first of each stage and the others, four block choices
    assert list(alike(VARIANTS["se-last-conv"]).values())[:2] == [[0], [1, 2, 3]]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("lowest", (0, 1))
def test_every_choice_of_ragged_spaces_has_its_time_and_what_has_no_layers_takes_none(name, lowest, rng):
    """Times are those of the layers, wherever these stand and however many widths mean them."""
    space = SPACES[name]
    space = replace(space, min_channel_choice=min(lowest, space.max_channel_choice))
    plan = Plan(space, COPIES, PASSES, {part: draw_networks(space, part, 8, 0) for part in (FIT, HELD_OUT)})

    def block_ms(index, b, c):
        return cost_table(space).blocks[index][b][c].macs / 1e5

    def network_ms(architecture):
        pairs = zip(architecture.block_choices, architecture.channel_choices)
        return 1.5 + sum(block_ms(i, b, c) for i, (b, c) in enumerate(pairs))

    measured = [key for kind, key in plan.groups() if kind == "blocks"]
    assert len(set(measured)) == len(measured)
    for index, b in measured:
        assert len(plan.widths(index, b)) == (len(space.channel_choices(index)) if space.has_middle(index, b) else 1)
    table = Measurements.of(plan, list(rows(plan, block_ms=block_ms, network_ms=network_ms))).table(device="made up")
    assert LatencyTable.from_json(table.to_json()) == table
    for index, choices in enumerate(space.choices):
        searched = space.channel_choices(index)
        for b in range(len(choices.blocks)):
            times = table.blocks_ms[index][b]
            assert times[: searched.start] == (None,) * searched.start
            assert times[searched.start :] == pytest.approx([block_ms(index, b, c) for c in searched], rel=1e-3)
            assert (times[-1] == 0) is not bool(space.block_layers(index, b, 0).main)
    Domain(space, latency=table).check()
    for _ in range(5):
        architecture = space.sample(rng)
        assert table.latency_ms(architecture) == pytest.approx(network_ms(architecture), rel=1e-3)


def test_blocks_of_the_same_layers_are_measured_once_wherever_they_stand():
    assert list(alike(SPACES["mobilenet-se"]).values()) == [[0, 1], [2], [3, 4]]
    assert list(alike(SPACES["mixed"]).values()) == [[0], [1, 2], [3], [4], [5]]


def test_the_reference_computes_something():
    for name, expected in (("plain", (10, 0)), ("tiny", (1, 0)), ("no-block-keeps-its-shape", (1, 0))):
        assert Plan({**VARIANTS, **SPACES}[name], 1, 1, {}).reference_choice == expected
    conv, nothing = {"kind": "mbconv"}, {"block_choices": ["I"]}
    stage = {"num_blocks": 3, "out_channels": 8, "stride": 2, "choice_blocks": {"1": nothing, "2": nothing}}
    space = parse_space(small_file("idle", {"I": {"kind": "identity"}, "MB": conv}, [stage], stem=8), "idle")
    assert Plan(space, 1, 1, {}).reference_choice == (0, 0)  # the others, which keep the shape, do nothing


def test_a_network_is_drawn_once():
    (only,) = draw_networks(replace(load_space("mobilenetv2"), input_size=32), FIT, 5, 0)
    assert only.block_choices == (0,) * 17


def test_noise_is_told():
    noise = Measurements.of(PLAN, list(rows())).noise()
    assert noise["calls"] == 2 + 4 * 4 * 8 + len(PLAN.networks[FIT]) + len(PLAN.networks[HELD_OUT])
    assert (noise["rounds"], noise["outliers"]) == (PASSES * 20 * noise["calls"], 0.05)
    assert noise["median_error"] == pytest.approx(noise["largest_error"]) == pytest.approx(0.01)
    assert noise["drift"] == pytest.approx(1.2 / 0.8)


def test_no_held_out_network_was_in_the_fit():
    """Small spaces have few networks in each range of FLOPs, and both parts draw from them."""
    space = load_space("nas-bench-macro")
    counts = {FIT: 24, HELD_OUT: 40}
    alone = {part: draw_networks(space, part, count, 0) for part, count in counts.items()}
    assert set(alone[FIT]) & set(alone[HELD_OUT])
    parts = draw_parts(space, counts, 0)
    assert parts[FIT] == alone[FIT] and parts[HELD_OUT] == [one for one in alone[HELD_OUT] if one not in alone[FIT]]


def test_an_unfinished_measurement_gives_no_table():
    with pytest.raises(InputError, match="not finished: 2 groups are missing; run it again"):
        Measurements.of(PLAN, list(rows())[:-2])


@pytest.mark.parametrize("space", (VARIANTS["se-last-conv"], SPACE), ids=("full", "tiny"))
def test_networks_are_spread_over_the_flops_of_the_space(space):
    low, high = (cost.macs for cost in cost_table(space).range())
    networks = draw_networks(space, FIT, 10, seed=3)
    macs = [cost_table(space).cost(network).macs for network in networks]
    cells = [min(int((value - low) / (high - low) * 10), 9) for value in macs]
    assert cells == sorted(set(cells)) and len(cells) >= 8
    assert all(choice >= space.min_channel_choice for network in networks for choice in network.channel_choices)
    assert draw_networks(space, FIT, 10, seed=3) == networks
    assert not set(networks) & set(draw_networks(space, HELD_OUT, 10, seed=3))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    write_json(tmp_path / "config.json", {"program": "train_imagenet.py"})
    with pytest.raises(InputError, match="is not a run of utils.build_latency_table"):
        read_measurements(tmp_path)


@pytest.mark.parametrize("name", ("latency-float32", "latency-int8"))
def test_the_runs_of_the_documentation_say_what_it_says(name):
    """docs/latency.md: the tables follow from their measurements, and predict what was held out."""
    table, measurements = read_measurements(ROOT / "logs" / name)
    own = measurements.table(device=table.device, dtype=table.dtype)
    assert own.fixed_ms == pytest.approx(table.fixed_ms) and own.blocks_ms[1][2][9] == table.blocks_ms[1][2][9]
    assert (own.scale, own.offset_ms) == pytest.approx((table.scale, table.offset_ms))
    agreement = Agreement.of(*measurements.compare(table, HELD_OUT))
    assert agreement.networks >= 30 and agreement.median_error <= 0.05 and agreement.tau_b >= 0.9
    text = (ROOT / "docs" / "latency.md").read_text()
    assert f"{table.device}, {table.dtype}, batch {table.batch_size}, cpu clock" in text and str(agreement) in text
