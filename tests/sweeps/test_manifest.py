from pathlib import Path

import pytest

from regraft.sweeps import manifest
from regraft.sweeps.manifest import MANIFEST, Job, digest_of, numbered
from written import with_overrides, written_run

JOBS = [Job(0, ("a=1",), "x"), Job(2, ("a=2", "b='c d'"), "y")]


def test_a_manifest_is_read_as_written(tmp_path):
    manifest.write(tmp_path, JOBS)
    assert manifest.read(tmp_path) == JOBS


@pytest.mark.parametrize("content", ["", "{", "[]", '{"jobs": 3}', '{"jobs": [{"number": "x"}]}', "\0\0"])
def test_a_damaged_manifest_is_none(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    assert manifest.read(tmp_path) is None


def test_jobs_are_made_out_by_their_folders(tmp_path):
    run = with_overrides(written_run(tmp_path / "3", [0.1]), ["a=1"])
    (tmp_path / "4").mkdir()
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "config.yaml").write_text("{")
    (tmp_path / "notes").mkdir()
    assert manifest.jobs_in(tmp_path) == [Job(3, ("a=1",), digest_of(run.config))]


def test_a_job_is_done_if_it_is_this_one_finished_with_results(tmp_path):
    run = written_run(tmp_path / "0", [0.1])
    digest = digest_of(run.config)
    assert manifest.is_done(run, digest)
    assert not manifest.is_done(run, "another")
    assert not manifest.is_done(written_run(tmp_path / "1", [0.1], "failed"), digest)
    (run.path / "results.json").write_text('{"metr')
    assert not manifest.is_done(run, digest)


def test_jobs_keep_their_numbers_and_new_ones_take_free_ones():
    wanted = [Job(0, ("a=3",), "z"), Job(0, ("a=2",), "y"), Job(0, ("a=3",), "z")]
    assert [(job.number, job.digest) for job in numbered(wanted, JOBS)] == [(3, "z"), (2, "y"), (3, "z")]


def test_where_a_job_lies_makes_it_no_other_one():
    config = {"seed": 0, "output_dir": "here", "sweep": {"n_trials": 3}}
    assert digest_of(config) == digest_of(config | {"output_dir": "there", "sweep": {}})
    assert digest_of(config) != digest_of(config | {"seed": 1})


def test_going_on_makes_a_job_no_other_one_but_another_checkpoint_does():
    config, folder = {"seed": 0, "ckpt_path": None}, Path("/new/place/sweep-1/3")
    own = config | {"ckpt_path": "/old/sweep-1/3/checkpoints/last.ckpt"}
    other = config | {"ckpt_path": "/old/sweep-1/4/checkpoints/last.ckpt"}
    assert digest_of(own, folder) == digest_of(config | {"ckpt_path": str(folder)}, folder) == digest_of(config)
    assert digest_of(other, folder) == digest_of(other) != digest_of(config)
