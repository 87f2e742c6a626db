"""Devices: the contexts that flags mean, and what is refused."""

import pytest

from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.devices import make_devices, versions
from spos.engine.flags import DeviceOptions
from spos.native import build


@pytest.mark.parametrize("number", (1, 3))
def test_contexts_of_the_cpu_are_numbered(number):
    assert make_devices(DeviceOptions(num_cpus_ctx=number)) == tuple(mx.cpu(i) for i in range(number))


def test_gpus_that_are_there_are_taken_in_order(monkeypatch):
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 4)
    assert make_devices(DeviceOptions(num_gpus=2, dtype="float16")) == (mx.gpu(0), mx.gpu(1))


def test_what_a_machine_cannot_do_is_refused(monkeypatch):
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 1)
    with pytest.raises(InputError, match="--num-gpus 2: MXNet sees 1 GPUs"):
        make_devices(DeviceOptions(num_gpus=2))
    with pytest.raises(InputError, match="--dtype float16 needs a GPU"):
        make_devices(DeviceOptions(dtype="float16"))


@pytest.mark.parametrize("low_memory", (False, True))
def test_freed_memory_is_returned_if_the_flag_says_so(low_memory, monkeypatch):
    calls = []
    monkeypatch.setattr("spos.engine.devices.return_freed_memory", lambda: calls.append(1))
    make_devices(DeviceOptions(low_memory=low_memory))
    assert len(calls) == low_memory


def test_versions_are_those_of_the_libraries():
    assert versions()["mxnet"] == mx.__version__
    assert set(versions()) == {"mxnet", "numpy", "opencv", "native", "commit"}


def test_versions_say_which_kernels_compute(monkeypatch):
    if build.are_ready():
        assert versions()["native"] in build.place_of_library().name
    monkeypatch.setenv(build.SWITCH, "0")
    assert versions()["native"] is None
