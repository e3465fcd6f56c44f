import pytest
import yaml

from regraft.sweeps.handles import find_sweep, to_resume_sweep
from regraft.sweeps.manifest import COMMAND, MANIFEST


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "outputs" / "digits" / "sweep-2026-1a2b3c"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    hydra = {
        "overrides": {"hydra": ["hydra.mode=MULTIRUN", "hydra/launcher=joblib"], "task": ["a=1,2", "seed=0"]},
        "runtime": {
            "config_sources": [{"path": "/mine", "provider": "command-line"}, {"path": "x", "provider": "main"}]
        },
        "job": {"config_name": "train"},
    }
    (folder / COMMAND).write_text(yaml.safe_dump({"hydra": hydra}))
    return folder


def test_a_sweep_is_found_by_its_path_and_by_a_part_of_its_name(sweep):
    assert find_sweep(str(sweep), "outputs") == sweep
    assert find_sweep("1a2b3c", "outputs") == sweep
    assert find_sweep("nothing", "outputs") is None
    assert find_sweep(str(sweep / "0"), "outputs") is None


def test_a_resumed_sweep_is_its_command_with_what_is_given_now(sweep):
    verb, arguments = to_resume_sweep([f"run={sweep}", "seed=3", "sweep.fail_fast=true"])
    assert verb == "train"
    assert arguments == [
        *("--multirun", "--config-dir", "/mine", "hydra/launcher=joblib", "a=1,2"),
        *("seed=3", "sweep.fail_fast=true", f"hydra.sweep.dir='{sweep}'"),
    ]


def test_what_is_no_sweep_is_left_to_others(sweep):
    assert to_resume_sweep(["run=last"]) is None
    assert to_resume_sweep(["seed=3"]) is None


def test_a_sweep_that_lost_its_command_says_so(sweep):
    (sweep / COMMAND).write_text("[")
    with pytest.raises(ValueError, match="damaged or gone"):
        to_resume_sweep([f"run={sweep}"])
