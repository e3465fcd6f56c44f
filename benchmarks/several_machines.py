"""Kills a machine of a training on two, at random moments: how soon do the others end, and what is lost?

    python benchmarks/several_machines.py [--rounds 20]

Two agents of torchrun on this machine stand for two machines. Each round kills (SIGKILL) one of the agents or of their
processes after the first checkpoint, measures how long the rest of them live, and resumes the run with two agents: its
weights have to be those of a run that was never killed, bit for bit. The next round resumes with one process until it
is killed, and then with two agents again: the weights, in float64, differ by rounding alone. Each process notes the
samples of its steps, which have to be those of the run that was never killed, in the same order.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from itertools import chain, zip_longest
from pathlib import Path

import pytorch_lightning as pl
import torch

from regraft.runs.folder import Run

TRAINING = [
    *("data=digits", "data.fraction=0.2", "data.batch_size=8", "model=simple_cnn", "model.image_size=8", "trainer=cpu"),
    *("model.batch_norm=false", "head=linear", "freezing=gradual", "freezing.epochs_per_stage=2", "features.cache=off"),
    *("trainer.max_epochs=8", "trainer.precision=64-true", "trainer.enable_progress_bar=false", "report=off"),
    *("trainer.memory_format=contiguous", "callbacks.checkpoint.every_n_steps=4"),
    "+callbacks.noting._target_=several_machines.NoteBatches",
]
TRUST = "trust=[several_machines]"
NOTES = "NOTES"
"""The variable with the folder of the notes."""
LIMIT_SECONDS = 60
Agents = list[subprocess.Popen[bytes]]


class NoteBatches(pl.Callback):
    """Notes the samples of each training step that is done: a line of epoch, step, ranks, rank and samples."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        place = trainer.current_epoch, trainer.global_step, trainer.world_size, trainer.global_rank
        line = ",".join(map(str, [*place, *batch["indices"].tolist()]))
        with Path(os.environ[NOTES], str(os.getpid())).open("a") as file:
            file.write(f"{line}\n")


def noted(folder: Path) -> list[tuple[tuple[int, int], int, int, list[int]]]:
    """Returns epoch and step, number of ranks, rank and samples of each line that was written as a whole."""
    found = []
    for file in folder.iterdir():
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                epoch, step, num_ranks, rank, *samples = map(int, line.split(","))
                found.append(((epoch, step), num_ranks, rank, samples))
    return found


def global_batches(folder: Path) -> dict[tuple[int, int], list[int]]:
    """Returns the samples of the steps of a run that was never killed, in their order."""
    of_step: dict[tuple[int, int], dict[int, list[int]]] = {}
    for step, _, rank, samples in noted(folder):
        of_step.setdefault(step, {})[rank] = samples
    rows = {step: zip_longest(*(ranks[rank] for rank in sorted(ranks))) for step, ranks in of_step.items()}
    # Without the copies by which a process has two samples at least.
    return {step: [each for each in dict.fromkeys(chain(*found)) if each is not None] for step, found in rows.items()}


def is_share(samples: list[int], batch: list[int], rank: int, num_ranks: int) -> bool:
    """Whether a process had its samples of a batch, and then copies of some."""
    own = batch[rank::num_ranks]
    return samples[: len(own)] == own and set(samples) <= set(batch)


def start(words: list[str], folder: Path, num_machines: int, notes: Path) -> Agents:
    """Starts a command on each of some machines, with one process each."""
    notes.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    agents = []
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, NOTES: str(notes)}
    for node in range(num_machines):
        command = [sys.executable]
        if num_machines > 1:
            command += ["-m", "torch.distributed.run", f"--nnodes={num_machines}", "--nproc-per-node=1"]
            command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", f"--rdzv-id={port}"]
            command += ["--local-addr=127.0.0.1"]
        command += ["-m", "regraft", *words, TRUST]
        with (folder / f"{node}.log").open("ab") as log:
            agents.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder))
    return agents


def descendants(pid: int) -> list[int]:
    """Returns the numbers of a process and of those that it has started, itself first."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [pid, *(each for child in text.split() for each in descendants(int(child)))]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_one(agents: Agents, run: Run, drawn: random.Random) -> float | None:
    """Kills an agent or a process of one; returns how many seconds the rest lived, None if all had ended before."""
    before = run.last_ckpt.stat().st_mtime_ns if run.last_ckpt.is_file() else 0
    while not run.last_ckpt.is_file() or run.last_ckpt.stat().st_mtime_ns == before:
        if all(agent.poll() is not None for agent in agents):
            return None
        time.sleep(0.05)
    time.sleep(drawn.uniform(0, 2))
    living = [pid for agent in agents for pid in descendants(agent.pid)]
    victim = drawn.choice([pid for pid in living if is_alive(pid)] or [0])
    if not victim or agents[0].poll() is not None:
        return None
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    while any(map(is_alive, living)) and time.monotonic() - killed < 2 * LIMIT_SECONDS:
        time.sleep(0.05)
        for agent in agents:
            agent.poll()
    return time.monotonic() - killed


def finish(words: list[str], folder: Path, notes: Path) -> None:
    codes = [agent.wait() for agent in start(words, folder, 2, notes)]
    if any(codes):
        raise RuntimeError(f"{' '.join(words)} ended with {codes}: {(folder / '0.log').read_text()[-3000:]}")


def difference(one: Run, other: Run) -> float:
    """Returns the largest difference of two runs' weights."""
    weights = [torch.load(run.last_ckpt, weights_only=True)["state_dict"] for run in (one, other)]
    return max((weights[0][name] - weights[1][name]).abs().max().item() for name in weights[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    drawn = random.Random(words.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        straight = Run(folder / "straight")
        finish(["train", *TRAINING, f"hydra.run.dir={straight.path}"], folder, folder / "notes")
        batches = global_batches(folder / "notes")
        for number in range(words.rounds):
            run, notes = Run(folder / str(number)), folder / f"notes-{number}"
            train = ["train", *TRAINING, f"hydra.run.dir={run.path}"]
            resume = ["resume", f"run={run.path}"]
            lived = kill_one(start(train, folder, 2, notes), run, drawn)
            is_alone = number % 2 == 1
            if is_alone and lived is not None:
                alone = [*resume, "trainer.devices=1", "trainer.num_nodes=1"]
                kill_one(start(alone, folder, 1, notes), run, drawn)
            if lived is not None:
                finish(resume, folder, notes)
            lines = noted(notes)
            others = sum(not is_share(samples, batches[step], rank, ranks) for step, ranks, rank, samples in lines)
            found = difference(straight, run)
            is_right = found < 1e-10 if is_alone else found == 0
            is_right &= lived is not None and lived < LIMIT_SECONDS and others == 0
            how = "2 -> 1 -> 2 machines" if is_alone else "2 -> 2 machines"
            rest = "nothing was killed" if lived is None else f"the rest lived for {lived:.1f} s"
            print(
                f"round {number}: {how}: {rest}; largest difference {found:.2g}; of {len(lines)} shares of batches "
                f"{others} have other samples: {'ok' if is_right else 'WRONG'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
