import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher

from helpers.command_line import run_main
from helpers.small import SMALL, without
from helpers.written import written_run
from regraft.sweeps.grid_random import grid_search
from regraft.sweeps.launching import JobLauncher
from regraft.sweeps.locks import is_stop_requested, job_lock
from regraft.sweeps.outcomes import JobResult

FINE = JobResult("ok", "fine")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("regraft.sweeps.launching._LOOK_SECONDS", 0.01)


class Launcher:
    """Runs a batch as told; what it raises is a batch whose worker was killed."""

    def __init__(self, *batches):
        self._batches = list(batches)
        self.launched = []

    def launch(self, overrides, initial_job_idx):
        self.launched.append([each[-1] for each in overrides])
        return [SimpleNamespace(return_value=outcome) for outcome in self._batches.pop(0)()]


def killed(folder, *begun):
    def launch():
        for number in begun:
            with job_lock(folder / str(number)):
                pass
        raise RuntimeError("a worker was\nterminated")

    return launch


def outcomes_of(plan, *batches, n_jobs=None, **more):
    search = grid_search(None)
    search.begin(plan, 1)
    launcher = Launcher(*batches)
    launching = JobLauncher(launcher, plan.folder, n_jobs, **more)
    launching.run(search.ask(), search)
    return launching.results, launcher.launched


def test_jobs_that_lost_their_process_go_on(plan):
    plan = plan("a=1,2")
    outcomes, launched = outcomes_of(plan, killed(plan.folder, 0, 1), lambda: [FINE, FINE])
    assert outcomes == {0: FINE, 1: FINE}
    assert launched == [["hydra.sweep.subdir=0", "hydra.sweep.subdir=1"]] * 2


def test_what_finished_before_a_batch_was_lost_is_not_run_again(plan):
    plan = plan("a=1,2")
    written_run(plan.folder / "0", [0.5])
    outcomes, launched = outcomes_of(plan, killed(plan.folder, 0, 1), lambda: [FINE])
    assert outcomes[0].status == "ok"
    assert launched[1] == ["hydra.sweep.subdir=1"]


def test_a_job_that_always_loses_its_process_is_given_up_and_those_that_waited_are_not(plan):
    plan = plan("a=1,2")
    batches = [killed(plan.folder, 0), killed(plan.folder, 0), lambda: [FINE], killed(plan.folder, 0)]
    outcomes, launched = outcomes_of(plan, *batches)
    assert launched[2:] == [["hydra.sweep.subdir=1"], ["hydra.sweep.subdir=0"]]
    assert outcomes == {0: JobResult("stopped", "its process was lost (a worker was terminated)"), 1: FINE}


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_lost_job_stops_the_others_if_the_first_failure_is_to(plan, fail_fast):
    plan = plan("a=1,2")
    batches = [killed(plan.folder, 0), killed(plan.folder, 0), lambda: [FINE]]
    outcomes_of(plan, *batches, fail_fast=fail_fast)
    assert is_stop_requested(plan.folder) == fail_fast


def test_a_job_that_another_one_takes_along_again_and_again_is_run_alone(plan):
    plan = plan("a=1,2")
    together = killed(plan.folder, 0, 1)
    outcomes, launched = outcomes_of(plan, together, together, killed(plan.folder, 0), lambda: [FINE])
    assert [outcomes[number].status for number in (0, 1)] == ["stopped", "ok"]
    assert list(map(len, launched)) == [2, 2, 1, 1]


def test_a_launcher_that_never_starts_anything_is_given_up(plan):
    outcomes, launched = outcomes_of(plan("a=1,2"), *[killed(None)] * 2)
    assert set(outcomes.values()) == {JobResult("stopped", "it wasn't launched (a worker was terminated)")}
    assert len(launched) == 2


