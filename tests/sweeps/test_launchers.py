"""Launchers of other packages: the script that Slurm would be given, and (`-m slow`) sweeps by each of them."""

import os
import sys
from pathlib import Path

import pytest

from helpers.command_line import run_main
from helpers.small import SMALL, without

GOLDEN = Path(__file__).with_name("slurm_script.sh")
_SBATCH = """#!/bin/sh
cp "$1" "$(dirname "$0")/script.sh"
echo "no such partition" >&2
exit 1
"""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("regraft.sweeps.launching._LOOK_SECONDS", 0.01)


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


@pytest.mark.filterwarnings("ignore:The `srun` command is available")  # Lightning's hint to whoever submits
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
    assert err.startswith("regraft: hydra/launcher: unknown launcher 'rq'.")
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
