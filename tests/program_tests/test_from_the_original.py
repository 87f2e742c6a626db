"""docs/from-the-original.md against the record of the original project, and the parsers and modules here."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess

import pytest
from command_stage import options_of
from conftest import ROOT

from spos.training.flags import images_of_a_step
from spos.training.recipes import recipe_values

RECORD = json.loads((ROOT / "tests" / "original" / "record.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "from-the-original.md").read_text(encoding="utf-8")
NOT_RECORDED = "not recorded"
PROGRAMS = ("train_imagenet.py", "search_supernet.py")
# The rows of commands that train or search: the original's scripts, ours, and what gives ours the same recipe.
PAIRS = re.findall(
    r"^\| (scripts/.*) \| `(.*?)`.* \| (.*) \|$", PAGE.split("\n## ")[1].split("\nThe rest:")[0], re.MULTILINE
)
OF_A_RECIPE = {
    "train_imagenet": "lr wd lr_mode momentum label_smoothing no_wd num_epochs warmup_epochs batch_size num_gpus dtype "
    "epoch_start_cs cs_warm_up use_all_blocks use_all_channels train_upper_constraints",
    "search_supernet": "search_mode comparison_model topk search_iters population_size retain_length random_select "
    "mutate_chance batch_size num_gpus dtype",
}


def shown(value):
    return "none" if value is None else "empty" if value == "" else str(value)


def defaults(program):
    """(theirs, ours) of every flag, as the page shows them; theirs may be not recorded."""
    parser, flags = options_of(program[: -len(".py")]), RECORD["programs"][program]["flags"]
    return {
        name: (
            shown(flag["default"]) if "default" in flag else NOT_RECORDED,
            shown(parser._option_string_actions[name].default),
            "default" in flag and flag["default"] == parser._option_string_actions[name].default,
        )
        for name, flag in flags.items()
    }


def section(program):
    """The table of flags that follows the program's name."""
    return re.search(rf"^`{re.escape(program)}`[;:].*?\n\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_default_that_differs_is_on_the_page(program):
    found = re.findall(r"^\| `(--[\w-]+)` \| (.*?) \| (.*?) \| (.+?) \|$", section(program), re.MULTILINE)
    expected = {name: (theirs, ours) for name, (theirs, ours, same) in defaults(program).items() if not same}
    assert {name: (theirs, ours) for name, theirs, ours, _ in found} == expected
    assert all(why.strip() for *_, why in found)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_flag_and_choice_of_the_original_is_accepted(program):
    parser = options_of(program[: -len(".py")])
    for name, flag in RECORD["programs"][program]["flags"].items():
        action = parser._option_string_actions[name]
        assert not flag.get("choices") or not action.choices or set(flag["choices"]) <= set(action.choices), name
        assert "short" not in flag or flag["short"] in action.option_strings
        assert (flag["type"] == "store_true") == (action.nargs == 0), name


def test_every_name_of_the_original_is_here_or_said_not_to_be():
    rows = dict(
        (name, ours)
        for names, ours in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*) \|$", PAGE, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    )
    for place, recorded in RECORD["names"].items():
        for name in recorded["names"]:
            module, _, owner = place.partition(".") if place.startswith("oneshot") else (place, "", "")
            target = importlib.import_module(module)
            offered = hasattr(getattr(target, owner) if owner else target, name)
            assert name in rows, name
            text = rows[name]
            if name == "random_block_choices" or name == "random_channel_mask":  # methods of one, functions of another
                assert "not offered" in text and offered == bool(owner)
            else:
                assert offered == (not text.startswith("not offered")), (place, name)


def test_names_that_replace_others_are_here():
    for module, name in re.findall(r"`((?:oneshot_nas_\w+|utils\.\w+))\.(\w+)`", PAGE):
        assert hasattr(importlib.import_module(module), name), name
    for name, path in re.findall(r"`(\w+)` in `(spos/[\w/]+\.py)`", PAGE):
        module = importlib.import_module(path[: -len(".py")].replace("/", "."))
        assert hasattr(module, name), (path, name)


def test_every_command_of_the_original_is_on_the_page():
    for source in RECORD["commands"]:
        assert source.split(",")[0].replace("scripts/README.md", "oneshot_nas_network.py") in PAGE, source


def recipe_of(words):
    """What a command line says of its recipe."""
    program = os.path.basename(words[0])[: -len(".py")]
    parser = options_of(program)
    args = parser.parse_args(words[1:])
    if program == "train_imagenet":
        parser.set_defaults(**recipe_values(args.recipe, images_of_a_step(args, args)))
        args = parser.parse_args(words[1:])
    return {name: getattr(args, name) for name in OF_A_RECIPE[program].split()}


def test_a_script_with_the_flags_beside_it_has_the_recipe_of_the_original():
    added = ""
    assert len(PAIRS) == 12
    for theirs, ours, flags in PAIRS:
        added = {"-": "", "the same": added}.get(flags, flags.strip("`"))
        environ = {**os.environ, "SPOS_PYTHON": "echo"}  # says what would run
        words = subprocess.run(
            f"{ours} {added}", shell=True, cwd=ROOT, env=environ, capture_output=True, text=True
        ).stdout
        recipe = recipe_of(shlex.split(words.replace("--architecture  ", "")))
        for source in re.findall(r"scripts/[\w+.-]+\.sh", theirs):
            assert recipe == recipe_of(shlex.split(RECORD["commands"][source])), source


def test_the_example_runs():
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    from spos.engine.compat import mx  # noqa: F401  env/ does it by itself

    names = {}
    exec(example, names)
    assert names["logits"].shape == (1, 10) and names["channels"] == [9] * 20


def test_published_figures_follow_from_the_totals():
    assert "| 154M, 1.01M, 0.28 | 153.67M, 1.012M, 0.278;" in PAGE
    operations, params = 579.038 / 4 + 8.905, 3.520 / 4 + 0.132
    assert (round(operations), round(params, 2)) == (154, 1.01)
    assert round(operations / 1170 + params / 6.9, 2) == 0.28
