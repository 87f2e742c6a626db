"""Every kind of file that the project reads: a small sound one of each, and what reads it."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.core.intervals import wilson_interval
from spos.core.timing import Timing
from spos.counting.symbol import count_nodes
from spos.data.dataset import make_dataset
from spos.data.loader import ImageLoader
from spos.data.order import Order
from spos.data.pixels import Pixels, load_pixels, write_sums
from spos.data.prepared import encode_png, is_complete, pack_images, write_prepared
from spos.data.preprocessing import Preprocessing
from spos.data.recordio import RecordFile, find_labels
from spos.deploy.classification import EVALUATION_FILE, Predictions, read_evaluation
from spos.deploy.exported import GRAPH_CHECKSUM, PARAMS, SYMBOL, open_model
from spos.deploy.formats import FORMAT_CLASSES
from spos.deploy.model_info import ModelInfo
from spos.deploy.subnet import DeployedSubnet
from spos.engine.compat import mx
from spos.engine.graph_file import load_symbol
from spos.engine.parameters import load_arrays, read_parameters, save_arrays
from spos.latency.measurements import (
    FIT,
    HELD_OUT,
    MEASUREMENTS_FILE,
    PROGRAM,
    TABLE_FILE,
    Measurements,
    Plan,
    as_row,
    draw_networks,
    read_measurements,
)
from spos.latency.table import LatencyTable
from spos.runs.files import read_json, read_text, write_json
from spos.runs.journal import Journal, as_lines, read_rows
from spos.runs.run import (
    ARRIVED_FILE,
    BEST_FILE,
    BN_UPDATE_FILE,
    CONFIG_FILE,
    HISTORY_FILE,
    LOG_FILE,
    MODEL_FILE,
    PIXELS_FOLDER,
    SEARCHING,
    SPACE_FILE,
    SUPERNET,
    TRAINING,
    BnUpdateRow,
    check_run,
    find_config,
    open_run_directory,
)
from spos.search.ancestry import replay
from spos.search.choice import MODEL, Choice
from spos.search.domain import Domain
from spos.search.finals import FINALS_FILE, FinalRow, finalists_of, hold_finals, read_choice, read_finals
from spos.search.flags import ConstraintOptions, SearchOptions, make_domain, make_search
from spos.search.front import FRONT_FILE, write_front
from spos.search.history import (
    SEED_FILE,
    ArrivedRow,
    load_history,
    open_history,
    read_history,
    read_search_rows,
    seed_lines,
)
from spos.search.report import SearchLogRow, write_best
from spos.search.searcher import Searcher, Target
from spos.space.architecture import Architecture, architecture_of, choices_of
from spos.space.architecture_file import load_architecture, parse_architecture
from spos.space.cost import cost_table, count_supernet
from spos.space.flags import space_of_run
from spos.space.space_file import SPACES, load_space, search_space
from spos.space.stages import Stage
from spos.study.strategies import recorded
from spos.training.checkpoint import CHECKPOINTS, STATE_FILE, STATES_FILE, newest_checkpoint
from spos.training.flags import TrainOptions
from spos.training.log import EpochRow, describe_epoch
from spos.training.meter import Meter
from utils.launch_cluster import LaunchOptions, find_hosts
from utils.plot.training import load_run

SPACE = replace(
    search_space(use_se=True, last_conv_after_pooling=True),
    stages=(Stage(2, 32, False, False), Stage(2, 48, True, True)),
    strides=(2, 2, 2),
    num_classes=5,
    input_size=16,
    warm_up_durations=(1, 1),
)
OPTIONS = SearchOptions(search_iters=3, population_size=6, retain_length=3)
SEED, NUM_IMAGES = 5, 300
NAMES = tuple(f"class {i}" for i in range(SPACE.num_classes))
TRAINED, SEARCHED, TIMED, EXPORTED, DATA = "trained", "searched", "timed", "exported", "data"
IMAGES = f"{PIXELS_FOLDER}/noise"  # decoded
EPOCH = f"{TRAINED}/{CHECKPOINTS}/epoch-0002-step-000003"
IDENTITY = {"fingerprint": SPACE.fingerprint, "supernet": "0123456789abcdef", "images": "fedcba9876543210"}


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Args:
        file: in the folder that `write_corpus` fills.    read: does with that folder what programs do.
        is_json, has_check: as `mutate` takes them.
    """

    name: str
    file: str
    read: Callable[[Path], Any]
    is_json: bool = True
    has_check: bool = False


