"""The machine's processor, by the kernel and without it; and its memory."""

import platform
import resource
from pathlib import Path

import pytest

from spos.core.machine import available_memory, processor_name


def test_the_processor_is_that_of_the_kernel(monkeypatch):
    monkeypatch.setattr(
        Path, "read_text", lambda *_: "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: b\n"
    )
    assert processor_name() == "Some CPU @ 2 GHz"


@pytest.mark.parametrize("processor, expected", (("arm", "arm"), ("", "a machine")))
def test_elsewhere_it_is_what_python_says(processor, expected, monkeypatch):
    def missing(*_):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: processor)
    monkeypatch.setattr(platform, "machine", lambda: "a machine")
    assert processor_name() == expected


def test_a_limit_of_the_process_counts_as_the_machine_does(monkeypatch):
    assert 2**26 < available_memory() < 2**50
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**6, 10**6))
    assert available_memory() == 10**6