def test_what_still_runs_when_a_launcher_fails_is_waited_for(plan, monkeypatch):
    plan = plan("a=1,2")
    run = written_run(plan.folder / "1", [0.5])
    run.write_state({"status": "running", "pid": os.getpid(), "host": socket.gethostname()})
    looks = iter([lambda: None] * 4 + [lambda: written_run(run.path, [0.5])] + [lambda: None] * 9)
    monkeypatch.setattr("regraft.sweeps.launching.time.sleep", lambda seconds: next(looks)())
    outcomes, _ = outcomes_of(plan, killed(plan.folder, 0, 1), lambda: [FINE])
    assert [outcomes[number].status for number in (0, 1)] == ["ok", "ok"]
    assert len(list(looks)) == 14 - 5 - 2


def test_a_launcher_is_given_as_many_as_are_asked_for(plan):
    outcomes, launched = outcomes_of(plan("a=1,2,3"), lambda: [FINE, FINE], lambda: [FINE], n_jobs=2)
    assert list(map(len, launched)) == [2, 1]
    assert outcomes == dict.fromkeys(range(3), FINE)


def test_what_fails_in_this_very_process_is_no_lost_process(plan):
    class InThisProcess(BasicLauncher):
        def launch(self, overrides, initial_job_idx):
            raise OSError("no space left")

    search = grid_search(None)
    search.begin(plan("a=1,2"), 1)
    launching = JobLauncher(InThisProcess(), search._folder, None)
    launching.run(search.ask(), search)
    assert launching.results == dict.fromkeys(range(2), JobResult("failed", "no space left"))


def test_an_interrupt_is_not_taken_for_a_lost_process(plan):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        outcomes_of(plan("a=1,2"), interrupted)


GOLDEN = Path(__file__).with_name("slurm_script.sh")
_SBATCH = """#!/bin/sh
cp "$1" "$(dirname "$0")/script.sh"
echo "no such partition" >&2
exit 1
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm that keeps the script that it is given, and refuses it."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, content in (("srun", "#!/bin/sh\n"), ("sbatch", _SBATCH)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_slurm_is_given_an_array_of_jobs(slurm, capsys):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    keys = {"partition": "gpu", "gpus_per_node": 1, "timeout_min": 240, "array_parallelism": 8}
    arguments = ["hydra/launcher=submitit_slurm", *(f"hydra.launcher.{key}={value}" for key, value in keys.items())]
    code, out, err = run_main(["train", "-m", *SMALL, "seed=1,2", *arguments], capsys)
    assert code == 1
    assert out.count("it wasn't launched (no such partition)") == 2, err
    (sweep,) = Path("outputs/digits-simple_cnn").resolve().iterdir()
    script = (slurm / "script.sh").read_text().replace(str(sweep), "SWEEP").replace(sys.executable, "PYTHON")
    assert script == GOLDEN.read_text()


def test_a_launcher_that_is_not_installed_is_said_to_be_an_extra(capsys):
    code, _, err = run_main(["train", "-m", "seed=1,2", "hydra/launcher=rq"], capsys)
    assert code == 1
    assert err.startswith("regraft: hydra/launcher: got 'rq'; allowed: basic;")
    assert "pip install 'regraft[joblib]'" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "arguments"),
    [
        ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
        ("hydra_ray_launcher", ["hydra/launcher=ray"]),
    ],
)
@pytest.mark.parametrize("search", [["sweep=grid"], ["sweep=optuna", "sweep.sampler=grid"]])
@pytest.mark.filterwarnings("default")  # theirs
def test_a_sweep_in_processes_of_a_launcher(plugin, arguments, search, capsys):
    pytest.importorskip(f"hydra_plugins.{plugin}")
    code, out, _ = run_main(
        ["train", "-m", *without("data.fraction"), *search, "data.shots=9,100000", *arguments], capsys
    )
    assert code == 1
    table = out[out.index("Sweep of ") :]
    assert table.splitlines()[0].endswith(": 1 ok, 1 failed")
    (failed,) = [line for line in table.splitlines() if "  failed  " in line]
    assert "data.shots: got 100000" in failed
    (sweep,) = Path("outputs/digits-simple_cnn").resolve().iterdir()
    assert "Traceback" in (sweep / failed.split()[0] / "traceback.txt").read_text()
