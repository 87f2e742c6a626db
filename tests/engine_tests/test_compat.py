"""spos.engine.compat and spos.engine.gpu: what makes MXNet 1.9.1 work on Pythons younger than it is."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import ROOT

from spos.engine import compat, gpu

CGROUP_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_{}_us"
# Four cores of two threads each, numbered as Linux does.
HYPERTHREADS = {
    f"/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i % 4},{i % 4 + 4}" for i in range(8)
}

TRAIN_PACK_AND_SCHEDULE = """
from spos.engine.compat import import_gluoncv, mx
import numpy as np, sys
from mxnet import autograd, gluon, recordio

net = gluon.nn.HybridSequential()
net.add(gluon.nn.Conv2D(4, 3), gluon.nn.BatchNorm(), gluon.nn.GlobalAvgPool2D(), gluon.nn.Dense(2))
net.initialize()
net.hybridize()
trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
loss = gluon.loss.SoftmaxCrossEntropyLoss()
with autograd.record():
    value = loss(net(mx.nd.ones((2, 3, 8, 8))), mx.nd.array([0, 1]))
before = net[0].weight.data().copy()
value.backward()
trainer.step(2)
assert np.isfinite(value.asnumpy()).all()
assert not np.array_equal(before.asnumpy(), net[0].weight.data().asnumpy())
assert str(before.shape) == "(4, 3, 3, 3)"

path = sys.argv[1]
image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
writer = recordio.MXIndexedRecordIO(path + ".idx", path + ".rec", "w")
writer.write_idx(0, recordio.pack_img(recordio.IRHeader(0, 3.0, 0, 0), image, img_fmt=".png"))
writer.close()
header, unpacked = recordio.unpack_img(recordio.MXIndexedRecordIO(path + ".idx", path + ".rec", "r").read_idx(0))
assert header.label == 3.0 and np.array_equal(unpacked, image)

gluoncv = import_gluoncv()
from gluoncv.utils import LRScheduler, LRSequential

