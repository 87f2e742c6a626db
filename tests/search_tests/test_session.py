"""Sessions of searching: what a script starts is what the program starts, and what is refused."""

from dataclasses import fields

import numpy as np
import pytest
from latency_tests.test_table import make_table

import search_supernet as program
from spos.core.errors import InputError
from spos.core.flags import fill
from spos.data.arrays import pack_arrays
from spos.data.flags import DataOptions
from spos.native.build import are_ready
from spos.runs.files import file_digest, read_json, write_json
from spos.runs.journal import read_rows
from spos.runs.run import open_run_directory
from spos.sampling.limits import Limits
from spos.search.ancestry import replay
from spos.search.domain import Domain
from spos.search.session import limits_as_flags, search_supernet
from spos.space.architecture import architecture_of
from spos.space.architecture_file import load_architecture
from spos.space.cost import cost_table
from spos.space.space import SearchSpace
from spos.space.space_file import search_space
from spos.training.session import train_supernet

SETTINGS = {"search_iters": 2, "population_size": 4, "retain_length": 2, "topk": 2}
FLAGS = ["--search-iters", "2", "--population-size", "4", "--retain-length", "2", "--topk", "2", "--seed", "3"]
DATA_FLAGS = {field.name for field in fields(DataOptions)}
FILES = ("history.jsonl", "best.json", "control.json", "top-1.json", "top-2.json")


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    """A supernet trained for a few steps on noise, by a script."""
    folder = tmp_path_factory.mktemp("supernet")
    images = np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3), dtype=np.uint8)
    options = DataOptions(batch_size=16, holdout=24, update_bn_images=16, num_workers=1)
    labels = np.arange(100) % 10
    data = pack_arrays(folder / "data", images[:80], labels[:80], images[80:], labels[80:], options)
    space = search_space("Small", use_se=True)
    return train_supernet(data, folder / "run", space, num_epochs=1, lr=0.1, val_architectures=1)


@pytest.fixture(scope="module")
def limits(supernet):
    """The lower half of what can be reached."""
    smallest, largest = cost_table(space_of(supernet)).range()
    return Limits((smallest.macs + largest.macs) / 2, (smallest.params + largest.params) / 2)


def space_of(supernet):
    return SearchSpace.from_json(read_json(supernet.parent / "config.json")["space"])


def test_a_script_searches_as_the_program(supernet, limits, tmp_path):
    found = search_supernet(supernet, tmp_path / "script", limits, seed=3, **SETTINGS)
    data = read_json(supernet.parent / "config.json")["options"]
    flags = [f"--{name.replace('_', '-')}={data[name]}" for name in ("dataset", "data_dir", "input_size", "crop_ratio")]
    flags += [
        f"--{name.replace('_', '-')}={data[name]}" for name in ("classes", "batch_size", "holdout", "num_workers")
    ]
    flags += [f"--update-bn-images={data['update_bn_images']}", "--supernet-params", str(supernet), "--score-max", "-1"]
    flags += [f"--flop-max-m={limits.flops / 1e6}", f"--param-max-m={limits.params / 1e6}"]
    assert program.main([*flags, *FLAGS, "--save-dir", str(tmp_path / "program")]) == 0
    for name in FILES:
        assert (tmp_path / "script" / name).read_bytes() == (tmp_path / "program" / name).read_bytes()
    configs = [read_json(tmp_path / name / "config.json") for name in ("script", "program")]
    for config in configs:
        del config["options"]["save_dir"]
    assert configs[0] == configs[1]
    assert list(found.rows) == read_rows(tmp_path / "script" / "history.jsonl")
    assert found.best == load_architecture(tmp_path / "script" / "best.json").architecture
    assert found.best_score == max(row["top1"] for row in found.rows) and found.space == space_of(supernet)
    assert all(row["flops"] <= limits.flops and row["params"] <= limits.params for row in found.rows)


def test_the_same_call_goes_on(supernet, limits, tmp_path):
    short = search_supernet(supernet, tmp_path, limits, **SETTINGS)
    longer = search_supernet(supernet, tmp_path, limits, **{**SETTINGS, "search_iters": 3})
    assert longer.rows[: len(short.rows)] == short.rows and len(longer.rows) > len(short.rows)


def test_the_best_of_a_race_is_not_one_that_was_dropped(supernet, tmp_path):
    settings = {**SETTINGS, "search_mode": "random", "racing": True, "search_iters": 3}
    found = search_supernet(supernet, tmp_path, **settings)
    assert not found.best_row.get("dropped", False)
    assert found.best == architecture_of(read_json(tmp_path / "best.json"))


