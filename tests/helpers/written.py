"""Sweeps without trainings: runs that are only written down, and a plan without Hydra's composition."""

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from regraft.runs.folder import Run
from regraft.sweeps import manifest
from regraft.sweeps.manifest import Job
from regraft.sweeps.space import with_configured


def written_run(folder: Path, val_acc: Sequence[float], state: str = "finished", **more: Any) -> Run:
    """Returns a run that has ended so, without training it."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder)
    best = {"monitor": "val/acc", "mode": "max"}
    run.write_config({"seed": 0, "callbacks": {"best": best}, **more})
    run.write_state({"status": state, "reason": None if state == "finished" else "it was so"})
    with (folder / "metrics.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["step", "epoch", "val/acc", "val/loss"])
        rows.writeheader()
        for epoch, value in enumerate(val_acc):
            rows.writerow({"step": epoch, "epoch": epoch, "val/acc": value, "val/loss": 1 - value})
    if state == "finished":
        run.write_results({"metrics": {"test/acc": 0.5}, "seconds": 2.0, "num_trained_parameters": 10})
    return run


def with_overrides(run: Run, overrides: list[str]) -> Run:
    """Returns the run, with what Hydra writes of its command."""
    (run.path / ".hydra").mkdir()
    (run.path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    return run


class WrittenPlan:
    """A plan whose jobs are what their overrides say."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder = folder
        self._arguments = arguments

    def overrides(self, space: dict[str, Any]) -> list[Any]:
        parser = OverridesParser.create()
        return with_configured(parser.parse_overrides(self._arguments), space, parser)

    def job(self, overrides: Sequence[str], number: int = 0) -> Job:
        digest = hashlib.blake2b(json.dumps(sorted(overrides)).encode()).hexdigest()
        return Job(number, tuple(overrides), digest)

    def known(self) -> list[Job]:
        return manifest.read(self.folder) or []

    def numbered(self, wanted: Sequence[Job]) -> list[Job]:
        return manifest.numbered(wanted, self.known())

    def keep(self, jobs: Sequence[Job]) -> None:
        manifest.write(self.folder, jobs)
