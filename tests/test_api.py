"""The front door: its names and signatures, what it loads, and that it opens without MXNet."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import spos

# Takes nothing that could be wrong.
CANNOT_FAIL = ("depthwise", "published_architectures")
SOURCE = ast.parse(Path(spos.__file__).read_text("utf-8"))


def parse(text):
    """Signature by name, from lines of which those that go on are indented."""
    lines = re.sub(r"\n +", " ", text).split("\n")
    return {re.match(r"\w+", line)[0]: re.sub(r"^\w+", "", line) for line in lines if line}


# Names and signatures are promises to scripts: a change here is a change for their authors.
SIGNATURES = parse("""
Architecture(block_choices: Tuple[int, ...], channel_choices: Tuple[int, ...], input_size: Optional[int] = None) ->
    None
AskTell(domain: Domain, search: Search, folder: Path) -> None
BlockLayers(wiring: str, main: Specs = (), projection: Specs = (), act: Optional[str] = None,
    drop_rate: float = 0.0) -> None
ChoiceBlockGeometry(index: int, stage: int, in_channels: int, out_channels: int, stride: int, projects: bool, use_se:
    bool, act: str, in_size: int, scale: float = 1.0, width_multiple: int = 1, pad_to: int = 1) -> None
Conv(in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1, bn: bool = True,
    bias: bool = False, act: Optional[str] = None, selects: bool = False, init_std: Optional[float] = None, form:
    Optional[Form] = None) -> None
DataOptions(dataset: str = imagenet, data_dir: str = data, rec_train: str = , rec_train_idx: str = , rec_val: str =
    , rec_val_idx: str = , use_rec: bool = False, classes: int = 0, max_bad_images: int = 10, input_size: int = 0,
    crop_ratio: float = 0.0, holdout: int = 0, update_bn_images: int = 0, batch_size: int = 128, num_workers: int =
    4) -> None
ExportedModel(path: Path, info: ModelInfo, runtime: str, num_classes: int, function: Logits) -> None
InputError
LatencyTable(space: SearchSpace, fixed_ms: float, blocks_ms: BlockTimes, device: str, dtype: str = float32,
    batch_size: int = 1, scale: float = 1.0, offset_ms: float = 0.0, held_out_error: Optional[float] = None,
    details: Mapping[str, Any] = <factory>, versions: Mapping[str, str] = <factory>) -> None
Limits(flops: Optional[float] = None, params: Optional[float] = None, latency_ms: Optional[float] = None) -> None
SearchSpace(layout: str, stages: Tuple[Stage, ...], warm_up_durations: Tuple[int, ...], blocks: Tuple[BlockKind, ...],
    channel_scales: Tuple[float, ...], stem_channels: int = 16, width_multiple: int = 1, use_se: bool = False,
    last_conv_after_pooling: bool = False, min_channel_choice: int = 0, strides: Tuple[int, ...] = (2, 2, 2, 2, 2),
    input_size: int = 224, num_classes: int = 1000, stem_act: str = , head: Optional[Head] = None, fixed_strides: bool
    = False, count_additions: bool = True, input_sizes:
    Tuple[int, ...] = ()) -> None
SqueezeExcite(channels: int, form: Optional[Form] = None, squeezed: Optional[int] = None) -> None
Subnet(space: SearchSpace, architecture: Architecture, bn: bool = True, shuffle: str = reshape, stochastic_depth: float
    = 0.0) -> None
Supernet(space: SearchSpace, execution: str = slice, use_all_blocks: bool = False, shuffle: str = reshape) -> None
autopilot(data_dir: PathLike, hours: float, save_dir: PathLike = runs/autopilot, flops_max_m: float = 0.0, params_max_m:
    float = 0.0, latency_max: float = 0.0, model_size_max: int = 0, seed: int = 0, **values: Any) -> Outcome
count_architecture(space: SearchSpace, architecture: Architecture) -> Cost
depthwise(channels: int, kernel_size: int, stride: int, act: Optional[str] = None, selects: bool = False) -> Conv
evaluate(net: Callable[[mx.nd.NDArray], mx.nd.NDArray], batches: Iterable[Sequence[Tuple[mx.nd.NDArray,
    mx.nd.NDArray]]]) -> Accuracy
export_model(params: PathLike, format: str = onnx, output: PathLike = , class_names: PathLike = , pad_to: int = 8)
    -> Path
