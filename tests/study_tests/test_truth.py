"""Accuracies that others measured: read from published tables and from one's own, held against the space."""

import json

import numpy as np
import pytest
from conftest import SHARED

from spos.core.errors import InputError
from spos.core.ranking import kendall_tau
from spos.space.cost import count_architecture
from spos.space.space_file import load_space
from spos.study.flags import RankingOptions
from spos.study.rank import FLOPS, PARAMS, rank, seed_agreement
from spos.study.truth import TruthOptions, read_accuracies, read_truth, rows_of

MACRO = load_space("nas-bench-macro")
# Facts of the published table: FLOPs, params, test accuracies of three seeds in percent.
NETWORKS = {
    "02012100": (47327744, 890666, (89.47, 88.95, 89.17)),
    "11111221": (65012224, 2181386, (92.18, 92.22, 92.51)),
    "00011110": (31390208, 1118378, (85.37, 85.23, 85.23)),
}


def published(networks=NETWORKS):
    return {
        digits: {"test_acc": list(accuracies), "mean_acc": 0.0, "std": 0.0, "params": params, "flops": flops}
        for digits, (flops, params, accuracies) in networks.items()
    }


def options(tmp_path, content, form="nas-bench-macro", name="truth.json"):
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return TruthOptions(str(tmp_path / name), form)


def test_the_published_table_is_read(tmp_path):
    truth = read_truth(options(tmp_path, published()), MACRO)
    assert [one.block_choices for one in truth] == [tuple(map(int, digits)) for digits in NETWORKS]
    assert list(truth.values())[0] == pytest.approx([0.8947, 0.8895, 0.8917])


def change(**changes):
    return {"02012100": {**published()["02012100"], **changes}}