@dataclass(frozen=True)
class MadeUpAccuracy:
    """An accuracy that follows from the architecture alone."""

    hits: int

    def to_json(self) -> Dict[str, Any]:
        interval = list(wilson_interval(self.hits, NUM_IMAGES))
        counts = {"top1_hits": self.hits, "num_images": NUM_IMAGES}
        return {"top1": self.hits / NUM_IMAGES, "top5": 1.0, "top1_interval": interval, **counts}


def score(architecture: Architecture, race: Any = None) -> MadeUpAccuracy:
    return MadeUpAccuracy(100 + 5 * sum(architecture.genes))


def write_corpus(folder: Path) -> None:
    """One sound file of each kind."""
    rng = np.random.default_rng(SEED)
    _write_search(folder / SEARCHED)
    _write_training(folder / TRAINED, rng)
    _write_measurements(folder / TIMED, rng)
    _write_exported(folder / EXPORTED, rng)
    _write_data(folder / DATA, rng)
    (folder / "hosts").write_text("localhost 2\nnode-1.example.org 4\n# comment\n10.0.0.7\n")
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")


def _write_search(folder: Path) -> None:
    domain = make_domain(SPACE, OPTIONS, ConstraintOptions())
    options = {**asdict(OPTIONS), **asdict(ConstraintOptions()), "seed": SEED}
    config = {"program": SEARCHING, "options": options, "space": SPACE.to_json(), "data": "made up", "versions": {}}
    write_json(folder / CONFIG_FILE, config)
    history, arrived = open_history(folder / HISTORY_FILE), Journal(folder / ARRIVED_FILE, ArrivedRow, with_check=True)
    log = Journal(folder / LOG_FILE, SearchLogRow)
    searcher = Searcher(domain, Target(), score, history, arrived, identity=IDENTITY)
    rows = searcher.run(make_search(domain, OPTIONS, SEED))
    for row in rows[-3:]:
        arrived.append({key: row[key] for key in ("block_choices", "channel_choices", *_accuracy_keys())})
    log.append(dict(zip(SearchLogRow.__struct_fields__, (0, 1.5, 6, 14400.0, 0, 0.5))))
    measured = Journal(folder / FINALS_FILE, FinalRow)

    def measure(row: Dict[str, Any], number: int) -> Dict[str, Any]:
        about = {key: row[key] for key in ("evaluation", "block_choices", "channel_choices")}
        accuracy = {key: row[key] for key in ("top1", "top1_interval", "num_images")}
        measured.append({**about, "round": number, "epochs": 2**number, "lr": 0.05, **accuracy})
        return measured.rows[-1]

    finals = hold_finals(finalists_of(rows, 4), measure)
    write_best(folder / BEST_FILE, domain, rows, {"seed": SEED}, finals, Choice.by(MODEL, domain, rows))
    shutil.copy(SPACES / "tiny.json", folder.parent / SPACE_FILE)
    write_front(folder, domain, rows, ("flops", "params"), {"seed": SEED})
    (folder.parent / SEED_FILE).write_bytes(seed_lines(rows[::2]))


def _accuracy_keys() -> List[str]:
    return list(MadeUpAccuracy(1).to_json())


def _write_training(folder: Path, rng: np.random.Generator) -> None:
    options = {"model": SUPERNET, "num_epochs": 4, "warmup_epochs": 1, "epoch_start_cs": 2, "cs_warm_up": True}
    preprocessing = Preprocessing(SPACE.input_size, 1.0, (120.0, 110.0, 100.0), (60.0, 61.0, 62.0), NAMES)
    config = {"program": TRAINING, "options": options, "space": SPACE.to_json(), "architecture": None}
    write_json(folder / CONFIG_FILE, {**config, "data": "made up", "preprocessing": preprocessing.to_json()})
    log, updates = Journal(folder / LOG_FILE, EpochRow), Journal(folder / BN_UPDATE_FILE, BnUpdateRow)
    for epoch in range(4):
        row = {"epoch": epoch, "loss": 2.0 - epoch / 10, "top1": 0.1, "top5": 0.5, "lr": 0.1}
        log.append({**row, "images_per_second": 50.0, "val_top1": 0.2, "val_top5": 0.6, "val_images": 36})
        architecture = SPACE.sample(rng)
        scores = {**score(architecture).to_json(), **IDENTITY}
        updates.append({**choices_of(architecture), "num_bn_images": 16 * epoch, **scores})
    logits = rng.normal(size=(NUM_IMAGES, len(NAMES))).astype(np.float32)
    predictions = Predictions(logits, rng.integers(0, len(NAMES), NUM_IMAGES), np.arange(NUM_IMAGES))
    own = {"split": "val", "top1": 0.2, "top1_interval": [0.1, 0.3], "num_images": NUM_IMAGES}
    write_json(folder / EVALUATION_FILE, {**own, **predictions.to_json(NAMES)})
    net = _supernet()
    arrays = {
        name: mx.nd.array(rng.normal(0, 0.1, parameter.shape))
        for name, parameter in net._collect_params_with_prefix().items()
    }
    for place in (folder, folder.parent / EPOCH):
        save_arrays(place / MODEL_FILE, arrays)
    save_arrays(folder.parent / EPOCH / STATES_FILE, {f"{name}:0": arrays[name] for name in list(arrays)[:5]})
    meter = {"loss": 3.5, "top1_hits": 3, "top5_hits": 9, "num_images": 24}
    average = {"num_steps": 9, "num_seen": {name: 8 for name in list(arrays)[:5]}}
    write_json(folder.parent / EPOCH / STATE_FILE, {"meter": meter, "average": average, "epoch": 2, "step": 3})


