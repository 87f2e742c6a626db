"""Architectures as values: from text, to rows, and back."""

import numpy as np
import pytest

from spos.core.errors import InputError
from spos.space.architecture import Architecture, architecture_of, choices_of, format_choices, parse_choices


@pytest.mark.parametrize("text", ("0, 3, 1", "0,3,1", "[0, 3, 1]", "(0 3 1)", " 0 ,3,1 "))
def test_choices_are_read_in_any_form(text):
    assert parse_choices(text, "block choices") == (0, 3, 1)


@pytest.mark.parametrize("text", ("0, x", "0.5", "1;2", "1-2"))
def test_what_is_no_integer_is_refused(text):
    with pytest.raises(InputError, match="block choices '.*' must be integers separated by commas"):
        parse_choices(text, "block choices")


def test_text_and_rows_give_an_architecture_back(rng):
    for _ in range(20):
        one = Architecture(*(tuple(rng.integers(0, 10, 20)) for _ in range(2)))
        assert Architecture.parse(format_choices(one.block_choices), format_choices(one.channel_choices)) == one
        assert architecture_of(choices_of(one)) == one


def test_numbers_of_numpy_are_integers():
    one = Architecture(tuple(np.array([1, 2])), tuple(np.array([0, 3], dtype=np.int8)))
    assert all(type(gene) is int for gene in one.genes)
    assert one == Architecture((1, 2), (0, 3)) and hash(one) == hash(Architecture((1, 2), (0, 3)))
    assert str(one) == "blocks 1, 2 | channels 0, 3"


def test_genes_are_blocks_and_then_channels():
    assert Architecture((1, 2), (3, 4)).genes == (1, 2, 3, 4)
