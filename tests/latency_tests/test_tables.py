"""Latency tables of several input sizes: what they are read from, what is refused, and what a search does with them."""

import pytest
from conftest import TINY
from sized_spaces import SIZED

from latency_tests.test_table import make_table
from spos.core.errors import InputError
from spos.latency.table import LatencyTable
from spos.latency.tables import LatencyTables, files_of, read_latency
from spos.runs.files import write_json
from spos.sampling.limits import Constraints
from spos.search.domain import Domain
from spos.search.flags import ConstraintOptions, SearchOptions, make_domain
from spos.search.session import latency_digest
from spos.space.cost import TimedCost, cost_table


@pytest.fixture
def files(tmp_path):
    """A table of each size, the largest first, and one of another space."""
    for name, space in (("16", SIZED.at(16)), ("12", SIZED.at(12)), ("other", TINY)):
        write_json(tmp_path / f"{name}.json", make_table(space, seed=len(name)).to_json())
    return tmp_path


def named(files, *names):
    return ",".join(str(files / f"{name}.json") for name in names)


def test_latency_is_that_of_the_size(files, rng):
    tables = read_latency(named(files, "16", "12"), SIZED)
    domain = Domain(SIZED, Constraints(score_max=None), latency=tables)
    for _ in range(20):
        drawn = domain.sample(rng)
        table = LatencyTable.read(files / f"{drawn.input_size}.json")
        assert domain.cost(drawn) == TimedCost(*cost_table(SIZED).cost(drawn), table.of(drawn))
        assert domain.cost_fields(drawn)["latency_ms"] == table.latency_ms(drawn) == tables.of(drawn) / 1e6
    assert list(tables.to_json()) == ["12", "16"]


def test_flags_name_a_file_of_each_size(files, rng):
    limits = ConstraintOptions(latency_table=named(files, "12", "16"), score_max=-1.0, flop_max=-1.0, latency_max=0.6)
    domain = make_domain(SIZED, SearchOptions(), limits)
    domain.check()
    assert all(domain.cost(domain.sample(rng)).latency_ms <= 0.6 for _ in range(20))
    digest = latency_digest(limits.latency_table, SIZED)["latency_table_sha256"]
    assert digest.count(",") == 1 and len(digest) == 129


@pytest.mark.parametrize(
    "names, words",
    (
        (("16",), "tables are for 16 px, the space has 12, 16; give a table for each size"),
        (("16", "16"), "two latency tables are for 16 px"),
        (("12", "16", "16"), "two latency tables"),
    ),
)
def test_other_sizes_are_refused(files, names, words):
    limits = ConstraintOptions(latency_table=named(files, *names))
    with pytest.raises(InputError, match=words):
        make_domain(SIZED, SearchOptions(), limits)


def test_tables_that_predict_badly_are_refused(files):
    with pytest.raises(InputError, match="off by 3.0%"):
        read_latency(named(files, "12", "16"), SIZED, 0.01)


def test_a_space_of_one_size_has_one_file_whatever_its_name():
    assert files_of("a,b.json", TINY) == ("a,b.json",)
    assert files_of("a.json, b.json", SIZED) == ("a.json", "b.json")


def test_a_table_of_several_sizes_is_refused():
    with pytest.raises(InputError, match="a latency table is of one input size"):
        make_table(SIZED)


def test_the_tables_must_be_of_the_space(files, rng):
    tables = LatencyTables((make_table(TINY), LatencyTable.read(files / "12.json")))
    domain = Domain(SIZED, latency=tables)  # TINY has the strides and layers of SIZED at 16 px
    assert domain.cost(SIZED.sample(rng)).latency_ms > 0
    with pytest.raises(InputError, match="tables are for 12, 16 px, the space has 16"):
        tables.check(TINY, ())
