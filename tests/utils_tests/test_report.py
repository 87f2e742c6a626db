"""The page about a pipeline: what it says of whole, half-finished and damaged runs."""

import base64
import hashlib
import json
import re
import zlib

import numpy as np
import pytest
from drawn_spaces import SPACES
from pipeline_runs import SPACE, make_search_run, make_training, rows_of, write_run

from spos.core.flags import run_program
from spos.deploy.classification import Predictions
from spos.runs.journal import as_lines
from spos.runs.run import open_run_directory
from spos.search.flags import SEARCHES, ConstraintOptions
from spos.search.report import SearchLogRow, errors_row
from spos.search.surrogate import Errors
from spos.space.architecture import Architecture
from spos.space.blocks import WIRINGS
from spos.space.layers import SqueezeExcite
from utils.report import __main__ as report
from utils.report.architecture import KINDS, block_table, costs_by_block, draw, kind_table, layers_of
from utils.report.lineage import WITHOUT_PARENTS, changes
from utils.report.page import NUM_COLOURS, STYLE, json_in_html, kind_class
from utils.report.plots import inspected

MISSING = {
    "supernet": "No run of a supernet was given",
    "search": "No run of a search was given",
    "subnet": "No run of a subnet was given",
}


@pytest.fixture
def make_page(tmp_path):
    """Runs the program on folders; the page without Plotly's own script."""

    def make(*folders, code=0):
        output = tmp_path / "page.html"
        assert run_program(report.main, [*map(str, folders), "--output", str(output)]) == code
        text = output.read_text("utf-8")
        return re.sub(r"<script>(?!\").*?</script>", "", text, flags=re.S)

    return make


def best_of(folder):
    row = max(rows_of(folder), key=lambda row: (row["fitness"], -row["evaluation"]))
    return row, Architecture(tuple(row["block_choices"]), tuple(row["channel_choices"]))


def plots_of(page):
    found = re.findall(r'<script type="application/json" id="plot-\d+-data">(.*?)</script>', page, flags=re.S)
    return [json.loads(text) for text in found]


def search_plot_of(page):
    return next(plot for plot in plots_of(page) if plot["axes"])


@pytest.fixture
def pipeline(tmp_path):
    supernet, search = make_training(tmp_path / "supernet"), make_search_run(tmp_path / "search")
    _, architecture = best_of(search)
    return supernet, search, make_training(tmp_path / "subnet", "ShuffleNas_fixArch", architecture=architecture)


def test_a_whole_pipeline_has_every_part_in_any_order(pipeline, make_page):
    page = make_page(*pipeline)
    row, _ = best_of(pipeline[1])
    low, high = row["top1_interval"]
    assert not any(sentence in page for sentence in MISSING.values())
    assert (
        f"Best top-1 with the supernet&#x27;s weights: {row['top1']:.2%} (95% interval {low:.2%} to {high:.2%})" in page
    )
    assert "25.00%, the mean of sampled architectures (20.0%, 30.0%), each after a BatchNorm update" in page
    assert "so what follows is what happened" in page
    assert "the supernet&#x27;s weights on 1000 images, and 25.00% on 360 test images" in page
    assert "20.81 to 29.72" in page  # Wilson's interval of 90 hits among 360
    assert "<td>published</td>" in page.replace(' class=""', "") and "MobileNetV3-Large" in page
    assert "bn_update_effect --supernet" in page
    assert make_page(*reversed(pipeline)) == page


