"""The machine's processor, by the kernel and without it."""

import platform
from pathlib import Path

import pytest

from spos.core.machine import processor_name


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
