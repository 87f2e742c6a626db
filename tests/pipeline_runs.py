"""Run directories made up for tests of readers: a supernet, a search that can be replayed, and a subnet."""

import json
from dataclasses import asdict, replace

from search_tests.test_evolution import make_fitness, run

from spos.runs.journal import as_lines
from spos.search.flags import ConstraintOptions, SearchOptions, make_domain, make_search
from spos.space.architecture_file import ArchitectureRecord
from spos.space.space_file import search_space

SPACE = search_space(use_se=True, last_conv_after_pooling=True, input_size=32, num_classes=10)
OPTIONS = SearchOptions(search_iters=4, population_size=10, retain_length=4)
LIMITS = ConstraintOptions()
SEED = 5


def write_run(folder, config, **journals):
    """A run with its config and the rows of its journals, by file name without suffix."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"versions": {"mxnet": "1.9.1"}, "data": "digits", **config}))
    for name, rows in journals.items():
        (folder / f"{name}.jsonl").write_bytes(as_lines(rows, with_check=name == "history"))
    return folder


def make_training(folder, model="ShuffleNas", num_epochs=4, done=None, architecture=None, space=SPACE, **options):
    """A training of which `done` epochs have ended (default: all)."""
    is_supernet = model == "ShuffleNas"
    recipe = {"model": model, "num_epochs": num_epochs, "warmup_epochs": 1, "epoch_start_cs": 2, "cs_warm_up": True}
    config = {
        "program": "train_imagenet.py",
        "options": {**recipe, **options},
        "space": replace(space, warm_up_durations=(1, 1)).to_json(),
        "architecture": None if is_supernet else ArchitectureRecord(space, architecture, {}).to_json(),
    }
    done = num_epochs if done is None else done
    rows = [{"epoch": i, "loss": 2 - i / 10, "top1": 0.1 + i / 20, "top5": 0.5} for i in range(done)]
    if done == num_epochs:
        rows[-1].update(val_top1=0.25, val_top5=0.75, val_images=360)
        if is_supernet:
            rows[-1].update(val_top1_each=[0.2, 0.3])
    return write_run(folder, config, log=rows)


def make_search_run(folder, ended=True, latency=False, drop=0, space=SPACE, limits=LIMITS, **changes):
    """A search on made-up accuracies; the last `drop` rows were dropped early."""
    options = replace(OPTIONS, **changes)
    domain, fitness = make_domain(space, options, limits), make_fitness()
    generations = run(make_search(domain, options, SEED), lambda a: accuracy(fitness, a))
    numbered = [(i, a) for i, generation in enumerate(generations) for a in generation]
    rows = []
    for number, (iteration, architecture) in enumerate(numbered):
        top1 = accuracy(fitness, architecture)
        rows.append(
            {
                "evaluation": number,
                "iteration": iteration,
                "block_choices": list(architecture.block_choices),
                "channel_choices": list(architecture.channel_choices),
                **domain.cost_fields(architecture),
                **({"latency_ms": 1 + number / 10} if latency else {}),
                "fitness": top1,
                "top1": top1,
                "top1_interval": [top1 - 0.02, top1 + 0.02],
                "top1_hits": round(1000 * top1),
                "num_images": 1000,
                **({"dropped": True} if number >= len(numbered) - drop else {}),
            }
        )
    config = {
        "program": "search_supernet.py",
        "options": {**asdict(options), **asdict(limits), "seed": SEED},
        "space": space.to_json(),
    }
    write_run(folder, config, history=rows)
    if ended:
        (folder / "best.json").write_text("{}")
    return folder


def accuracy(fitness, architecture):
    return 0.5 + fitness(architecture) / 1000


def rows_of(folder, name="history"):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
