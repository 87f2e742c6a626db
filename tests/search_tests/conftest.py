"""Searches that several tests read."""

import pytest

from search_tests.test_searcher import Evaluator, genetic, make_searcher
from spos.scoring.racing import Racing


@pytest.fixture
def old(tmp_path):
    return make_searcher(tmp_path / "old", Evaluator(), racing=Racing(6)).run(genetic(3))
