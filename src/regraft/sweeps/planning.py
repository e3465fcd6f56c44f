"""Turns the command of a sweep into jobs: parses, composes and numbers them, and writes the manifest."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from regraft.config import compose
from regraft.core.atomic import write_atomically
from regraft.core.text import say
from regraft.runs.folder import Run
from regraft.sweeps import locks, manifest
from regraft.sweeps.manifest import COMMAND, Job
from regraft.sweeps.outcomes import varied_overrides
from regraft.sweeps.space import with_configured

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepPlan:
    """The jobs of a sweep, from its folder and its command.

    Args:
        arguments: the overrides of the command, with lists of values.
    """

    folder: Path
    config: DictConfig
    hydra_context: HydraContext
    arguments: list[str]

    def overrides(self, space: Mapping[str, Any]) -> list[Override]:
        """Returns the parsed overrides of the command, and those of `sweep.space`."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return with_configured(parser.parse_overrides(self.arguments), space, parser)

    def job(self, overrides: Sequence[str], number: int = 0) -> Job:
        """Returns the job of these overrides; composing its config finds mistakes before anything runs."""
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with compose.as_current(composed):
            OmegaConf.set_readonly(composed.hydra, False)
            return Job(number, tuple(overrides), manifest.config_hash(compose.plain(composed, overrides)))

    def known(self) -> list[Job]:
        """Returns the jobs that the sweep has already; with a damaged manifest, those that have been started."""
        found = manifest.read(self.folder)
        if found is None and (self.folder / manifest.MANIFEST).exists():
            log.warning("%s is damaged; it is rebuilt from the folders of the jobs.", self.folder / manifest.MANIFEST)
        return manifest.jobs_in(self.folder) if found is None else found

    def numbered(self, wanted: Sequence[Job]) -> list[Job]:
        """Returns the jobs with their earlier numbers, if the sweep exists already; prints what has changed."""
        with locks.manifest_lock(self.folder):
            known = self.known()
            earlier = manifest.wanted(self.folder) or known
            jobs = manifest.numbered(wanted, known)
            self.keep(jobs, known)
        if earlier:
            self._say_changes(jobs, earlier)
        return jobs

    def keep(self, jobs: Sequence[Job], known: Sequence[Job] = ()) -> None:
        """Writes current and earlier jobs, and the command; call it with the manifest's lock held."""
        numbers = {job.number for job in jobs}
        manifest.write(self.folder, jobs, [job for job in known if job.number not in numbers])
        write_atomically(self.folder / COMMAND, OmegaConf.to_yaml(self.config).encode())

    def _say_changes(self, jobs: Sequence[Job], earlier: Sequence[Job]) -> None:
        digests, earlier_digests = ({job.config_hash for job in group} for group in (jobs, earlier))
        for word, group, others in (("added", jobs, earlier_digests), ("removed", earlier, digests)):
            for job in group:
                if job.config_hash not in others:
                    what = " ".join(varied_overrides(job, [*jobs, *earlier])) or "the same overrides, another config"
                    is_left = word == "removed" and not Run(self.folder / str(job.number)).is_finished
                    rest = ", which hasn't finished; the sweep's own command finishes it" if is_left else ""
                    say(f"{word}: job {job.number}, {what}{rest}")
