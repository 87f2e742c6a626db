"""Single-Path One-Shot neural architecture search on MXNet Gluon: what scripts use, by name (docs/api.md).

A name is imported when it is first used, so `import spos` loads neither MXNet nor NumPy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from oneshot_nas_network import Subnet as Subnet
    from oneshot_nas_network import Supernet as Supernet
    from spos.core.errors import InputError as InputError
    from spos.latency.table import LatencyTable as LatencyTable
    from spos.sampling.limits import Limits as Limits
    from spos.search.function import sample_architectures as sample_architectures
    from spos.search.function import search_architectures as search_architectures
    from spos.space.architecture_file import load_architecture as load_architecture
    from spos.space.architecture_file import published_architectures as published_architectures
    from spos.space.cost import count_architecture as count_architecture
    from spos.space.space import Architecture as Architecture
    from spos.space.space import SearchSpace as SearchSpace
    from spos.space.space import search_space as search_space

__version__ = "0.1.0"

_HOMES = {
    "Architecture": "spos.space.space",
    "InputError": "spos.core.errors",
    "LatencyTable": "spos.latency.table",
    "Limits": "spos.sampling.limits",
    "SearchSpace": "spos.space.space",
    "Subnet": "oneshot_nas_network",
    "Supernet": "oneshot_nas_network",
    "count_architecture": "spos.space.cost",
    "load_architecture": "spos.space.architecture_file",
    "published_architectures": "spos.space.architecture_file",
    "sample_architectures": "spos.search.function",
    "search_architectures": "spos.search.function",
    "search_space": "spos.space.space",
}
__all__ = [
    "Architecture",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spos' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> List[str]:
    return [*__all__, "__version__"]
