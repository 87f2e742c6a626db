"""Single-Path One-Shot neural architecture search on MXNet Gluon: what scripts use, by name (docs/api.md).

A name is imported when it is first used, so `import spos` loads neither MXNet nor NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from oneshot_nas_network import Subnet, Supernet
    from spos.core.errors import InputError
    from spos.data.arrays import pack_arrays
    from spos.data.flags import DataOptions
    from spos.data.registry import open_data
    from spos.deploy.export import export_model
    from spos.deploy.exported import ExportedModel, open_model
    from spos.engine.batch_norm import recalibrate_batch_norm
    from spos.engine.compat import mx
    from spos.latency.table import LatencyTable
    from spos.pilot.session import autopilot
    from spos.runs.run import open_run_directory
    from spos.sampling.limits import Limits
    from spos.scoring.accuracy import evaluate
    from spos.search.ask_tell import AskTell, open_search
    from spos.search.function import sample_architectures, search_architectures
    from spos.search.session import search_supernet
    from spos.space.architecture import Architecture
    from spos.space.architecture_file import load_architecture, published_architectures
    from spos.space.blocks import BlockLayers, ChoiceBlockGeometry, load_blocks, register_block
    from spos.space.cost import count_architecture
    from spos.space.layers import Conv, SqueezeExcite, depthwise
    from spos.space.space import SearchSpace
    from spos.space.space_file import load_space, search_space
    from spos.training.session import train_subnet, train_supernet

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "AskTell",
    "BlockLayers",
    "ChoiceBlockGeometry",
    "Conv",
    "DataOptions",
    "ExportedModel",
    "InputError",
    "LatencyTable",
    "Limits",
    "SearchSpace",
    "SqueezeExcite",
    "Subnet",
    "Supernet",
    "autopilot",
    "count_architecture",
    "depthwise",
    "evaluate",
    "export_model",
    "load_architecture",
    "load_blocks",
    "load_space",
    "mx",
    "open_data",
    "open_model",
    "open_run_directory",
    "open_search",
    "pack_arrays",
    "published_architectures",
    "recalibrate_batch_norm",
    "register_block",
    "sample_architectures",
    "search_architectures",
    "search_space",
    "search_supernet",
    "train_subnet",
    "train_supernet",
]

_HOMES = {
    "Architecture": "spos.space.architecture",
    "AskTell": "spos.search.ask_tell",
    "BlockLayers": "spos.space.blocks",
    "ChoiceBlockGeometry": "spos.space.blocks",
    "Conv": "spos.space.layers",
    "DataOptions": "spos.data.flags",
    "ExportedModel": "spos.deploy.exported",
    "InputError": "spos.core.errors",
    "LatencyTable": "spos.latency.table",
    "Limits": "spos.sampling.limits",
    "SearchSpace": "spos.space.space",
    "SqueezeExcite": "spos.space.layers",
    "Subnet": "oneshot_nas_network",
    "Supernet": "oneshot_nas_network",
    "autopilot": "spos.pilot.session",
    "count_architecture": "spos.space.cost",
    "depthwise": "spos.space.layers",
    "evaluate": "spos.scoring.accuracy",
    "export_model": "spos.deploy.export",
    "load_architecture": "spos.space.architecture_file",
    "load_blocks": "spos.space.blocks",
    "load_space": "spos.space.space_file",
    "mx": "spos.engine.compat",
    "open_data": "spos.data.registry",
    "open_model": "spos.deploy.exported",
    "open_run_directory": "spos.runs.run",
    "open_search": "spos.search.ask_tell",
    "pack_arrays": "spos.data.arrays",
    "published_architectures": "spos.space.architecture_file",
    "recalibrate_batch_norm": "spos.engine.batch_norm",
    "register_block": "spos.space.blocks",
    "sample_architectures": "spos.search.function",
    "search_architectures": "spos.search.function",
    "search_space": "spos.space.space_file",
    "search_supernet": "spos.search.session",
    "train_subnet": "spos.training.session",
    "train_supernet": "spos.training.session",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spos' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> List[str]:
    return [*__all__, "__version__"]
