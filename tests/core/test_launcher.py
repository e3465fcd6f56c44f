import os

import pytest
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from regraft.core import launcher
from regraft.core.errors import ConfigError

TORCHRUN = {
    **{"TORCHELASTIC_RUN_ID": "photos", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
    **{"GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2"},
}
SRUN = {
    **{"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2"},
    **{"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
}


@pytest.mark.parametrize(("name", "variables"), [("torchrun", TORCHRUN), ("srun", SRUN), ("torchrun", SRUN | TORCHRUN)])
def test_the_place_of_a_process(name, variables, monkeypatch):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    found = launcher.place()
    assert found == launcher.Place(name, 3, 4, 1, 2, 1, 2)
    assert found.overrides == ["trainer.devices=2", "trainer.num_nodes=2"]


@pytest.mark.parametrize("variables", [TORCHRUN, SRUN | {"SLURM_NTASKS": "4"}])
def test_lightning_doesnt_see_the_others_of_a_process_that_works_alone(variables, monkeypatch):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    before = dict(os.environ)
    with launcher.alone():
        assert launcher.place() is None
        assert not SLURMEnvironment.detect()
        assert not TorchElasticEnvironment.detect()
        assert not LightningEnvironment().creates_processes_externally
    assert dict(os.environ) == before


def test_a_process_alone_has_none():
    assert launcher.place() is None
    assert launcher.job_id() is None
    assert launcher.is_new(has_ended=False)


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_the_rank_of_another_process_is_refused(name, monkeypatch):
    monkeypatch.setenv(name, "0")
    launcher.require_alone()
    monkeypatch.setenv(name, "1")
    for check in (launcher.require_alone, launcher.place_in_training):
        with pytest.raises(ConfigError, match=f"^{name}=1 says .* unset {name}"):
            check()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "1"}, "4 processes on 2 nodes, 1 of them on this one. Start as many on each"),
        (TORCHRUN | {"GROUP_WORLD_SIZE": "1"}, "4 processes on 1 nodes, 2 .* whose clocks are 15 s apart: set them"),
        (SRUN | {"SLURM_NTASKS_PER_NODE": ""}, "srun has started 4 tasks, .* Start the tasks with --ntasks-per-node=2"),
    ],
)
def test_nodes_have_as_many_processes_each(variables, reason, monkeypatch):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=reason):
        launcher.place_in_training()
    assert launcher.place().num_processes == 4  # which is all that shares of a store depend on


@pytest.mark.parametrize(
    ("restarts", "has_ended", "is_new"), [("0", True, True), ("0", False, False), ("1", True, False)]
)
def test_a_command_of_torchrun_may_have_been_started_before(restarts, has_ended, is_new, monkeypatch):
    for variable, value in (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": restarts}).items():
        monkeypatch.setenv(variable, value)
    assert launcher.job_id() == "torchrun photos"
    assert launcher.is_new(has_ended=has_ended) is is_new


def test_a_job_of_torchrun_without_a_name_has_that_of_the_first_node(monkeypatch):
    for variable, value in (TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"}).items():
        monkeypatch.setenv(variable, value)
    assert launcher.job_id() == f"torchrun {launcher.agent()}"
    launcher.name_job("torchrun a 1 2")
    assert launcher.job_id() == "torchrun a 1 2"
