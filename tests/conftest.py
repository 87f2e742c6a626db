"""What several test modules share: the optional `../shared` folder, space variants, and random weights."""

import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spos.core.executors import open_executor
from spos.core.flags import run_program
from spos.data.digits import prepare_digits
from spos.data.recordio import read_index
from spos.engine.compat import mx
from spos.native.build import SWITCH, are_ready
from spos.runs.journal import as_lines
from spos.space import blocks
from spos.space.architecture import Architecture
from spos.space.space_file import load_space, parse_space, search_space
from spos.space.stages import Stage

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
WAYS = ("native", "graphs")
NUM_TRAIN, NUM_TEST = 160, 40  # images of the `work` fixture

VARIANTS = {
    "plain": search_space(),
    "se": search_space(use_se=True),
    "se-last-conv": search_space(use_se=True, last_conv_after_pooling=True),
    "last-conv": search_space(last_conv_after_pooling=True),
    "v2plus": search_space("ShuffleNetV2+", use_se=True, last_conv_after_pooling=True),
    "multiple-of-8": search_space(use_se=True, width_multiple=8),
    "small": search_space("Small", use_se=True, last_conv_after_pooling=True, strides=(2, 1, 2, 2, 2), input_size=32),
    "small-images": search_space(use_se=True, last_conv_after_pooling=True, strides=(1, 1, 2, 2, 2), input_size=32),
}


# What these have is in the others too, not alone
OTHER_VARIANTS = ("se", "last-conv", "small-images")

TINY = replace(
    search_space(use_se=True, last_conv_after_pooling=True),
    stages=(Stage(2, 32, False, False), Stage(2, 48, True, True)),
    strides=(2, 2, 2),
    num_classes=5,
    input_size=16,
    warm_up_durations=(1, 1),
)


def small_file(name, blocks, stages, stem, **more):
    """What the file of a space of 16 px and five classes says."""
    values = {"schema": 1, "name": name, "input_size": 16, "num_classes": 5, "blocks": blocks, "stages": stages}
    return {**values, "stem": {"channels": stem, "stride": 1}, **more}


# Every kind of blocks where a stage begins and inside, every activation, widths that need padding and some that do not
SPACE_FILES = {
    "mobilenet-se": small_file(
        "mobilenet-se",
        {
            "MB1": {"kind": "mbconv", "expand": 1, "se": False},
            "MB1-SE": {"kind": "mbconv", "kernel_size": 5, "expand": 1},
            "MB4-SE": {"kind": "mbconv", "kernel_size": 5, "expand": 4},
            "I": {"kind": "identity"},
        },
        [
            {"num_blocks": 2, "out_channels": 16, "stride": 1, "act": "relu6", "se": True},
            {"num_blocks": 2, "out_channels": 24, "stride": 2, "act": "hard_swish", "se": True},
            {"num_blocks": 1, "out_channels": 24, "stride": 1, "act": "hard_swish", "se": True},
        ],
        stem=16,
        channel_scales=[0.3, 0.55, 0.8, 1.0],
        head={"before_pooling": 48, "se": True, "after_pooling": 32, "act": "hard_swish", "dropout": 0.2},
    ),
    "resnet": small_file(
        "resnet",
        {"B3": {"kind": "basic"}, "B5": {"kind": "basic", "kernel_size": 5}, "I": {"kind": "identity"}},
        [
            {"num_blocks": 2, "out_channels": 16, "stride": 1, "channel_scales": [0.5, 1.0, 2.5]},
            {"num_blocks": 2, "out_channels": 24, "stride": 2, "act": "hard_swish", "se": True},
            {"num_blocks": 2, "out_channels": 32, "stride": 2, "act": "relu6", "block_choices": ["B3", "I"]},
        ],
        stem=8,
        channel_scales=[0.3, 0.7, 1.5, 2.0],
    ),
    "mixed": small_file(
        "mixed",
        {
            "SN": {"kind": "shuffle", "kernel_size": 5},
            "SX": {"kind": "xception"},
            "MB": {"kind": "mbconv", "expand": 3},
            "B": {"kind": "basic"},
            "I": {"kind": "identity"},
        },
        [
            {"num_blocks": 3, "out_channels": 24, "stride": 2, "act": "relu6"},
            {
                **{"num_blocks": 3, "out_channels": 48, "stride": 2, "act": "hard_swish", "se": True},
                "choice_blocks": {"1": {"block_choices": ["I"]}, "2": {"channel_scales": [0.5, 1.5]}},
            },
        ],
        stem=12,
        channel_scales=[0.4, 1.0, 1.4],
        head={"before_pooling": 64, "act": "relu6"},
    ),
    "no-block-keeps-its-shape": small_file(
        "no-block-keeps-its-shape",
        {"MB": {"kind": "mbconv", "expand": 2}, "B": {"kind": "basic"}},
        [
            {"num_blocks": 1, "out_channels": 16, "stride": 2},
            {"num_blocks": 1, "out_channels": 24, "stride": 2},
        ],
        stem=8,
        channel_scales=[0.5, 0.9],
    ),
}
SPACES = {
    "tiny": replace(
        load_space("tiny"),
        stages=(Stage(2, 16, False, False), Stage(2, 24, False, False)),
        strides=(1, 2, 2),
        num_classes=5,
        input_size=16,
        warm_up_durations=(1,),
    ),
    "nas-bench-macro": replace(
        load_space("nas-bench-macro"),
        stages=(Stage(2, 16, False, False, act="relu6"), Stage(2, 24, False, False, act="relu6")),
        stem_channels=8,
        strides=(1, 2, 2),
        num_classes=5,
        input_size=16,
    ),
    **{name: parse_space(values, name) for name, values in SPACE_FILES.items()},
}