@pytest.mark.parametrize(
    "content, message",
    (
        ([], "Expected `object`"),
        (change(flops=1), "network 02012100 has 1 FLOPs and 890666 params, in space 'nas-bench-macro' 47327744 and"),
        (change(test_acc=[120.0]), "test_acc"),
        ({"0201210": published()["02012100"]}, "7 block choices, space 'nas-bench-macro' has 8"),
        ({"0201210a": published()["02012100"]}, "0201210a is not written in digits"),
        ({"02012103": published()["02012100"]}, "block choice 3 of choice block 7 is not in 0..2"),
        ({**published(), **change(test_acc=[90.0])}, "1 to 3 accuracies"),
    ),
)
def test_what_is_no_table_of_this_space_is_refused(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_truth(options(tmp_path, content), MACRO)


TINY = load_space("tiny")
ROWS = [
    {"block_choices": [0, 1, 2, 3, 0, 1, 2, 3, 0], "channel_choices": [0, 1, 2, 2, 0, 1, 2, 2, 0], "top1": [0.5, 0.6]},
    {"block_choices": [1] * 9, "top1": [0.7, 0.8]},
]


def as_csv(rows):
    lines = ["block_choices,channel_choices,top1"]
    for row in rows:
        lists = (row["block_choices"], row.get("channel_choices", []), row["top1"])
        lines.append(",".join(" ".join(map(str, one)) for one in lists))
    return "\ufeff" + "\n".join(lines)


def test_json_and_csv_of_ones_own_say_the_same(tmp_path):
    from_json = read_truth(options(tmp_path, ROWS, "table"), TINY)
    assert from_json == read_truth(options(tmp_path, as_csv(ROWS), "table", "truth.csv"), TINY)
    assert list(from_json)[1].channel_choices == (2,) * 9  # the widest, where nothing is said


@pytest.mark.parametrize(
    "content, name, message",
    (
        ([{"block_choices": [0]}], "truth.json", "top1"),
        ([{**ROWS[0], "top1": [61.0]}], "truth.json", "<= 1"),
        ([*ROWS, ROWS[1]], "truth.json", "twice"),
        ("block_choices\n0 1\n", "truth.csv", "a row lacks top1"),
        ("block_choices,top1\n0 1,high\n", "truth.csv", "top1 high must be fractions"),
        ([{"block_choices": [], "top1": [0.3]}], "truth.json", "length >= 1"),
        ('[{"block_choices": [0], "top1": [0.3], "top1": [0.4]}]', "truth.json", "has 'top1' twice in one object"),
    ),
)
def test_rows_that_say_too_little_are_refused(content, name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_truth(options(tmp_path, content, "table", name), TINY)


def test_rows_are_those_of_networks_trained_alone(tmp_path):
    rng = np.random.default_rng(0)
    architectures = list(dict.fromkeys(TINY.sample(rng) for _ in range(60)))
    content = [
        {"block_choices": one.block_choices, "channel_choices": one.channel_choices, "top1": rng.random(3).tolist()}
        for one in architectures
    ]
    truth = read_truth(options(tmp_path, content, "table"), TINY)
    chosen = rows_of(truth, RankingOptions(num_architectures=20, strata=5), TINY)
    assert len(chosen) == 20 * 3 and {row["seed"] for row in chosen} == {0, 1, 2}
    for row in chosen:
        one = next(a for a in architectures if list(a.genes) == [*row["block_choices"], *row["channel_choices"]])
        assert (row["flops"], row["params"]) == tuple(count_architecture(TINY, one))
        assert row["top1"] == truth[one][row["seed"]]
    strata = [[row["flops"] for row in chosen if row["stratum"] == stratum] for stratum in range(5)]
    assert all(len(one) == 12 for one in strata)
    assert all(max(low) <= min(high) for low, high in zip(strata, strata[1:]))
    assert chosen == rows_of(truth, RankingOptions(num_architectures=20, strata=5), TINY)


def test_figures_of_the_published_table_are_found_again():
    """Over all 6,561 networks: two seeds agree by tau-b 0.88; FLOPs alone give 0.556, params 0.218."""
    path = SHARED / "data" / "nas_bench" / "nas_bench_macro_cifar10.json"
    if not path.is_file():
        pytest.skip("../shared/data/nas_bench is not here")
    truth = read_truth(TruthOptions(str(path), "nas-bench-macro"), MACRO)
    rows = rows_of(truth, RankingOptions(num_architectures=6560, strata=1), MACRO)
    ranked = rank(rows, {}, MACRO)
    assert seed_agreement(rows) == pytest.approx(0.88, abs=0.005)
    for name, tau in ((FLOPS, 0.556), (PARAMS, 0.218)):
        assert kendall_tau(ranked.predictors[name], ranked.truth) == pytest.approx(tau, abs=0.002)


def test_tables_are_read_without_their_space(tmp_path):
    truth = read_accuracies(options(tmp_path, published()).truth, "nas-bench-macro")
    assert truth == {
        type(one)(one.block_choices, (0,) * 8): accuracies
        for one, accuracies in read_truth(options(tmp_path, published()), MACRO).items()
    }
    widths = {"4432214": {"acc": [90.5, 91.0]}, "0000000": {"acc": [80.0, 81.0]}}
    truth = read_accuracies(options(tmp_path, widths).truth, "channel-bench-macro")
    assert [(one.block_choices, one.channel_choices) for one in truth] == [
        ((0,) * 7, (4, 4, 3, 2, 2, 1, 4)),
        ((0,) * 7, (0,) * 7),
    ]
    assert list(truth.values())[0] == pytest.approx([0.905, 0.91])


@pytest.mark.parametrize(
    "content, form, message",
    (
        ({}, "channel-bench-macro", "holds no network"),
        ({"44": {"acc": [1.0]}, "444": {"acc": [1.0]}}, "channel-bench-macro", "all need as many"),
        ({"4-4": {"acc": [1.0]}}, "channel-bench-macro", "not written in digits"),
        ({"44": {"test_acc": [1.0]}}, "channel-bench-macro", "acc"),
        ([{"block_choices": [-1], "top1": [0.5]}], "csv", "numbered from 0"),
        ([{"block_choices": [], "top1": [0.3]}], "csv", "length >= 1"),
        ([ROWS[1], {**ROWS[0]}], "csv", "row 1 has no channel_choices, others have; .* in every row, or in none$"),
        ('{"44": {"acc": [1.0]}, "44": {"acc": [2.0]}}', "channel-bench-macro", "has '44' twice in one object"),
        ([{"block_choices": [1], "channel_choices": [1, 1], "top1": [0.5]}], "csv", "all need as many"),
        ([{"block_choices": [1], "top1": [0.5]}, {"block_choices": [1], "top1": [0.6]}], "csv", "twice"),
    ),
)
def test_what_is_no_table_of_any_space_is_refused(content, form, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_accuracies(options(tmp_path, content).truth, form)