@lru_cache(maxsize=1)
def _supernet() -> Supernet:
    return Supernet(SPACE)


def _write_measurements(folder: Path, rng: np.random.Generator) -> None:
    networks = {part: draw_networks(SPACE, part, 6, SEED) for part in (FIT, HELD_OUT)}
    plan = Plan(SPACE, 2, 1, networks)
    journal = Journal(folder / MEASUREMENTS_FILE)
    for number, kind, key in plan.rows():
        count = plan.num_calls(kind, key)
        timings = [Timing(float(rng.uniform(0.5, 2)), 0.01, 10, 0) for _ in range(count)]
        journal.append(as_row(number, kind, key, timings, 0.004))
    table = Measurements.of(plan, journal.rows).table(device="made up")
    write_json(folder / TABLE_FILE, table.to_json())
    drawn = {part: [[list(a.block_choices), list(a.channel_choices)] for a in own] for part, own in networks.items()}
    options = {"copies": plan.copies, "passes": plan.passes}
    write_json(
        folder / CONFIG_FILE, {"program": PROGRAM, "options": options, "space": SPACE.to_json(), "networks": drawn}
    )


def _write_exported(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    architecture = SPACE.sample(rng)
    shapes = DeployedSubnet(SPACE, architecture, {}).shapes()
    arrays = {name: rng.uniform(0.1, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    preprocessing = Preprocessing(SPACE.input_size, 0.875, (120.0, 110.0, 100.0), (60.0, 61.0, 62.0), NAMES)
    record = load_architecture(folder.parent / SEARCHED / BEST_FILE).to_json()
    info = ModelInfo(preprocessing, {**record, **choices_of(architecture)})
    for form in ("mxnet", *(("onnx",) if has_onnx() else ())):
        FORMAT_CLASSES[form](DeployedSubnet(SPACE, architecture, arrays), info).float32().write(folder / "tiny")
    symbol = folder / f"tiny{SYMBOL}"
    graph = read_json(symbol)
    for node in graph["nodes"]:  # as the first versions wrote it: every change would end at its checksum
        node.get("attrs", {}).pop(f"__{GRAPH_CHECKSUM}__", None)
    write_json(symbol, graph)


def has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def _write_data(folder: Path, rng: np.random.Generator) -> None:
    images = [encode_png(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)) for _ in range(12)]
    record, index = pack_images(images, range(12))
    write_prepared(folder, "noise", {"noise.rec": record, "noise.idx": index.to_bytes()}, {"num_classes": 12})
    _load_pixels(folder.parent)


# --- Readers ---


def _read_architecture(folder: Path) -> None:
    record = load_architecture(folder / SEARCHED / BEST_FILE)
    cost_table(record.space).range()
    record.space.choice_blocks  # noqa: B018  derived when asked for
    record.to_json()
    for held in (read_finals(folder / SEARCHED / BEST_FILE), read_choice(folder / SEARCHED / BEST_FILE)):
        if held:
            held.text  # noqa: B018  the same


def _read_space(folder: Path) -> None:
    space = load_space(folder / SPACE_FILE)
    cost_table(space).range()
    count_supernet(space)
    space.to_json()


def _read_front(folder: Path) -> None:
    """Nothing here reads it as a whole; its records are architectures, like the files beside it."""
    path = folder / SEARCHED / FRONT_FILE
    with suppress(InputError):
        load_architecture(path)
    records = read_json(path)
    if not isinstance(records, list):
        raise InputError(f"{path} is no list")
    for number, record in enumerate(records, 1):
        parse_architecture(record, f"{path}, {number}")


def _read_history(folder: Path) -> None:
    run = folder / SEARCHED
    history = load_history(run)
    history.text("flops"), history.means(), history.best_so_far()
    read_history(str(run))
    recorded(run / HISTORY_FILE, 5)
    journal = open_history(run / HISTORY_FILE)
    domain = Domain(SPACE)
    Searcher(domain, Target(), score, journal, Journal(run / ARRIVED_FILE), identity=IDENTITY).check_history()
    replay(open_run_directory(run), history.rows)


def _read_search_config(folder: Path) -> None:
    run = open_run_directory(folder / SEARCHED)
    run.flags(SearchOptions), run.flags(ConstraintOptions), space_of_run(run)
    check_run(run.path, {"program": SEARCHING, "space": run.config.get("space"), "options": dict(run.options)})
    replay(run, read_search_rows(run.path / HISTORY_FILE))


def _read_training_config(folder: Path) -> None:
    model = folder / EPOCH / MODEL_FILE
    find_config(model)
    config = find_config(folder / TRAINED / MODEL_FILE)
    run = open_run_directory(folder / TRAINED)
    run.flags(TrainOptions), space_of_run(run), load_run(run.path)
    if config and config.get("preprocessing"):
        Preprocessing.from_json(config["preprocessing"], "config.json")


def _read_log(folder: Path) -> None:
    for row in load_run(folder / TRAINED).rows:
        describe_epoch({"lr": 0.1, "images_per_second": 1.0, "top5": 1.0, **row})


def _read_final_rows(folder: Path) -> None:
    for row in read_rows(folder / SEARCHED / FINALS_FILE, FinalRow):
        architecture_of(row)


def _read_evaluation(folder: Path) -> None:
    read_evaluation(folder / TRAINED / EVALUATION_FILE)


def _read_search_log(folder: Path) -> None:
    sum(row["seconds"] for row in read_rows(folder / SEARCHED / LOG_FILE, SearchLogRow))


def _read_arrived(folder: Path) -> None:
    run = folder / SEARCHED
    (run / HISTORY_FILE).write_bytes(b"")
    arrived = Journal(run / ARRIVED_FILE, ArrivedRow, with_check=True)
    domain = make_domain(SPACE, OPTIONS, ConstraintOptions())
    history = open_history(run / HISTORY_FILE)
    Searcher(domain, Target(), score, history, arrived, identity=IDENTITY).run(make_search(domain, OPTIONS, SEED))
    open_history(run / HISTORY_FILE)


def _read_seeds(folder: Path) -> None:
    as_lines(read_history(str(folder / SEED_FILE)), with_check=True)


def _read_updates(folder: Path) -> None:
    for row in read_rows(folder / TRAINED / BN_UPDATE_FILE, BnUpdateRow):
        SPACE.validate(Architecture(tuple(row["block_choices"]), tuple(row["channel_choices"])))
        float(row["top1"]), int(row["num_bn_images"])


def _read_state(folder: Path) -> None:
    checkpoint = newest_checkpoint(folder / TRAINED)
    if checkpoint:
        Meter(**checkpoint.state.get("meter", {})).to_json()


def _read_parameters(folder: Path) -> None:
    for array in read_parameters(folder / TRAINED / MODEL_FILE, _supernet()).values():
        array.asnumpy()


def _read_states(folder: Path) -> None:
    for array in load_arrays(folder / EPOCH / STATES_FILE).values():
        array.asnumpy()


def _read_table(folder: Path) -> None:
    table = LatencyTable.read(folder / TIMED / TABLE_FILE)
    table.predict(SPACE, SPACE.widest((0,) * SPACE.num_choice_blocks))
    table.check_error(None)


def _read_measurements(folder: Path) -> None:
    _, measurements = read_measurements(folder / TIMED)
    measurements.table(device="made up")


def _read_pair(folder: Path) -> None:
    open_model(folder / EXPORTED / f"tiny{SYMBOL}")


def _count_symbol(folder: Path) -> None:
    count_nodes(load_symbol(folder / EXPORTED / f"tiny{SYMBOL}"), (1, 3, SPACE.input_size, SPACE.input_size))


def _read_onnx(folder: Path) -> None:
    open_model(folder / EXPORTED / "tiny.onnx")


def _read_records(folder: Path) -> None:
    file = RecordFile(str(folder / DATA / "noise.rec"), str(folder / DATA / "noise.idx"))
    source = file.open()
    with source.reader() as reader:
        for position in range(len(source)):
            reader.read(position)
    find_labels(file)


def _load_pixels(folder: Path) -> Pixels:
    file = RecordFile(str(folder / DATA / "noise.rec"), str(folder / DATA / "noise.idx"))
    data = make_dataset("noise", file, file, 12, 8, 1.0)
    loader = ImageLoader(file, data.preparation(as_pixels=True), Order(), 5, num_classes=12)
    path = folder / IMAGES
    return load_pixels(loader, path.parent, path.name, shared=True)


def _read_pixels(folder: Path) -> None:
    for batch in _load_pixels(folder).batches(5, [mx.cpu()]):
        for images, labels in batch:
            images.asnumpy(), labels.asnumpy()


def _read_checked_pixels(folder: Path) -> None:
    """As if they had been written so."""
    write_sums(folder / f"{IMAGES}.npy", folder / f"{IMAGES}.labels.npy")
    _read_pixels(folder)


def _read_description(folder: Path) -> None:
    is_complete(folder / DATA, "noise", ("noise.rec", "noise.idx"))


def _read_hosts(folder: Path) -> None:
    find_hosts(LaunchOptions(hosts=str(folder / "hosts")))


def _read_names(folder: Path) -> None:
    read_text(folder / "names.txt").splitlines()


KINDS: Tuple[Kind, ...] = (
    Kind("architecture", f"{SEARCHED}/{BEST_FILE}", _read_architecture),
    Kind("space", SPACE_FILE, _read_space),
    Kind("front", f"{SEARCHED}/{FRONT_FILE}", _read_front),
    Kind("history", f"{SEARCHED}/{HISTORY_FILE}", _read_history, has_check=True),
    Kind("arrived scores", f"{SEARCHED}/{ARRIVED_FILE}", _read_arrived, has_check=True),
    Kind("seed history", SEED_FILE, _read_seeds, has_check=True),
    Kind("config of a search", f"{SEARCHED}/{CONFIG_FILE}", _read_search_config),
    Kind("log of a search", f"{SEARCHED}/{LOG_FILE}", _read_search_log),
    Kind("finals", f"{SEARCHED}/{FINALS_FILE}", _read_final_rows),
    Kind("evaluation", f"{TRAINED}/{EVALUATION_FILE}", _read_evaluation),
    Kind("config of a training", f"{TRAINED}/{CONFIG_FILE}", _read_training_config),
    Kind("log of a training", f"{TRAINED}/{LOG_FILE}", _read_log),
    Kind("BatchNorm updates", f"{TRAINED}/{BN_UPDATE_FILE}", _read_updates),
    Kind("state of a checkpoint", f"{EPOCH}/{STATE_FILE}", _read_state),
    Kind("optimizer states", f"{EPOCH}/{STATES_FILE}", _read_states, is_json=False),
    Kind("parameters", f"{TRAINED}/{MODEL_FILE}", _read_parameters, is_json=False),
    Kind("latency table", f"{TIMED}/{TABLE_FILE}", _read_table),
    Kind("measurements", f"{TIMED}/{MEASUREMENTS_FILE}", _read_measurements),
    Kind("config of measurements", f"{TIMED}/{CONFIG_FILE}", _read_measurements),
    Kind("symbol", f"{EXPORTED}/tiny{SYMBOL}", _read_pair),
    Kind("symbol to count", f"{EXPORTED}/tiny{SYMBOL}", _count_symbol),
    Kind("exported parameters", f"{EXPORTED}/tiny{PARAMS}", _read_pair, is_json=False),
    *((Kind("ONNX", f"{EXPORTED}/tiny.onnx", _read_onnx, is_json=False),) if has_onnx() else ()),
    Kind("records", f"{DATA}/noise.rec", _read_records, is_json=False),
    Kind("index of records", f"{DATA}/noise.idx", _read_records, is_json=False),
    Kind("description of data", f"{DATA}/noise.json", _read_description),
    Kind("decoded images", f"{IMAGES}.npy", _read_pixels, is_json=False),
    Kind("decoded images checked anew", f"{IMAGES}.npy", _read_checked_pixels, is_json=False),
    Kind("labels of decoded images", f"{IMAGES}.labels.npy", _read_checked_pixels, is_json=False),
    Kind("checksums of decoded images", f"{IMAGES}.json", _read_pixels),
    Kind("hosts", "hosts", _read_hosts, is_json=False),
    Kind("class names", "names.txt", _read_names, is_json=False),
)
