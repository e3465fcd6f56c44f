import time
from concurrent.futures import ThreadPoolExecutor

from omegaconf import OmegaConf

from regraft.sweeps import manifest
from regraft.sweeps.manifest import Job
from regraft.sweeps.planning import SweepPlan

FIRST = Job(0, ("a=1",), "1")


def plan_in(folder):
    """Returns a plan that only numbers jobs and keeps them, for which Hydra isn't needed."""
    return SweepPlan(folder, OmegaConf.create({}), None, [])


def test_a_changed_space_is_said_and_what_is_removed_keeps_its_number(tmp_path, capsys):
    plan_in(tmp_path).numbered([FIRST, Job(0, ("a=2",), "2")])
    assert capsys.readouterr().out == ""
    jobs = plan_in(tmp_path).numbered([FIRST, Job(0, ("a=3",), "3")])
    assert [job.number for job in jobs] == [0, 2]
    assert capsys.readouterr().out == (
        "added: job 2, a=3\nremoved: job 1, a=2, which hasn't finished; the sweep's own command finishes it\n"
    )
    assert sorted(job.number for job in manifest.read(tmp_path)) == [0, 1, 2]
    plan_in(tmp_path).numbered([FIRST, Job(0, ("a=3",), "3")])
    assert capsys.readouterr().out == ""
    assert [job.number for job in plan_in(tmp_path).numbered([FIRST, Job(0, ("a=2",), "2")])] == [0, 1]
    assert "removed: job 2, a=3, which" in capsys.readouterr().out


def test_two_who_change_a_sweep_at_once_share_no_number(tmp_path, monkeypatch):
    known = SweepPlan.known

    def slowly(self):
        found = known(self)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(SweepPlan, "known", slowly)
    with ThreadPoolExecutor() as pool:
        wanted = [[FIRST, Job(0, (f"a={value}",), str(value))] for value in (2, 3)]
        list(pool.map(lambda jobs: plan_in(tmp_path).numbered(jobs), wanted))
    kept = manifest.read(tmp_path)
    assert sorted(job.number for job in kept) == [0, 1, 2]
    assert {job.config_hash for job in kept} == {"1", "2", "3"}


def test_a_damaged_manifest_is_said_once(tmp_path, caplog):
    (tmp_path / manifest.MANIFEST).write_text("{")
    plan_in(tmp_path).numbered([FIRST])
    assert caplog.text.count("is damaged; it is rebuilt") == 1
