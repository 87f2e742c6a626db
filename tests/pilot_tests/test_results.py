"""Which file is deployed, and what a result must keep."""

import pytest
from pilot_plans import plan

from spos.core.errors import InputError
from spos.pilot.results import check_kept, choose_file
from spos.space.cost import Cost

FASTER, SLOWER = {"model": 1.0, "model-int8": 0.4}, {"model": 1.0, "model-int8": 1.3}


def held_out(lost):
    return {"model": 0.9, "model-int8": 0.9 - lost}


@pytest.mark.parametrize(
    "lost, latency_ms, asked, chosen, why",
    (
        (0.005, FASTER, {}, "model-int8", "faster, and loses 0.50%"),
        (-0.01, FASTER, {}, "model-int8", "faster, and loses 0.00%"),
        (0.02, FASTER, {}, "model", "INT8 loses 2.00% on held-out images"),
        (0.005, SLOWER, {}, "model", "INT8 is smaller, but not faster here"),
        (0.005, SLOWER, {"model_size_max": 2_000_000}, "model-int8", "smaller, and loses 0.50%"),
    ),
)
def test_the_file_that_is_deployed(lost, latency_ms, asked, chosen, why):
    found = choose_file(plan(asked), held_out(lost), latency_ms)
    assert found[0] == chosen and why in found[1]


def test_how_much_may_be_lost_is_a_flag():
    assert choose_file(plan(int8_loss_max=0.05), held_out(0.02), FASTER)[0] == "model-int8"


@pytest.mark.parametrize(
    "asked, what",
    (
        ({"flops_max_m": 1.0}, "2,000,000 FLOPs"),
        ({"params_max_m": 0.1}, "300,000 params"),
        ({"model_size_max": 10}, "20 bytes"),
        ({"latency_max": 3.0}, "3.5 ms by the latency table"),
    ),
)
def test_a_limit_that_is_not_kept_is_an_error(tmp_path, asked, what):
    (tmp_path / "model.onnx").write_bytes(bytes(20))
    cost = Cost(2_000_000, 300_000)
    limits = {"flops_max_m": 2.0, "params_max_m": 0.3, "model_size_max": 20, "latency_max": 3.5}
    check_kept(plan(limits), cost, 3.5, tmp_path / "model.onnx")
    with pytest.raises(InputError, match=f"has {what}, more than the limit of [0-9.,]+$"):
        check_kept(plan(asked), cost, 3.5, tmp_path / "model.onnx")
