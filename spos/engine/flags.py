"""Flags of what computes."""

from __future__ import annotations

from dataclasses import dataclass

from spos.core.flags import flag, not_negative, positive

KV_STORES = ("device", "dist_sync", "dist_sync_device", "dist_async")  # MXNet's names


@dataclass(frozen=True)
class DeviceOptions:
    """What computes."""

    num_gpus: int = flag(0, "GPUs to use (0: CPU)", type=not_negative)
    num_cpus_ctx: int = flag(
        1, "CPU contexts when there is no GPU; more than one tests multi-device code", type=positive
    )
    dtype: str = flag("float32", "precision of the network", choices=("float32", "float16"))
    low_memory: bool = flag(
        False, "give freed memory back at once: half the memory and half the speed, the same results"
    )


@dataclass(frozen=True)
class TrainDeviceOptions(DeviceOptions):
    """What computes, on one machine or on several."""

    kv_store: str = flag(
        "device",
        "device: this process alone; dist_...: one of several workers, started by scripts/train_cluster.sh",
        choices=KV_STORES,
    )