def test_a_search_by_a_model_goes_on_byte_for_byte_also_in_several_processes(supernet, limits, tmp_path):
    """Its errors on what it did not choose are in the log, and it can be replayed."""
    settings = {**SETTINGS, "search_mode": "surrogate", "population_size": 5, "search_iters": 4, "racing": True}
    whole = search_supernet(supernet, tmp_path / "whole", limits, **settings)
    search_supernet(supernet, tmp_path / "resumed", limits, num_processes=2, **{**settings, "search_iters": 2})
    history = tmp_path / "resumed" / "history.jsonl"
    lines = history.read_text().splitlines(keepends=True)
    history.write_text("".join(lines[:-1]) + lines[-1][:20])  # as a kill leaves it
    assert search_supernet(supernet, tmp_path / "resumed", limits, num_processes=2, **settings).rows == whole.rows
    log = read_rows(tmp_path / "whole" / "log.jsonl")
    assert [row.get("checks") for row in log] == [None, 1, 2, 3]
    assert all(row["trusted"] and row["model_error"] >= 0 and row["mean_error"] >= 0 for row in log[1:])
    rows = read_rows(history)
    assert not any(replay(open_run_directory(tmp_path / "resumed"), rows).parents.values())


def test_a_search_by_a_model_with_old_scores_goes_on_byte_for_byte(supernet, limits, tmp_path):
    settings = {**SETTINGS, "population_size": 5}
    search_supernet(supernet, tmp_path / "old", limits, search_mode="random", **settings)
    settings.update(search_mode="surrogate", search_iters=3, seed=1, seed_history=str(tmp_path / "old"))
    whole = search_supernet(supernet, tmp_path / "new", limits, **settings)
    history = tmp_path / "new" / "history.jsonl"
    written = history.read_bytes()
    history.write_bytes(b"".join(written.splitlines(keepends=True)[:7]))
    assert search_supernet(supernet, tmp_path / "new", limits, **settings).rows == whole.rows
    assert history.read_bytes() == written
    replay(open_run_directory(tmp_path / "new"), read_rows(history))


@pytest.mark.parametrize(
    "more", ({"search_mode": "surrogate", "budgets": "flops:{low},{high}"}, {"search_mode": "surrogate-front"})
)
def test_searches_for_budgets_and_fronts_go_on_byte_for_byte(more, supernet, tmp_path):
    """With a file for each budget and each point of the front."""
    low, high = (share * Domain(space_of(supernet)).cost_range("flops")[1] / 1e6 for share in (0.4, 0.8))
    settings = {**SETTINGS, "population_size": 5, "search_iters": 3, **more}
    if "budgets" in more:
        settings["budgets"] = more["budgets"].format(low=f"{low:.3f}", high=f"{high:.3f}")
    whole = search_supernet(supernet, tmp_path / "whole", **settings)
    search_supernet(supernet, tmp_path / "resumed", num_processes=2, **{**settings, "search_iters": 2})
    assert search_supernet(supernet, tmp_path / "resumed", **settings).rows == whole.rows
    names = sorted(path.name for path in (tmp_path / "whole").iterdir() if path.suffix == ".json")
    assert names == sorted(path.name for path in (tmp_path / "resumed").iterdir() if path.suffix == ".json")
    for name in {*names, "history.jsonl"} - {"config.json"}:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()
    front = read_json(tmp_path / "whole" / "front.json")
    assert len(front) == sum(name.startswith("front-") for name in names)
    if "budgets" in more:
        for most in settings["budgets"].partition(":")[2].split(","):
            best = load_architecture(tmp_path / "whole" / f"budget-{float(most):g}M.json")
            within = [row for row in whole.rows if row["flops"] <= float(most) * 1e6]
            assert best.more["searched_accuracy"]["top1"] == max(row["top1"] for row in within)


def test_who_is_best_can_be_decided_again(supernet, limits, tmp_path):
    """By a model of the same scores: nothing is scored again, and back by the scores everything is as before."""
    files = ("history.jsonl", "best.json", "top-1.json", "top-2.json")
    asked = {**SETTINGS, "population_size": 8, "search_mode": "random"}
    by_score = search_supernet(supernet, tmp_path, limits, **asked)
    before = {name: (tmp_path / name).read_bytes() for name in files}
    by_model = search_supernet(supernet, tmp_path, limits, **asked, choose_by="model")
    assert by_model.rows == by_score.rows
    choice = read_json(tmp_path / "best.json")["choice"]
    assert (
        by_model.best_row["evaluation"] == choice["chosen"]
        and choice["first_by_score"] == (by_score.best_row["evaluation"])
    )
    assert load_architecture(tmp_path / "top-1.json").architecture == by_model.best
    assert by_model.within(limits).best == by_model.best
    search_supernet(supernet, tmp_path, limits, **asked, choose_by="score")
    assert {name: (tmp_path / name).read_bytes() for name in files} == before


