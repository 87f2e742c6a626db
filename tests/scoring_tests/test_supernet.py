"""Supernets from their files: those of another space, and those whose training diverged."""

import numpy as np
import pytest
from conftest import TINY, fill_parameters

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.engine.compat import mx
from spos.engine.parameters import load_arrays, save_arrays, save_parameters
from spos.scoring.supernet import check_supernet, load_supernet

CPU = (mx.cpu(),)


@pytest.fixture
def supernet(tmp_path):
    net = Supernet(TINY)
    fill_parameters(net)
    save_parameters(tmp_path / "model.params", net)
    return str(tmp_path / "model.params")


def test_a_whole_file_is_loaded(supernet):
    check_supernet(supernet, TINY)
    assert load_supernet(supernet, TINY, CPU).space == TINY


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("part", ("weight", "running_var"))
def test_one_value_that_is_no_number_is_enough_to_be_refused(supernet, value, part):
    arrays = load_arrays(supernet)
    name = next(name for name in arrays if name.endswith(part))
    broken = arrays[name].asnumpy()
    broken.flat[-1] = value
    save_arrays(supernet, {**arrays, name: mx.nd.array(broken)})
    for read in (lambda: check_supernet(supernet, TINY), lambda: load_supernet(supernet, TINY, CPU)):
        with pytest.raises(InputError, match=f"1 of {len(arrays)} parameters are NaN or infinite, the first is {name}"):
            read()
