"""Installation: what brings missing packages, in a checkout and where the project is installed."""

import pytest
from conftest import ROOT

from spos.core import installation


def test_this_is_a_checkout():
    assert installation.IN_CHECKOUT and installation.ROOT == ROOT


@pytest.mark.parametrize(
    "in_checkout, extra, command",
    (
        (True, "", "sh scripts/setup.sh"),
        (True, "deploy", "sh scripts/setup.sh --deploy"),
        (False, "", "pip install spos"),
        (False, "cluster", "pip install 'spos[cluster]'"),
    ),
)
def test_missing_packages_come_from_where_the_project_came_from(in_checkout, extra, command, monkeypatch):
    monkeypatch.setattr(installation, "IN_CHECKOUT", in_checkout)
    assert installation.install_command(extra) == command
