"""Rates of a machine: what training and scoring take there."""

from __future__ import annotations

from msgspec import Struct


class Rates(Struct, frozen=True):
    """What things take.

    Args:
        supernet_images: a second, in training a supernet with `supernet_threads` threads, at widths of any kind.
        full_width_images: the same at full width, with which a warm-up of the widths begins; 0: not measured.
        subnet_images: a second of each of two networks trained side by side, with `subnet_threads` each.
        candidate_seconds: for scoring one, beside `scored_images` a second.
        start_seconds: before a program begins.
        supernet_bytes, subnet_bytes: of memory, of one process.
    """

    supernet_images: float
    supernet_threads: int
    subnet_images: float
    subnet_threads: int
    candidate_seconds: float
    scored_images: float
    start_seconds: float
    supernet_bytes: int
    subnet_bytes: int
    full_width_images: float = 0.0
