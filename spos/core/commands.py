"""The installed commands, which begin as the programs of the folder do.

Installed programs are imported, not run: whatever they load, MXNet above all, is loaded before any function of theirs
can be called. So importing this module is the beginning of a program, as that of `spos.core.startup` is.
"""

from __future__ import annotations

from importlib import import_module

import spos.core.startup  # noqa: F401  # first
from spos.core.flags import run_program


def train() -> int:
    """spos-train"""
    return run_program(import_module("train_imagenet").main)


def search() -> int:
    """spos-search"""
    return run_program(import_module("search_supernet").main)


def count() -> int:
    """spos-count"""
    return run_program(import_module("calculate_flops").main)


def build_native() -> int:
    """spos-build-native"""
    return run_program(import_module("spos.native.command").main)