def all_choices(space, rng):
    """Architectures that have every block choice of every choice block between them, at random widths."""
    for number in range(space.num_block_choices):
        blocks = tuple((number + i) % len(choices.blocks) for i, choices in enumerate(space.choices))
        widths = tuple(int(rng.choice(space.channel_choices(i))) for i in range(space.num_choice_blocks))
        yield space.canonical(Architecture(blocks, widths))


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in OTHER_VARIANTS else []) for name in VARIANTS],
    ids=str,
)
def space(request):
    """Every variant of the search space, with ten classes; those of OTHER_VARIANTS if slow tests run."""
    return replace(VARIANTS[request.param], num_classes=10)


@pytest.fixture
def rng():
    """A generator whose seed is printed when a test fails (pytest shows captured output)."""
    seed = 20190401
    print(f"seed {seed}")
    return np.random.default_rng(seed)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """How paths are executed: by the native kernels, or by MXNet's graphs."""
    if request.param == "graphs":
        monkeypatch.setenv(SWITCH, "0")
    elif not are_ready():
        pytest.skip("the native library is not built")
    return request.param


def in_both_ways(names, cases, by_graphs, slow=()):
    """Every case natively, those of `slow` if slow tests run; and some of them by graphs too, which take longer."""
    rows = [(case, way) for way, own in zip(WAYS, (cases, by_graphs)) for case in own]
    assert {*by_graphs, *slow} <= set(cases)
    values = [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), way, marks=[pytest.mark.slow] if case in slow else []
        )
        for case, way in rows
    ]
    return pytest.mark.parametrize(f"{names}, way", values, indirect=["way"])


@pytest.fixture
def noise_file(tmp_path):
    """A record file of 50 images of noise, 32x32, image i with label i."""
    from image_files import pack, png, random_images

    return pack(tmp_path, [png(image) for image in random_images(50)])


@pytest.fixture
def reference():
    """The folder of exact values from an independent implementation."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip("../shared/reference is not here")
    return folder


def fill_parameters(net, name_in_file=lambda name: name, ctx=None):
    """Fill every parameter from its name, as the reference implementation did (large values, all channels alive).

    A network without values gets them on `ctx` (the CPU), which is faster than initializing it first.
    """
    for name, parameter in net._collect_params_with_prefix().items():
        value = mx.nd.array(reference_value(name_in_file(name), parameter.shape))
        parameter._load_init(value, (ctx or [mx.cpu()]) if parameter._data is None else parameter.list_ctx())


def reference_value(name, shape):
    """Value of parameter `name` in the reference cases: a function of its name alone."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith(".weight"):
        value = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith(("gamma", "running_var")):
        value = random.uniform(0.5, 1.5, shape)
    else:
        value = random.normal(0, 0.1, shape)
    return value.astype(np.float32)


