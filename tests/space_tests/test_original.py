"""Names of parameters in files of the original project, and back."""

import pytest

from oneshot_nas_network import Supernet
from spos.space.original import has_selectors, with_selectors, without_selectors

MOVED = (
    ("features.3.block_sn_3x3.main_branch.0.weight", "features.3.block_sn_3x3.main_branch.0.weight"),
    ("features.3.block_sn_3x3.main_branch.1.gamma", "features.3.block_sn_3x3.main_branch.2.gamma"),
    ("features.3.block_sx_3x3.main_branch.3.weight", "features.3.block_sx_3x3.main_branch.4.weight"),
    ("features.3.block_sx_3x3.main_branch.8.gamma", "features.3.block_sx_3x3.main_branch.10.gamma"),
    ("features.3.block_sx_3x3.proj_branch.3.weight", "features.3.block_sx_3x3.proj_branch.3.weight"),
    ("features.0.weight", "features.0.weight"),
    ("output.0.bias", "output.0.bias"),
)


@pytest.mark.parametrize("own, theirs", MOVED)
def test_names_behind_a_selector_are_moved(own, theirs):
    assert with_selectors(own) == theirs and without_selectors(theirs) == own


def test_all_names_of_a_supernet_come_back(space):
    names = list(Supernet(space)._collect_params_with_prefix())
    there = [with_selectors(name) for name in names]
    assert len(set(there)) == len(names)
    assert [without_selectors(name) for name in there] == names
    assert has_selectors(there) and not has_selectors(names)


def test_names_without_main_branches_have_no_selectors():
    assert not has_selectors(["features.0.weight", "output.0.bias"])