def test_the_page_asks_nobody_for_anything(pipeline, tmp_path):
    output = tmp_path / "page.html"
    run_program(report.main, [*map(str, pipeline), "--output", str(output)])
    text = output.read_text("utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"(?!data:)", text)


def test_warm_ups_are_marked(pipeline, make_page):
    shapes = [{shape["name"] for shape in plot["layout"].get("shapes", ())} for plot in plots_of(make_page(*pipeline))]
    assert shapes[:2] == [{"learning rate warm-up", "full width", "channel warm-up"}] * 2
    assert shapes[2] == {"learning rate warm-up"}


def test_the_search_can_be_seen_against_every_cost_it_tells(tmp_path, make_page):
    plot = search_plot_of(make_page(make_search_run(tmp_path / "plain")))
    assert list(plot["axes"]) == ["flops", "params", "evaluation"]
    page = make_page(make_search_run(tmp_path / "timed", latency=True))
    assert list(search_plot_of(page)["axes"]) == ["flops", "params", "latency", "evaluation"]
    assert '<option value="latency">latency (ms)</option>' in page


def test_points_tell_their_architecture(pipeline, make_page):
    plot = search_plot_of(make_page(*pipeline))
    dropped, ties, points, front, best = plot["data"]
    rows = rows_of(pipeline[1])
    assert len(points["y"]) == len(rows) and not dropped["y"]
    row, (facts, blocks, *_) = rows[7], points["customdata"][7]
    assert blocks == row["block_choices"]
    assert f"evaluation 7 · iteration {row['iteration']}" in facts
    assert (
        " | ".join(" ".join(map(str, row["channel_choices"][i:j])) for i, j in ((0, 4), (4, 8), (8, 16), (16, 20)))
        in facts
    )
    assert plot["axes"]["flops"]["traces"][2]["x"][7] == row["flops"] / 1e6
    assert points["marker"]["color"] == [row["iteration"] for row in rows]
    assert plot["chosen"] == best["customdata"][0]
    assert len(ties["y"]) == sum(best_of(pipeline[1])[0]["top1"] - other["top1"] <= 0.04 for other in rows) - 1


def test_what_racing_dropped_is_apart_and_no_candidate_for_the_best(tmp_path, make_page):
    folder = make_search_run(tmp_path / "racing", drop=5)
    plot = search_plot_of(make_page(folder))
    assert len(plot["data"][0]["y"]) == 5
    assert len(plot["data"][2]["y"]) == len(rows_of(folder)) - 5


def test_finals_are_told_round_by_round_and_the_finalist_is_drawn(tmp_path, make_page):
    folder = make_search_run(tmp_path / "search")
    rows = rows_of(folder)
    first, second, third, *_ = sorted(rows, key=lambda row: (-row["fitness"], row["evaluation"]))
    standings = [
        {"evaluation": row["evaluation"], "epochs": 1, "top1": 0.6, "top1_interval": [0.5, 0.7], "combined": 0.01}
        for row in (third, first, second)
    ]
    held = {"first_by_search": first["evaluation"], "rounds": [standings, standings[:2], standings[:1]]}
    (folder / "best.json").write_text(json.dumps({"finals": held}))
    page = make_page(folder)
    assert f"Evaluation {third['evaluation']} of 3 finalists, after 3 epochs of its own 60.00%" in page
    assert page.count(">goes on<") == 2 + 1 + 1
    blocks = ", ".join(map(str, third["block_choices"]))
    assert f"Blocks {blocks}; channels {', '.join(map(str, third['channel_choices']))}." in page


def test_what_a_model_has_chosen_is_told_and_drawn(tmp_path, make_page):
    folder = make_search_run(tmp_path / "search")
    first, second, *_ = sorted(rows_of(folder), key=lambda row: (-row["fitness"], row["evaluation"]))
    choice = {"chosen": second["evaluation"], "expected": 0.6125, "first_by_score": first["evaluation"]}
    (folder / "best.json").write_text(json.dumps({"choice": choice}))
    page = make_page(folder)
    assert (
        f"Chosen: evaluation {second['evaluation']}, of which the additive model of all scores expects 61.25%; "
        f"evaluation {first['evaluation']} has the highest score." in page
    )
    assert "search, chosen by the model" in page
    blocks = ", ".join(map(str, second["block_choices"]))
    assert f"Blocks {blocks}; channels {', '.join(map(str, second['channel_choices']))}." in page


def test_what_is_right_and_wrong_by_class_is_shown(tmp_path, make_page):
    architecture = SPACE.sample(np.random.default_rng(0))
    folder = make_training(tmp_path / "subnet", "ShuffleNas_fixArch", architecture=architecture)
    assert f"python -m utils.evaluate --params {folder / 'model.params'}" in make_page(folder)
    labels, predicted = np.random.default_rng(1).integers(0, 10, (2, 300))
    logits = np.eye(10, dtype=np.float32)[np.where(np.arange(300) % 3, labels, predicted)] * 3
    predictions = Predictions(logits, labels, np.arange(300))
    top1 = float((predictions.predicted == labels).mean())
    own = {"split": "val", "top1": top1, "top1_interval": [top1 - 0.05, top1 + 0.05], "num_images": 300}
    names = [f"<class {i}>" for i in range(10)]
    (folder / "evaluation").mkdir()
    file = folder / "evaluation" / "evaluation.json"
    file.write_text(json.dumps({**own, **predictions.to_json(names)}))
    (folder / "evaluation" / "worst.png").write_bytes(b"png")
    page = make_page(folder)
    assert f"Top-1 {top1:.2%} on the 300 images of the list" in page and "<class 3>" not in page
    assert f"Expected calibration error {predictions.calibration_error:.2%}" in page
    (heatmap,) = (plot["data"][0] for plot in plots_of(page) if plot["data"][0]["type"] == "heatmap")
    assert heatmap["text"] == predictions.confusion.tolist() and heatmap["y"][3] == "&lt;class 3&gt;"
    reserved = [trace for plot in plots_of(page) for trace in plot["data"] if "customdata" in trace]
    assert reserved == []  # the page's script reads it as the facts of an architecture
    assert f"data:image/png;base64,{base64.b64encode(b'png').decode()}" in page
    file.write_text("{}")
    assert "evaluation.json" in make_page(folder)


def test_every_search_without_parents_has_a_reason():
    assert set(WITHOUT_PARENTS) == {name for name, mode in SEARCHES.items() if not mode.breeds}


@pytest.mark.parametrize(
    "changes, word",
    (
        ({"search_mode": "random"}, "A random search draws every architecture anew"),
        ({"search_mode": "surrogate"}, "none of its proposals has parents"),
        ({"search_mode": "nsga2"}, "The front of accuracy against flops: "),
        ({"search_mode": "surrogate-front"}, "The front of accuracy against flops: "),
        ({"search_mode": "surrogate", "budgets": "flops:7,8"}, ">7M</td>"),
        ({"search_mode": "random", "budgets": "params:2,5"}, "The knee of the front, where more params begin"),
        ({"search_mode": "two-stage"}, "Two-stage search with the published operators"),
        ({"evolution": "spos"}, "so what follows is what happened"),
    ),
)
def test_every_strategy_can_be_told(changes, word, tmp_path, make_page):
    assert word in make_page(make_search_run(tmp_path / "search", **changes))


def test_what_the_model_erred_by_is_told(tmp_path, make_page):
    folder = make_search_run(tmp_path / "search", search_mode="surrogate")
    row = dict(zip(SearchLogRow.__struct_fields__, (1, 1.5, 10, 14400.0, 0, 0.5)))
    told = ((Errors(1, 0.03, 0.02), False), (Errors(2, 0.021, 0.034), True))
    rows = [{**row, **errors_row(errors, trusted)} for errors, trusted in told]
    (folder / "log.jsonl").write_bytes(as_lines(rows))
    assert (
        "The model of the scores errs by 2.10% on 2 uniform architectures before they were scored, the mean of the "
        "scores by 3.40%; 1 generations were bred instead."
    ) in make_page(folder)


def test_parents_that_cannot_be_found_again_are_not_made_up(tmp_path, make_page):
    folder = make_search_run(tmp_path / "search")
    config = json.loads((folder / "config.json").read_text())
    config["options"]["seed"] += 1
    (folder / "config.json").write_text(json.dumps(config))
    page = make_page(folder)
    assert "Parents cannot be told: the search in" in page and "What follows is not parentage" in page
    assert "what follows is what happened" not in page


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_run_is_said(kind, pipeline, make_page):
    others = [folder for folder, name in zip(pipeline, MISSING) if name != kind]
    assert MISSING[kind] in make_page(*others)


def test_runs_without_a_finished_epoch_or_candidate_are_said(tmp_path, make_page):
    supernet = make_training(tmp_path / "supernet", done=0)
    search = make_search_run(tmp_path / "search", ended=False)
    (search / "history.jsonl").unlink()
    page = make_page(supernet, search)
    assert "No epoch of supernet has ended yet" in page
    assert "search has scored no candidate so far" in page
    assert "There is no architecture to draw" in page


def test_a_run_that_goes_on_is_shown_as_far_as_it_is(tmp_path, make_page):
    search = make_search_run(tmp_path / "search", ended=False)
    content = (search / "history.jsonl").read_bytes()
    (search / "history.jsonl").write_bytes(content[:-40])
    page = make_page(make_training(tmp_path / "supernet", num_epochs=9, done=3), search)
    assert "3 of 9 epochs done. The run has not been validated yet" in page
    assert "This search has not ended: it has no best.json yet" in page
    assert "The last line of history.jsonl was cut short when the program was killed; left out." in page
    assert "so what follows is what happened" in page


@pytest.mark.parametrize(
    "line, word", (("{broken}", "history.jsonl line 1 is damaged"), ('{"top1": 1}', "line 1 lacks evaluation"))
)
def test_a_damaged_history_is_a_sentence(line, word, tmp_path, make_page):
    folder = make_search_run(tmp_path / "search")
    (folder / "history.jsonl").write_text(line + "\n")
    assert word in make_page(folder)


def test_a_history_of_dropped_candidates_alone_is_a_sentence(tmp_path, make_page):
    folder = make_search_run(tmp_path / "search", drop=1000)
    assert "No candidate has been scored on all images so far." in make_page(folder)


def test_names_and_flags_are_escaped(tmp_path, make_page):
    name = '<b>"&amp;'
    folder = make_training(tmp_path / name, logging_file="</script><i>&")
    page = make_page(folder, make_search_run(tmp_path / "x</script>y"))
    assert "<b>&quot;" not in page and name not in page
    assert "<i>&" not in page and "&lt;/script&gt;&lt;i&gt;&amp;" in page
    assert "x</script>y" not in page
    assert "</script>" not in json_in_html({"name": "</script>"})


HOSTILE = "<img src=x onerror=document.title='run'>"


@pytest.mark.parametrize(
    "key, value, what",
    (
        ("num_images", HOSTILE, "a whole number"),
        ("iteration", HOSTILE, "a whole number"),
        ("top1", None, "a number"),
        ("top1", True, "a number"),
        ("top1", float("nan"), "a number"),
        ("flops", 1.5, "a whole number"),
        ("evaluation", -1, "a whole number"),
        ("top1_interval", [0.1, HOSTILE], "two numbers"),
        ("top1_interval", [0.1], "two numbers"),
        ("latency_ms", [1], "a number"),
        ("block_choices", "0 1 2", "a list of whole numbers"),
    ),
)
def test_a_history_with_other_types_is_named_and_not_shown(key, value, what, tmp_path, make_page):
    folder = make_search_run(tmp_path / "search")
    rows = rows_of(folder)
    rows[3][key] = value
    (folder / "history.jsonl").write_bytes(b"".join(check_anew(row) for row in rows))
    page = make_page(folder)
    assert "history.jsonl line 4 is damaged" in page
    assert f"$.{key}" in page or f"{value} is no finite number" in page.replace("NaN", "nan"), what
    assert "<img" not in page


def test_choices_outside_the_space_are_named(tmp_path, make_page):
    folder = make_search_run(tmp_path / "search")
    rows = rows_of(folder)
    rows[2]["block_choices"][5] = 99
    (folder / "history.jsonl").write_bytes(b"".join(check_anew(row) for row in rows))
    page = make_page(folder)
    assert "block choice 99 of choice block 5" in page and "history.jsonl line 3" in page


def check_anew(row):
    """A line whose check value fits its content, whatever that is."""
    text = json.dumps({key: value for key, value in row.items() if key != "check"}).encode()[:-1]
    return text + b', "check": "%08x"}\n' % zlib.crc32(text)


def test_hover_texts_are_plain_text(pipeline, make_page):
    """The page makes lines of them and escapes what would be a mark."""
    points = search_plot_of(make_page(*pipeline))["data"][2]
    assert all("<" not in facts and "\n" in facts for facts, *_ in points["customdata"])
    assert points["hovertemplate"] == "%{text}<extra></extra>"


def test_only_the_scripts_of_the_page_may_run(pipeline, tmp_path):
    """By their digests, over what a browser takes for each script: no inline handler, and no other script."""
    output = tmp_path / "page.html"
    assert run_program(report.main, [*map(str, pipeline), "--output", str(output)]) == 0
    text = output.read_text("utf-8")
    content = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in content.split(";"))
    assert rules["default-src"] == "'none'" and "unsafe" not in rules["script-src"]
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    assert len(scripts) == 3
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert not re.search(r"\son[a-z]+=", re.sub(r"<script.*?</script>", "", text, flags=re.S))
    own = scripts[-1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", own)


def test_the_bn_update_is_plotted_where_it_was_measured(tmp_path, make_page):
    folder = make_training(tmp_path / "supernet")
    choices = {"block_choices": [0] * 20, "channel_choices": [1] * 20}
    others = {"block_choices": [1] * 20, "channel_choices": [1] * 20}
    measured = [
        (choices, 0, 0.1),
        (choices, 64, 0.3),
        (others, 0, 0.2),
        (others, 64, 0.5),
        ({**others, "x": 1}, 64, 0.5),
    ]
    partly = [({"block_choices": [2] * 20, "channel_choices": [1] * 20}, 0, 0.9)]
    rows = [{**own, "num_bn_images": n, "top1": top1, "top1_interval": [0, 1]} for own, n, top1 in measured + partly]
    (folder / "bn_update.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = make_page(folder)
    assert "Mean top-1 of 2 architectures by images of the update: 15.00% (0), 40.00% (64)." in page
    assert "1 more are measured in part and left out" in page
    assert "is not known" not in page
    assert [plot["data"][-1]["y"] for plot in plots_of(page)][-1] == pytest.approx([0.15, 0.4])


def test_two_runs_of_one_kind_and_name_are_told_apart(tmp_path, make_page):
    folders = [make_search_run(tmp_path / name / "search") for name in ("one", "two")]
    page = make_page(*folders)
    assert all(f"<h3>{folder}</h3>" in page for folder in folders)


def test_a_network_of_the_zoo_has_curves_and_a_result(tmp_path, make_page):
    config = {"program": "train_imagenet.py", "options": {"model": "resnet18_v1", "num_epochs": 1}, "space": None}
    rows = [{"epoch": 0, "loss": 1.0, "top1": 0.5, "val_top1": 0.4, "val_images": 10}]
    page = make_page(write_run(tmp_path / "zoo", config, log=rows))
    assert "zoo (network resnet18_v1)" in page and "Top-1 on 10 test images: 40.00%." in page


def test_averaged_weights_have_a_curve_of_their_own(tmp_path, make_page):
    config = {"program": "train_imagenet.py", "options": {"model": "resnet18_v1", "num_epochs": 2}, "space": None}
    row = {"loss": 1.0, "top1": 0.5, "val_images": 10}
    rows = [{**row, "epoch": i, "val_top1": 0.4, "ema_top1": 0.5 + i / 10} for i in range(2)]
    page = make_page(write_run(tmp_path / "zoo", config, log=rows))
    assert "Top-1 on 10 test images: 40.00% (60.00% with averaged weights)." in page
    (curve,) = (line for plot in plots_of(page) for line in plot["data"] if line["name"].startswith("averaged weights"))
    assert curve["y"] == [0.5, 0.6]


@pytest.mark.parametrize(
    "content, word",
    (
        (None, "has no config.json"),
        ("{", "is not a JSON file"),
        ("[]", "is not of a run"),
        ('{"program": "other.py", "options": {}}', "is not of a run"),
    ),
)
def test_a_folder_that_is_no_run_is_one_line(content, word, tmp_path, capsys):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert run_program(report.main, [str(tmp_path), "--output", str(tmp_path / "page.html")]) == 2
    printed = capsys.readouterr().err
    assert word in printed and printed.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_an_output_that_cannot_be_written_is_one_line(pipeline, tmp_path, capsys):
    assert run_program(report.main, [*map(str, pipeline), "--output", str(tmp_path)]) == 2
    assert "give the name of a file" in capsys.readouterr().err


def test_kinds_of_runs_are_recognised(pipeline):
    assert [open_run_directory(folder).kind for folder in pipeline] == ["supernet", "search", "subnet"]


def test_costs_of_operators_add_up_to_the_architecture(pipeline):
    row, architecture = best_of(pipeline[1])
    costs = costs_by_block(SPACE, architecture)
    assert list(costs) == ["stem", *map(str, range(20)), "head"]
    total = kind_table(costs).totals[0]
    assert (total[1], total[3]) == (row["flops"], row["params"])
    assert {kind for block in costs.values() for kind in block} == set(KINDS)


def test_every_choice_block_is_drawn(pipeline):
    _, architecture = best_of(pipeline[1])
    drawn = draw(SPACE, architecture)
    assert drawn.count("<svg") == 20 and drawn.count(">Stage ") == 4
    titles = re.findall(r"<title>choice block (\d+): (\S+), middle width (\d+)", drawn)
    assert titles == [
        (str(i), SPACE.blocks[b].name, str(SPACE.mid_channels(i, c)))
        for i, (b, c) in enumerate(zip(architecture.block_choices, architecture.channel_choices))
    ]


@pytest.mark.parametrize("name", SPACES)
def test_choice_blocks_of_any_space_are_drawn_with_their_wiring(name, rng):
    space = SPACES[name]
    architecture = space.sample(rng)
    layers = [layers_of(space, architecture, index) for index in range(space.num_choice_blocks)]
    drawn = draw(space, architecture)
    blocks = re.findall(r'<svg class="block".*?</svg>', drawn)
    assert len(blocks) == space.num_choice_blocks and drawn.count(">Stage ") == len(space.stages)
    kinds = {kind.name: number for number, kind in enumerate(space.blocks)}
    for index, (block, own, b) in enumerate(zip(blocks, layers, architecture.block_choices)):
        wiring, kind = WIRINGS[own.wiring], space.choices[index].blocks[b].name
        assert f"<title>choice block {index}: {kind}, " in block
        assert ('class="sum"' in block) == wiring.adds and ("H4" in block) == (wiring.adds or wiring.splits)
        assert block.count('class="side"') == len(own.projection)
        gates = sum(isinstance(spec, SqueezeExcite) for spec in own.main)
        assert (block.count('class="gate"'), block.count(f'"kind-{kinds[kind]}"')) == (gates, len(own.main) - gates)
        assert (f"middle width {own.middle} (" in block) == (own.middle > 0)


def test_what_a_block_without_a_width_is_is_said():
    space = SPACES["tiny"]
    drawn = draw(space, Architecture((3,) * 9, (2,) * 9))
    assert "choice block 0: I, no width to choose" in drawn and "choice block 1: I, its input is passed on" in drawn
    rows = block_table(space, Architecture((3,) + (0,) * 8, (2,) + (1,) * 8)).rows
    assert [row[3:5] for row in rows[:2]] == [(None, None), (36, 0.75)]


def test_choices_are_those_of_their_choice_block():
    space = SPACES["residual"]
    assert [kind.name for kind in space.choices[6].blocks] == ["B3"]
    architecture = Architecture((0, 2, 1, 2, 1, 2, 0), (3, 3, 0, 1, 2, 3, 0))
    assert [row[4] for row in block_table(space, architecture).rows] == [1.0, None, 0.5, None, 1.5, None, 1.0]
    row = {"block_choices": [0, 2, 1, 2, 1, 2, 0], "channel_choices": [3, 3, 0, 1, 2, 3, 0]}
    after = {"block_choices": [0, 0, 1, 2, 0, 2, 0], "channel_choices": [2, 1, 1, 1, 1, 3, 0]}
    assert changes(space, row, after) == [
        "block 0: ×1 → ×0.75",
        "block 1: I → B3, no width → ×0.5",
        "block 2: ×0.5 → ×1",
        "block 4: B5 → B3, ×1.5 → ×1",
    ]


def test_strips_show_kinds_of_the_space_and_widths_of_the_choice_block():
    space = SPACES["mobilenet"]
    row = {"top1": 0.5, "top1_interval": [0.4, 0.6], "flops": 1, "params": 1, "evaluation": 0, "iteration": 0}
    last = [len(choices.blocks) - 1 for choices in space.choices]
    row.update(block_choices=[0, 0, *last[2:]], channel_choices=[2, 0, *[2] * 20])
    _, kinds, heights, firsts = inspected(space, row)
    assert kinds[:3] == [0, 1, 7] and kinds[-1] == 6  # the first block is MB1-3 alone, the second has no MB1-3
    assert heights[:2] == [1.0, 0.333] and kinds[2:5] == [7, 7, 7]
    assert [height < 0.1 for height in heights] == [kind == 7 and i not in firsts for i, kind in enumerate(kinds)]
    assert len(firsts) == 7


@pytest.mark.parametrize("name", ("tiny", "residual", "nas-bench-macro"))
def test_a_pipeline_of_any_space_is_reported(name, tmp_path, make_page):
    space, limits = SPACES[name], ConstraintOptions(flop_max=-1, param_max=-1, score_max=-1)
    supernet = make_training(tmp_path / "supernet", space=space)
    search = make_search_run(tmp_path / "search", space=space, limits=limits)
    _, architecture = best_of(search)
    subnet = make_training(tmp_path / "subnet", "ShuffleNas_fixArch", architecture=architecture, space=space)
    page = make_page(supernet, search, subnet)
    assert "so what follows is what happened" in page
    assert "the line on the left is the input or its projection, which is added (+)." in page
    assert "Flat ones compute nothing." in page
    assert [plot["chosen"] for plot in plots_of(page) if plot["axes"]]


def test_every_colour_of_a_kind_is_in_the_style():
    style = STYLE.read_text()
    for number in range(NUM_COLOURS):
        assert style.count(f"--kind-{number}: ") == 2 and f".kind-{number} {{" in style  # light and dark
    assert kind_class(NUM_COLOURS + 1) == "kind-1"