schedule = LRSequential([
    LRScheduler("linear", base_lr=0, target_lr=1, nepochs=1, iters_per_epoch=10),
    LRScheduler("cosine", base_lr=1, target_lr=0, nepochs=9, iters_per_epoch=10),
])
assert schedule(0) == 0 and schedule(10) == 1 and schedule(99) < 0.01
assert gluoncv.model_zoo.get_model("mobilenet1.0", classes=10) is not None
"""


def run_python(*arguments, **environ):
    """Run a fresh Python from the repository root; a variable given as None is removed."""
    merged = {**os.environ, **environ}
    merged = {name: value for name, value in merged.items() if value is not None}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=merged, capture_output=True, text=True, timeout=100)


def threads_after_import(**environ):
    code = "import os, spos.engine.compat; print(os.environ['OMP_NUM_THREADS'], os.environ['MXNET_CPU_PARALLEL_SIZE'])"
    answer = run_python("-c", code, **environ)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.split()


def test_mxnet_trains_packs_and_schedules(tmp_path):
    answer = run_python("-c", TRAIN_PACK_AND_SCHEDULE, str(tmp_path / "one"))
    assert (answer.returncode, answer.stderr) == (0, "")


def test_importing_warns_of_nothing():
    answer = run_python("-W", "error", "-c", "from spos.engine import compat; compat.import_gluoncv()")
    assert (answer.returncode, answer.stderr) == (0, "")


def test_unset_thread_variables_are_set():
    cores = str(compat.physical_cores())
    assert threads_after_import(OMP_NUM_THREADS=None, MXNET_CPU_PARALLEL_SIZE=None) == [cores, "2000000000"]


def test_thread_variables_of_the_user_are_kept():
    assert threads_after_import(OMP_NUM_THREADS="1", MXNET_CPU_PARALLEL_SIZE="7") == ["1", "7"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPU affinity is a Linux notion")
def test_physical_cores_follow_the_affinity():
    code = "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); from spos.engine import compat; "
    answer = run_python("-c", code + "print(compat.physical_cores())")
    assert answer.stdout == "1\n", answer.stderr


@pytest.mark.parametrize(
    "files, expected",
    [
        ({}, 8),
        (HYPERTHREADS, 4),
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"/sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({**HYPERTHREADS, "/sys/fs/cgroup/cpu.max": "600000 100000"}, 4),
        ({CGROUP_V1.format("quota"): "350000", CGROUP_V1.format("period"): "100000"}, 3),
        ({CGROUP_V1.format("quota"): "-1", CGROUP_V1.format("period"): "100000"}, 8),
    ],
)
def test_physical_cores_of_eight_processors(monkeypatch, files, expected):
    def read(path):
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    monkeypatch.setattr(compat, "_read", read)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert compat.physical_cores() == expected


def test_only_missing_numpy_names_are_set():
    fake = types.SimpleNamespace(
        bool="theirs", in1d="theirs", pmt="theirs", all=all, prod=None, round=None, vstack=None, trapezoid=None
    )
    compat.add_numpy_names(fake)
    assert (fake.bool, fake.in1d, fake.pmt) == ("theirs", "theirs", "theirs")
    assert (fake.int, fake.PINF, fake.alltrue) == (int, float("inf"), all)


def test_numpy_names_are_the_plain_types():
    assert [vars(np)[name] for name in ("bool", "int", "float", "object")] == [bool, int, float, object]


def test_financial_functions_say_where_they_went():
    with pytest.raises(NotImplementedError, match="numpy.npv was removed.*numpy-financial"):
        np.npv(0.1, [1, 2])


def test_distutils_versions_compare():
    from distutils.version import LooseVersion, StrictVersion

    assert LooseVersion("1.9.1") < LooseVersion("1.10") and StrictVersion("1.26.4") >= StrictVersion("1.6.0")


@pytest.mark.parametrize("version", [(3, 7, 9), (3, 13, 0), (4, 0, 0), (2, 7, 18)])
def test_other_pythons_are_refused(version):
    with pytest.raises(ImportError, match=rf"this is Python {version[0]}\.{version[1]}, .*3\.8 to 3\.12.*setup\.sh"):
        compat.check_python(version)


@pytest.mark.parametrize("minor", range(8, 13))
def test_supported_pythons_are_accepted(minor):
    compat.check_python((3, minor, 0))


def test_numpy_2_is_refused():
    compat.check_numpy("1.26.4")
    with pytest.raises(ImportError, match=r"this is NumPy 2\.1\.0, .*setup\.sh"):
        compat.check_numpy("2.1.0")


def test_missing_mxnet_is_one_clear_line():
    answer = run_python("-c", "import sys; sys.modules['mxnet'] = None; import spos.engine.compat")
    assert "ImportError: module 'mxnet' is not installed for " in answer.stderr
    assert "sh scripts/setup.sh" in answer.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "message, expected",
    [
        ("libgomp.so.1: cannot open shared object file: No such file or directory", "Debian package libgomp1"),
        ("libquadmath.so.0: cannot open shared object file: No such file", "Debian package libquadmath0"),
        ("libGL.so.1: cannot open shared object file: No such file", "Debian package libgl1"),
        ("libcudnn.so.7: cannot open shared object file: No such file", "libcudnn.so.7 is missing"),
        ("libmxnet.so: undefined symbol: x", "libmxnet.so: undefined symbol: x"),
    ],
)
def test_a_missing_system_library_is_named(message, expected):
    assert expected in compat.missing_library_advice(OSError(message))


def test_nothing_is_preloaded_for_the_cpu_wheel_or_a_system_cuda():
    assert gpu.preload_cuda_libraries(None) == gpu.preload_cuda_libraries("cu101") == []


FREED_CHUNKS = """
import gc
from spos.engine.devices import make_devices
from spos.engine.compat import mx
from spos.engine.flags import DeviceOptions

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 2**20

make_devices(DeviceOptions(low_memory={low_memory}))
before = resident()
chunks = [mx.nd.ones((2**20,)) for _ in range(100)]
mx.nd.waitall()
del chunks[:99]
gc.collect()
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the memory of a process")
@pytest.mark.parametrize("flag, inherited, is_kept", ((False, "", True), (True, "", False), (False, "1", False)))
def test_freed_memory_is_kept_unless_memory_is_low(flag, inherited, is_kept):
    """400 MiB in pieces, all freed but the last: by the flag, or by the variable that processes inherit."""
    done = subprocess.run(
        [sys.executable, "-c", FREED_CHUNKS.format(low_memory=flag)],
        env={**os.environ, compat.LOW_MEMORY: inherited},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (int(done.stdout) > 300) == is_kept, done.stdout