@pytest.fixture(scope="module")
def own_kinds():
    """Kinds of blocks that the tests of a module register; afterwards they are not there."""
    kinds, loaded = dict(blocks.KINDS), dict(blocks._loaded)
    yield
    for table, before in ((blocks.KINDS, kinds), (blocks._loaded, loaded)):
        table.clear()
        table.update(before)


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    return make_work(tmp_path_factory.mktemp("programs"))


def make_work(folder):
    """A folder with a few digits as ImageNet-style record files."""
    digits = prepare_digits(str(folder / "digits"))
    shutil.copy(digits.splits["train"].rec, folder / "digits.rec")
    write_subset(digits.splits["train"].idx, range(NUM_TRAIN), str(folder / "train.idx"))
    write_subset(digits.splits["test"].idx, range(NUM_TEST), str(folder / "val.idx"))
    return folder


def write_subset(source, positions, target):
    """Write the lines of an index at these positions (0 = first image in the file)."""
    Path(target).write_bytes(read_index(str(source)).take(positions).to_bytes())


def data_flags(work, **changes):
    flags = {
        "rec-train": work / "digits.rec",
        "rec-train-idx": work / "train.idx",
        "rec-val": work / "digits.rec",
        "rec-val-idx": work / "val.idx",
        "classes": 10,
        "input-size": 32,
        "strides": "2,2,2,2,2",
        "crop-ratio": 1,
        "holdout": 32,
        "update-bn-images": 32,
        "batch-size": 32,
        "num-workers": 1,
        **changes,
    }
    return [item for name, value in flags.items() for item in (f"--{name}", str(value))]


def fails(main, argv, capsys, *words):
    """Run a program that must refuse: exit code 2, one line on standard error, nothing on standard output."""
    capsys.readouterr()
    try:
        code = run_program(main, [str(item) for item in argv])
    except SystemExit as stop:  # refused by the parser
        code = stop.code
    printed = capsys.readouterr()
    assert code == 2
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), printed.err
    assert not printed.out
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture
def processes(monkeypatch):
    """Two processes that calls can be sent to."""
    for name in ("OMP_NUM_THREADS", "JOBLIB_MULTIPROCESSING"):  # puts them back
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    with open_executor(2, "1") as executor:
        yield executor


@pytest.fixture
def cluster():
    """A Dask scheduler and workers in processes of their own."""
    pytest.importorskip("distributed", reason="Dask is not installed")
    from utils.search_cluster import LocalCluster

    with LocalCluster(0) as cluster:
        yield cluster


@pytest.fixture
def reach_calls(monkeypatch):
    """Let what is started find `calls` of this folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


@pytest.fixture
def make_search(tmp_path):
    """A run directory with a history of three iterations of four evaluations each; the seventh was dropped early."""

    def make(name, changes=(), shift=0.0, **more):
        tops = [0.5, 0.4, 0.45, 0.5, 0.6, 0.55, 0.7, 0.3, 0.64, 0.2, 0.65, 0.65]
        rows = []
        for i, top1 in enumerate(tops):
            row = {"evaluation": i, "iteration": i // 4, "top1": top1 + shift, "flops": (i * 7 % 12 + 1) * 1_000_000}
            row.update(params=1_000_000, top1_interval=[row["top1"] - 0.02, row["top1"] + 0.02], **more)
            row["fitness"] = row["top1"]
            rows.append({**row, "dropped": True} if i == 6 else row)
        for i, change in changes:
            rows[i] = {key: value for key, value in {**rows[i], **change}.items() if value is not None}
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.jsonl").write_bytes(as_lines(rows, with_check=True))
        return tmp_path / name

    return make
