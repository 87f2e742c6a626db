"""GPUs: which builds of MXNet can run a card, and what is said about the others."""

import pytest

from spos.engine import gpu


@pytest.mark.parametrize(
    "card, capability, builds",
    [
        ("K80", (3, 7), {"cu101", "cu102"}),
        ("P100", (6, 0), {"cu101", "cu102", "cu110", "cu112", "cu117"}),
        ("V100", (7, 0), {"cu101", "cu102", "cu110", "cu112", "cu117"}),
        ("T4", (7, 5), {"cu101", "cu102", "cu110", "cu112", "cu117"}),
        ("A100", (8, 0), {"cu110", "cu112", "cu117"}),
        ("A10", (8, 6), {"cu110", "cu112", "cu117"}),
        ("L4", (8, 9), {"cu110", "cu112", "cu117"}),
        ("H100", (9, 0), set()),
        ("B200", (10, 0), set()),
        ("RTX 5090", (12, 0), set()),
    ],
)
def test_gpu_problem(card, capability, builds):
    assert {build for build in gpu.CAPABILITY_RANGE if gpu.gpu_problem(capability, build) is None} == builds, card


def test_gpu_problem_names_what_to_do():
    assert gpu.gpu_problem((8, 6), "cu101").endswith("; use cu110 or cu112 or cu117")
    assert "no MXNet 1.9.1 build can" in gpu.gpu_problem((9, 0), "cu112")
    assert "\n" not in gpu.gpu_problem((9, 0), "cu112")


def test_gpu_problem_refuses_an_unknown_build():
    with pytest.raises(ValueError, match="no build 'cu92'; it has cu101, cu102"):
        gpu.gpu_problem((7, 0), "cu92")


def test_compute_caps_are_parsed_and_noise_is_skipped():
    assert gpu.parse_compute_caps("8.6\n 12.0 \n\n") == [(8, 6), (12, 0)]
    assert gpu.parse_compute_caps('Field "compute_cap" is not a valid field to query.\n[N/A]\n') == []


@pytest.mark.parametrize(
    "capabilities, status, words",
    [
        ([(8, 0)], 0, ""),
        ([(9, 0)], 1, "GPU 0: a GPU of compute capability 9.0"),
        ([(8, 0), (9, 0)], 0, "GPU 1: a GPU of compute capability 9.0"),
        ([], 0, "no NVIDIA GPU found"),
    ],
)
def test_gpu_check_fails_only_if_no_gpu_can_run(monkeypatch, capsys, capabilities, status, words):
    monkeypatch.setattr(gpu, "read_compute_capabilities", lambda: capabilities)
    assert gpu.main(["cu112"]) == status
    assert words in capsys.readouterr().out