@pytest.mark.parametrize("mode, has_choice", (("genetic", False), ("surrogate", True)))
def test_a_search_by_a_model_chooses_by_it(mode, has_choice, supernet, limits, tmp_path):
    search_supernet(supernet, tmp_path, limits, **SETTINGS, search_mode=mode)
    assert ("choice" in read_json(tmp_path / "best.json")) == has_choice


def test_candidates_are_scored_in_int8(supernet, limits, tmp_path):
    """With other hits than in float32, in several processes alike, and with an identity of their own."""
    settings = {**SETTINGS, "search_mode": "random", "search_iters": 1}
    plain = search_supernet(supernet, tmp_path / "float32", limits, **settings)
    whole = search_supernet(supernet, tmp_path / "int8", limits, score_dtype="int8", **settings)
    shared = search_supernet(supernet, tmp_path / "shared", limits, num_processes=2, score_dtype="int8", **settings)
    assert [architecture_of(row) for row in plain.rows] == [architecture_of(row) for row in whole.rows]
    assert whole.rows == shared.rows and plain.rows[0]["images"] != whole.rows[0]["images"]
    assert all(abs(one["top1"] - other["top1"]) <= 0.25 for one, other in zip(plain.rows, whole.rows))
    with pytest.raises(InputError, match="in another precision"):
        search_supernet(supernet, tmp_path / "seeded", limits, seed_history=str(tmp_path / "int8"), **SETTINGS)


def test_int8_scores_need_a_latency_of_int8_networks(supernet, tmp_path):
    write_json(tmp_path / "latency.json", make_table(space_of(supernet)).to_json())
    with pytest.raises(InputError, match="--latency-table is of float32 networks; measure one with --dtype int8"):
        search_supernet(
            supernet, tmp_path / "run", latency_table=tmp_path / "latency.json", score_dtype="int8", **SETTINGS
        )


@pytest.mark.skipif(not are_ready(), reason="the native library is not built")
def test_candidates_get_classifiers_of_their_own(supernet, limits, tmp_path):
    """By training images; in several processes alike, and with an identity of their own."""
    settings = {**SETTINGS, "search_mode": "random", "search_iters": 1}
    plain = search_supernet(supernet, tmp_path / "plain", limits, **settings)
    refit = search_supernet(supernet, tmp_path / "refit", limits, refit_classifier=32, **settings)
    shared = search_supernet(supernet, tmp_path / "shared", limits, num_processes=2, refit_classifier=32, **settings)
    assert [architecture_of(row) for row in plain.rows] == [architecture_of(row) for row in refit.rows]
    assert refit.rows == shared.rows and plain.rows[0]["images"] != refit.rows[0]["images"]
    with pytest.raises(InputError, match="so its scores cannot be used"):
        search_supernet(supernet, tmp_path / "seeded", limits, seed_history=str(tmp_path / "refit"), **SETTINGS)


def test_a_classifier_of_its_own_needs_native_kernels(supernet, tmp_path, monkeypatch):
    monkeypatch.setenv("SPOS_NATIVE", "0")
    with pytest.raises(InputError, match="--refit-classifier needs the native kernels"):
        search_supernet(supernet, tmp_path / "run", refit_classifier=32, **SETTINGS)


@pytest.fixture(scope="module")
def supernets(supernet, tmp_path_factory):
    """Two of one space: the averaged weights of another seed beside that of the other tests."""
    data = fill(DataOptions, **{name: value for name, value in options_of(supernet).items() if name in DATA_FLAGS})
    recipe = {"num_epochs": 1, "lr": 0.1, "val_architectures": 1, "ema_decay": 0.9}
    folder = tmp_path_factory.mktemp("second") / "run"
    train_supernet(data, folder, search_space("Small", use_se=True), seed=1, **recipe)
    return [supernet, folder / "model-ema.params"]


def options_of(supernet):
    return read_json(supernet.parent / "config.json")["options"]