load_architecture(name_or_file: PathLike) -> ArchitectureRecord
load_blocks(path: Union[str, Path]) -> None
load_space(name_or_file: PathLike) -> SearchSpace
mx
open_data(options: DataOptions) -> DataSet
open_model(path: PathLike, threads: Optional[int] = None) -> ExportedModel
open_run_directory(path: PathLike) -> RunDirectory
open_search(space: SearchSpace, folder: PathLike, limits: Optional[Limits] = None, mode: str = genetic, iterations:
    int = 20, population: int = 50, retain: int = 10, seed: int = 0, latency: Optional[Latency] = None) ->
    Iterator[AskTell]
pack_arrays(folder: PathLike, images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test_labels:
    np.ndarray, options: Optional[DataOptions] = None) -> DataOptions
published_architectures() -> List[str]
recalibrate_batch_norm(net: mx.gluon.HybridBlock, batches: Iterable[Tuple[Any, Any]], num_images: Optional[int] =
    None, ctx: Optional[Sequence[mx.Context]] = None) -> int
register_block(name: str) -> Callable[[Callable[..., BlockLayers]], Callable[..., BlockLayers]]
sample_architectures(space: SearchSpace, count: int, limits: Optional[Limits] = None, seed: int = 0, latency:
    Optional[Latency] = None) -> List[Architecture]
search_architectures(space: SearchSpace, score: Score, folder: PathLike, limits: Optional[Limits] = None, mode: str
    = genetic, iterations: int = 20, population: int = 50, retain: int = 10, seed: int = 0, latency:
    Optional[Latency] = None) -> Found
search_space(layout: str = OneShot, **changes: Any) -> SearchSpace
search_supernet(supernet: Union[PathLike, Sequence[PathLike]], folder: PathLike, limits: Optional[Limits] = None,
    data: Optional[DataOptions] = None, latency_table: PathLike = , seed: int = 0, num_gpus: int = 0, num_processes:
    int = 1, **search: Any) -> Found
train_subnet(data: DataOptions, folder: PathLike, architecture: PathLike, seed: int = 0, num_gpus: int = 0,
    **recipe: Any) -> Path
train_supernet(data: DataOptions, folder: PathLike, space: Optional[SearchSpace] = None, seed: int = 0, num_gpus:
    int = 0, **recipe: Any) -> Path
""")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def signature(name):
    """As text; exceptions and modules have none."""
    thing = getattr(spos, name)
    has_none = inspect.ismodule(thing) or (inspect.isclass(thing) and issubclass(thing, Exception))
    return "" if has_none else str(inspect.signature(thing)).replace("'", "")


def test_names_are_sorted_and_complete():
    assert spos.__all__ == sorted(SIGNATURES)
    assert set(dir(spos)) == {*SIGNATURES, "__version__"}


def test_the_types_of_names_are_those_that_are_loaded():
    """What a type checker reads, under TYPE_CHECKING, and what is imported by name are the same."""
    (block,) = (node for node in SOURCE.body if isinstance(node, ast.If))
    read = {alias.name: node.module for node in block.body for alias in node.names}
    assert read == spos._HOMES and set(read) == set(spos.__all__)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    assert signature(name) == SIGNATURES[name]


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_name_says_what_it_is(name):
    """Functions that take what a user made say what they refuse."""
    thing = getattr(spos, name)
    assert inspect.getdoc(thing) and thing.__doc__
    if inspect.isfunction(thing) and name not in CANNOT_FAIL:
        assert "Raises" in thing.__doc__


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_name_is_in_the_documentation(name):
    assert f"spos.{name}" in (ROOT / "docs" / "api.md").read_text("utf-8")


def test_import_loads_the_standard_library_alone():
    code = "import sys; before = set(sys.modules); import spos; print(sorted(set(sys.modules) - before))"
    new = ast.literal_eval(run(code))
    own = {name for name in new if (ROOT / name.replace(".", "/")).with_suffix(".py").exists() or "spos" in name}
    assert own == {"spos"} and not set(new) & {"numpy", "mxnet", "cv2", "tqdm"}
    assert len(new) < 40, new


def test_counting_sampling_and_searching_need_no_mxnet(tmp_path):
    code = (
        "import sys; sys.modules['mxnet'] = None; import spos; record = spos.load_architecture('oneshot'); "
        "space = record.space; macs, params = spos.count_architecture(space, record.architecture); "
        "spos.sample_architectures(space, 2, spos.Limits(flops=300e6)); "
        f"spos.search_architectures(space, lambda a: a.genes[0], {str(tmp_path / 'run')!r}, iterations=2, "
        "population=4, retain=2); print(macs, params, set(dir(spos)) > set(spos.__all__))"
    )
    assert run(code) == "327909096 3433579 True\n"


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'spos' has no attribute 'retrain'"):
        getattr(spos, "retrain")  # noqa: B009  the name is not there
