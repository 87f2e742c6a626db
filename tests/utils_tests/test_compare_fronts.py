"""utils.compare_fronts: what it prints, as text and as JSON, and what it refuses."""

import json

import pytest

from spos.core.flags import run_program
from utils import compare_fronts

SPACE = ("--use-se", "--last-conv-after-pooling", "--score-max", "-1")
SMALL = (*SPACE, "--evaluations", "24", "--seeds", "2", "--population-size", "12", "--retain-length", "3")


def test_budgets_as_text_and_json(capsys):
    flags = [*SMALL, "--budgets", "flops:260,400", "--share", "1.5"]
    assert compare_fronts.main(flags) == 0
    title, header, *lines = capsys.readouterr().out.splitlines()
    assert "24 evaluations for each budget alone, 36 for all together, seeds 0 to 1" in title
    assert [line.split()[0] for line in lines] == ["260M", "400M"] and "paired gain" in header
    assert compare_fronts.main([*flags, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    for line, result in zip(lines, results.values()):
        assert f"{result['shared']['mean']:.4f} ({result['shared']['low']:.4f} to" in line


def test_a_front_as_text(capsys):
    assert compare_fronts.main([*SMALL, "--flop-max-m", "400", "--objective", "flops", "--noise", "0.5"]) == 0
    title, _, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("additive fitness with noise 0.5, front against flops, 24 evaluations")
    assert [line.split()[0] for line in lines] == ["surrogate-front", "nsga2", "random"]
    assert lines[1].rstrip().endswith("-")


@pytest.mark.parametrize(
    "flags, message",
    (
        (("--budgets", "flops"), "is not of the form flops:100,150,200"),
        (("--budgets", "latency:3"), "needs a latency table"),
        (("--budgets", "flops:300", "--seeds", "1"), "--seeds must be at least 2"),
        (("--objective", "latency"), "needs --latency-table"),
    ),
)
def test_refusals(flags, message, capsys):
    assert run_program(compare_fronts.main, [*SMALL, *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flags", ((), ("--budgets", "flops:300", "--objective", "flops")))
def test_one_of_both_is_asked_for(flags, capsys):
    with pytest.raises(SystemExit):
        compare_fronts.main([*SMALL, *flags])
    assert "--objective" in capsys.readouterr().err