def test_several_supernets_score_by_the_mean_of_their_accuracies(supernets, tmp_path):
    settings = {**SETTINGS, "search_mode": "random"}  # whose candidates do not depend on scores
    together, first, second = (
        search_supernet(own, tmp_path / str(number), **settings)
        for number, own in enumerate((supernets, supernets[0], supernets[1:]))
    )
    for joint, *each in zip(together.rows, first.rows, second.rows):
        assert {architecture_of(row) for row in (joint, *each)} == {architecture_of(joint)}
        assert joint["top1_hits"] == sum(row["top1_hits"] for row in each)
        assert joint["top1"] == joint["fitness"] == pytest.approx(np.mean([row["top1"] for row in each]), abs=1e-12)
        assert (joint["num_supernets"], joint["num_images"]) == (2, each[0]["num_images"])
        assert not any("num_supernets" in row for row in each)
    assert len({rows[0]["supernet"] for rows in (together.rows, first.rows, second.rows)}) == 3
    assert read_json(tmp_path / "0" / "best.json")["searched_accuracy"]["num_supernets"] == 2
    config = read_json(tmp_path / "0" / "config.json")
    assert config["options"]["supernet_params"] == ",".join(map(str, supernets))
    assert config["supernet_sha256"] == ",".join(sorted(file_digest(file) for file in supernets))


@pytest.mark.parametrize(
    "more",
    (pytest.param({}, marks=pytest.mark.slow), {"racing": True, "search_mode": "random"}),
    ids=("genetic", "racing"),
)
def test_a_search_by_several_goes_on_byte_for_byte_also_in_several_processes(supernets, tmp_path, more):
    settings = {**SETTINGS, **more, "search_iters": 3}
    whole = search_supernet(supernets, tmp_path / "whole", **settings)
    search_supernet(supernets, tmp_path / "resumed", num_processes=2, **{**settings, "search_iters": 1})
    lines = (tmp_path / "resumed" / "history.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "resumed" / "history.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])  # as a kill leaves it
    resumed = search_supernet(supernets[::-1], tmp_path / "resumed", num_processes=2, **settings)  # in another order
    assert resumed.rows == whole.rows
    for name in FILES:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_scores_of_several_begin_another_search_by_the_same(supernets, supernet, tmp_path):
    old = search_supernet(supernets, tmp_path / "old", **SETTINGS)
    again = search_supernet(supernets, tmp_path / "new", seed_history=str(tmp_path / "old"), **SETTINGS)
    assert {row["num_supernets"] for row in again.rows if row.get("from_history")} == {2}
    known = {architecture_of(row): row["top1"] for row in old.rows}
    assert all(row["top1"] == known.get(architecture_of(row), row["top1"]) for row in again.rows)
    with pytest.raises(InputError, match="was scored with another supernet"):
        search_supernet(supernet, tmp_path / "one", seed_history=str(tmp_path / "old"), **SETTINGS)


def test_another_set_of_supernets_is_another_run(supernets, supernet, tmp_path):
    search_supernet(supernets, tmp_path, **SETTINGS)
    with pytest.raises(InputError, match="the content of --supernet-params has changed"):
        search_supernet(supernet, tmp_path, **SETTINGS)


def test_latency_is_limited_by_a_table(supernet, tmp_path):
    space = space_of(supernet)
    table = make_table(space)
    write_json(tmp_path / "latency.json", table.to_json())
    times = sorted(table.latency_ms(space.sample(np.random.default_rng(i))) for i in range(20))
    limits = Limits(latency_ms=round(times[10], 3))
    found = search_supernet(supernet, tmp_path / "run", limits, latency_table=tmp_path / "latency.json", **SETTINGS)
    assert all(row["latency_ms"] <= limits.latency_ms for row in found.rows)


def test_limits_are_flags():
    options = limits_as_flags(Limits(flops=300e6, latency_ms=5), "table.json")
    assert (options.flop_max_m, options.param_max_m, options.score_max) == (300.0, -1.0, -1.0)
    assert (options.latency_max, options.latency_table) == (5.0, "table.json")
    assert limits_as_flags(Limits()).flop_max_m == -1.0


@pytest.mark.parametrize(
    "settings, message",
    (
        ({"search_mode": "annealing"}, "search_mode is 'annealing'; it must be one of genetic"),
        ({"iterations": 3}, "there is no iterations; known: .*search_iters"),
        ({"limits": Limits(flops=1e3)}, "no architecture of this space has FLOPs <= 0.001 M"),
        ({"retain_length": 4}, "--retain-length must be at least 2 and below --population-size 4"),
    ),
)
def test_what_is_refused(settings, message, supernet, tmp_path):
    with pytest.raises(InputError, match=message):
        search_supernet(supernet, tmp_path / "run", **{**SETTINGS, **settings})
    assert not (tmp_path / "run").exists()


def test_a_supernet_outside_of_a_run_needs_data(supernet, tmp_path):
    (tmp_path / "model.params").write_bytes(supernet.read_bytes())
    with pytest.raises(InputError, match="does not lie in a run directory, which would say its images; give data"):
        search_supernet(tmp_path / "model.params", tmp_path / "run", **SETTINGS)
