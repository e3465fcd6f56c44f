from pathlib import Path

import pytest

from helpers.written import with_overrides, written_run
from regraft.sweeps import manifest
from regraft.sweeps.manifest import MANIFEST, Job, config_hash, is_experiment_key, numbered

CONFIG = {
    "seed": 0,
    "output_dir": "here",
    "sweep": {"n_trials": 3},
    "trainer": {"max_epochs": 2, "enable_progress_bar": True},
    "features": {"cache": "auto", "dir": None, "max_gb": 50},
}
JOBS = [Job(0, ("a=1",), "x"), Job(2, ("a=2", "b='c d'"), "y")]


def test_a_manifest_is_read_as_written(tmp_path):
    manifest.write(tmp_path, JOBS)
    assert manifest.read(tmp_path) == manifest.wanted(tmp_path) == JOBS
    manifest.write(tmp_path, JOBS[1:], JOBS[:1])
    assert manifest.read(tmp_path) == [JOBS[1], JOBS[0]]
    assert manifest.wanted(tmp_path) == JOBS[1:]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"jobs": 3}', '{"jobs": [{"number": "x"}]}', "\0\0"])
def test_a_damaged_manifest_is_none(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    assert manifest.read(tmp_path) is None
    assert manifest.wanted(tmp_path) == []


def test_jobs_are_made_out_by_their_folders(tmp_path):
    run = with_overrides(written_run(tmp_path / "3", [0.1]), ["a=1"])
    (tmp_path / "4").mkdir()
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "config.yaml").write_text("{")
    (tmp_path / "notes").mkdir()
    assert manifest.jobs_in(tmp_path) == [Job(3, ("a=1",), config_hash(run.config))]


def test_a_job_is_done_if_it_is_this_one_finished_with_results(tmp_path):
    run = written_run(tmp_path / "0", [0.1])
    digest = config_hash(run.config)
    assert manifest.is_done(run, digest)
    assert not manifest.is_done(run, "another")
    assert not manifest.is_done(written_run(tmp_path / "1", [0.1], "failed"), digest)
    for damaged in ('{"metr', '{"metrics": {"test/acc": 0.5}}'):
        (run.path / "results.json").write_text(damaged)
        assert not manifest.is_done(run, digest)


def test_jobs_keep_their_numbers_and_new_ones_take_free_ones():
    wanted = [Job(0, ("a=3",), "z"), Job(0, ("a=2",), "y"), Job(0, ("a=3",), "z")]
    assert [(job.number, job.config_hash) for job in numbered(wanted, JOBS)] == [(3, "z"), (2, "y"), (3, "z")]


@pytest.mark.parametrize(
    "changed",
    [
        {"output_dir": "there", "sweep": {}, "resume": {"reset": ["optimizer"]}},
        {"logger": {"csv": {}}, "report": "off", "trust": ["mine"]},
        {"trainer": {"max_epochs": 2, "enable_progress_bar": False}},
        {"features": {"cache": "auto", "dir": "/there", "max_gb": 1}},
    ],
)
def test_where_a_job_lies_and_what_it_shows_makes_it_no_other_one(changed):
    assert config_hash(CONFIG | changed) == config_hash(CONFIG)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"trainer": {"max_epochs": 3}}, {"features": {"cache": "off"}}])
def test_what_its_figures_hang_on_makes_it_another_one(changed):
    assert config_hash(CONFIG | changed) != config_hash(CONFIG)


def test_a_key_is_of_the_experiment_or_not():
    assert all(map(is_experiment_key, ["optimizer.lr", "head", "features.cache", "trainer.max_epochs", "seed"]))
    others = ["hydra/launcher", "hydra.sweep.dir", "sweep", "sweep.n_trials", "logger.csv", "features.dir", "report"]
    assert not any(map(is_experiment_key, [*others, "trainer.enable_progress_bar"]))


def test_going_on_makes_a_job_no_other_one_but_another_checkpoint_does():
    config, folder = {"seed": 0, "ckpt_path": None}, Path("/new/place/sweep-1/3")
    own = config | {"ckpt_path": "/old/sweep-1/3/checkpoints/last.ckpt"}
    other = config | {"ckpt_path": "/old/sweep-1/4/checkpoints/last.ckpt"}
    assert config_hash(own, folder) == config_hash(config | {"ckpt_path": str(folder)}, folder) == config_hash(config)
    assert config_hash(other, folder) == config_hash(other) != config_hash(config)
