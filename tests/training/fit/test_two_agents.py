"""Two agents of torchrun on one machine, as two machines."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import regraft
from helpers.noted_batches import noted
from helpers.ranks import train_by_ranks
from helpers.small import without
from regraft.runs.folder import Run

STRATEGIES = ("none", "gradual", "lp_ft", "layerwise", "last_stages", "linear_probe", "up_to")
EXACT = [
    *without("trainer", "freezing", "data.fraction", "trainer.max_epochs"),
    *("data.fraction=0.14", "model.batch_norm=false", "head=linear", "trainer=cpu", "trainer.precision=64-true"),
    *("trainer.max_epochs=4", "trainer.enable_progress_bar=false", "features.cache=off", "report=off"),
]
NOTING = ["+callbacks.noting._target_=helpers.noted_batches.NoteBatches", "trust=[helpers.noted_batches]"]


def two_agents(words: list[str], *options: str) -> list[int]:
    """Returns how two agents with a process each end; their outputs are in agent0.log and agent1.log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for node in (0, 1):
        agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *options]
        agent += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", f"--rdzv-id={port}"]
        with Path(f"agent{node}.log").open("w") as log:
            command = [*agent, "--local-addr=127.0.0.1", "-m", "regraft", *words]
            places = os.pathsep.join(
                [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            )
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": places}
            started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment))
    return [agent.wait(timeout=300) for agent in started]


def largest_difference(one: Run, other: Run) -> float:
    weights = [torch.load(run.last_ckpt, weights_only=True)["state_dict"] for run in (one, other)]
    return max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0])


def assert_trained_as_one_process(words: list[str]) -> None:
    """Checks the run in the folder `two`, of two processes, against one of a single process."""
    batches = noted([0, 1])
    for rank in (0, 1):
        Path(f"batches-{rank}.csv").unlink()
    one = regraft.train([*words, "data.batch_size=16"])
    assert noted([0]) == batches
    assert largest_difference(one, Run(Path("two").resolve())) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_machines_train_as_one_process(strategy):
    words = [*EXACT, *NOTING, f"freezing={strategy}", *(["freezing.until=conv2"] if strategy == "up_to" else [])]
    assert two_agents(["train", *words, "data.batch_size=8", "hydra.run.dir=two"]) == [0, 0]
    assert_trained_as_one_process(words)


def test_two_processes_that_meet_as_those_of_torchrun_do_train_as_one():
    words = [*EXACT, *NOTING, "freezing=gradual"]
    train_by_ranks([[*words, "data.batch_size=8", "hydra.run.dir=two"]])
    assert_trained_as_one_process(words)


@pytest.mark.slow
def test_another_command_on_one_machine_is_refused_on_both():
    assert two_agents(["train", "-m", *EXACT, "seed=1,2"]) == [1, 1]
    said = "".join(Path(f"agent{node}.log").read_text() for node in (0, 1))
    assert "torchrun has started 2 processes of this command" in said


SBATCH = """\
#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=4 --gpus-per-node=4
#SBATCH --requeue --open-mode=append --signal=SIGUSR1@90
srun --kill-on-bad-exit=1 regraft train data=folder data.root=photos trainer=ddp
"""


def test_the_batch_script_of_the_docs():
    page = Path(regraft.__file__).parents[2] / "docs" / "how-to" / "several_machines.md"
    found = re.search(r":caption: several_machines.sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert found[1] == SBATCH
