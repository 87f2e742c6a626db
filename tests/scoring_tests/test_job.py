"""Scoring jobs: in this process, in spawned ones and on Dask workers, and those with other files."""

import os
import shutil
from concurrent.futures import wait
from dataclasses import replace

import numpy as np
import pytest
from calls import refuse
from conftest import TINY, data_flags

from oneshot_nas_network import Supernet
from spos.core.errors import InputError
from spos.core.executors import open_executor
from spos.core.flags import OneLineParser, pick
from spos.data.flags import DataOptions
from spos.data.registry import open_data
from spos.engine.compat import threads_of_each
from spos.engine.gpu import AUTOTUNE
from spos.scoring import job as scoring
from spos.scoring.job import score
from spos.scoring.racing import Race
from spos.scoring.trained import TrainedSupernet
from spos.space.space_file import search_space


def test_threads_are_shared_out_unless_the_user_said(monkeypatch):
    from spos.engine import compat

    monkeypatch.setattr(compat, "physical_cores", lambda: 8)
    for of_user, expected in ((None, ["8", "4", "1"]), ("3", ["3", "3", "3"])):
        monkeypatch.setattr(compat, "THREADS_OF_USER", of_user)
        assert [threads_of_each(n) for n in (1, 2, 16)] == expected


# --- The evaluator of a process ---


@pytest.fixture(scope="module")
def job(work, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    return make_supernet(work, folder).job(folder)


def make_supernet(work, folder):
    """A tiny supernet with initial weights, and the digits of the other tests."""
    options = pick(DataOptions, OneLineParser("", (DataOptions,)).parse_args(tiny_flags(work)))
    space = replace(TINY, num_classes=10)
    net = Supernet(space)
    net.initialize()
    net.save_parameters(str(folder / "model.params"))
    return TrainedSupernet(str(folder / "model.params"), space, options, open_data(options), folder / "lists")


def tiny_flags(work):
    flags = data_flags(work, **{"input-size": 16})
    at = flags.index("--strides")
    return flags[:at] + flags[at + 2 :]


def test_processes_score_like_this_one(job, processes, rng):
    architectures = [job.space.sample(rng) for _ in range(4)]
    here = [score(job, architecture) for architecture in architectures]
    assert [processes.submit(score, job, architecture).result() for architecture in architectures] == here
    assert {accuracy.num_images for accuracy in here} == {32}


def test_a_race_that_cannot_be_won_ends_early(job, rng, monkeypatch):
    architecture = job.space.sample(rng)
    full = score(job, architecture)
    monkeypatch.setattr("spos.scoring.racing.FIRST_LOOK", 8)
    assert score(job, architecture, Race(0, 32, 0.01)) == full
    lost = score(job, architecture, Race(33, 32, 0.01))
    assert lost.num_images == 8 and lost.top1_hits <= full.top1_hits


def test_the_evaluator_is_built_once(job, rng, monkeypatch):
    built = []
    monkeypatch.setattr(scoring, "_evaluators", {})
    monkeypatch.setattr(scoring, "make_evaluator", lambda job, paths: built.append(job) or (lambda *_: "accuracy"))
    other = replace(job, search_on="val")
    for asked in (job, job, other, other, job):
        assert score(asked, job.space.sample(rng)) == "accuracy"
    assert built == [job, other, job]


def test_a_worker_with_other_files_refuses(job, processes, tmp_path, rng):
    architecture = job.space.sample(rng)
    ((file, digest),) = job.supernets
    other = replace(job, supernets=((str(tmp_path / "gone.params"), digest),))
    with pytest.raises(InputError, match="gone.params does not exist there"):
        processes.submit(score, other, architecture).result()
    shutil.copy(file, tmp_path / "other.params")
    with open(tmp_path / "other.params", "r+b") as content:
        content.seek(-1, os.SEEK_END)
        content.write(b"\x07")
    other = replace(job, supernets=(*job.supernets, (str(tmp_path / "other.params"), digest)))
    with pytest.raises(InputError, match="not the supernet that the search began with"):
        processes.submit(score, other, architecture).result()
    other = replace(job, images=(job.images[0], (job.images[1][0], (1, 2))))
    with pytest.raises(InputError, match="other images in its list 'search_val'"):
        processes.submit(score, other, architecture).result()
    other = replace(job, contents=(job.contents[0], ("test", "0" * 64)))
    with pytest.raises(InputError, match="other images in its list 'test'"):
        processes.submit(score, other, architecture).result()


def test_scores_are_for_one_space_one_supernet_and_these_images(job):
    assert set(job.identity) == {"fingerprint", "supernet", "images"}
    changes = {
        "fingerprint": {"space": search_space()},
        "supernet": {"supernets": ((job.supernets[0][0], "f" * 64),)},
        "images": {"images": job.images[:1]},
    }
    for key, change in changes.items():
        other = replace(job, **change).identity
        assert [name for name in other if other[name] != job.identity[name]] == [key]
    ((_, digest),) = job.supernets
    data = replace(job.data, data_dir="/d", num_workers=9)
    elsewhere = replace(job, supernets=(("/b", digest),), lists="/c", data=data)
    assert elsewhere.identity == job.identity
    assert job.identity["supernet"] == digest[:16]


def test_several_supernets_are_the_same_in_any_order(job):
    own, other = job.supernets[0], ("/other", "f" * 64)
    both, turned = (replace(job, supernets=one).identity for one in ((own, other), (other, own)))
    assert both == turned and both["supernet"] not in (job.identity["supernet"], "f" * 16)


def test_the_score_by_several_is_the_mean_of_their_accuracies(work, job, tmp_path, rng):
    jobs = [job, make_supernet(work, tmp_path).job(tmp_path)]
    together = replace(job, supernets=tuple(one.supernets[0] for one in jobs))
    for architecture in (job.space.sample(rng) for _ in range(3)):
        each, mean = [score(one, architecture) for one in jobs], score(together, architecture)
        assert mean.top1_hits == sum(one.top1_hits for one in each) and mean.top1 == np.mean([a.top1 for a in each])
        assert mean.top5 == np.mean([a.top5 for a in each]) and (mean.num_images, mean.num_supernets) == (32, 2)


@pytest.mark.parametrize("of_user, expected", ((None, "0"), ("2", "2")))
def test_on_gpus_kernels_are_chosen_by_rule_so_that_all_processes_choose_the_same(job, monkeypatch, of_user, expected):
    monkeypatch.setattr(scoring.mx, "gpu", scoring.mx.cpu)  # none is here
    monkeypatch.setenv(AUTOTUNE, of_user or "")  # puts back what there is
    if of_user is None:
        monkeypatch.delenv(AUTOTUNE)
    scoring.make_evaluator(job)
    assert os.environ.get(AUTOTUNE) == of_user  # a CPU has nothing to tune
    scoring.make_evaluator(replace(job, on_gpu=True))
    assert os.environ[AUTOTUNE] == expected


# --- Dask ---


def test_calls_of_a_dead_worker_are_made_elsewhere(reach_calls, cluster, job, rng):
    """Also what a worker raises arrives, and its scores are those of this process."""
    for _ in range(2):
        cluster.add_worker()
    with open_executor(1, "1", cluster.address) as executor:
        with pytest.raises(InputError, match="^bad input$"):
            executor.submit(refuse).result()
        architectures = [job.space.sample(rng) for _ in range(12)]
        futures = [executor.submit(score, job, architecture) for architecture in architectures]
        wait(futures[:1])
        cluster.kill_worker(0)
        assert [future.result() for future in futures] == [score(job, architecture) for architecture in architectures]
