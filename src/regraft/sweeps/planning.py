"""From a command to the jobs of a sweep: parsed, composed, numbered as before, kept in the sweep's folder."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from regraft.config import compose
from regraft.core.atomic import write_atomically
from regraft.sweeps import locks, manifest
from regraft.sweeps.manifest import COMMAND, Job
from regraft.sweeps.outcomes import varied_of
from regraft.sweeps.space import with_configured

log = logging.getLogger(__name__)


class Plan:
    """A sweep's folder and command.

    Args:
        folder: of the sweep, absolute.
        config: what Hydra composed the sweep from.
        hydra_context: Hydra's.
        arguments: of the command, lists of values among them.
    """

    def __init__(self, folder: Path, config: DictConfig, hydra_context: HydraContext, arguments: list[str]) -> None:
        self.folder = folder
        self._config = config
        self._hydra_context = hydra_context
        self._arguments = arguments

    def overrides(self, space: Mapping[str, Any]) -> list[Override]:
        """Returns what the command and the axes of `sweep.space` say, parsed."""
        parser = OverridesParser.create(config_loader=self._hydra_context.config_loader)
        return with_configured(parser.parse_overrides(self._arguments), space, parser)

    def job(self, overrides: Sequence[str], number: int = 0) -> Job:
        """Returns a job by the config that it composes to, which also finds mistakes before anything runs."""
        composed = self._hydra_context.config_loader.load_sweep_config(self._config, list(overrides))
        with compose.as_current(composed):
            OmegaConf.set_readonly(composed.hydra, False)
            return Job(number, tuple(overrides), manifest.digest_of(compose.plain(composed, overrides)))

    def known(self) -> list[Job]:
        """Returns the jobs that the sweep has already; of a damaged manifest, those whose folders say what they are."""
        found = manifest.read(self.folder)
        if found is None and (self.folder / manifest.MANIFEST).exists():
            log.warning("%s is damaged; it is made anew from the folders of the jobs.", self.folder / manifest.MANIFEST)
        return manifest.jobs_in(self.folder) if found is None else found

    def numbered(self, wanted: Sequence[Job]) -> list[Job]:
        """Returns the jobs, numbered as before where the folder is a sweep already; says what has changed."""
        with locks.changing(self.folder):
            known = self.known()
            earlier = manifest.wanted(self.folder) or known
            jobs = manifest.numbered(wanted, known)
            self.keep(jobs, known)
        if earlier:
            _say_changes(jobs, earlier)
        return jobs

    def keep(self, jobs: Sequence[Job], known: Sequence[Job] = ()) -> None:
        """Keeps the jobs, and the command, in the sweep's folder; to be called while it is `claims.changing`.

        Args:
            jobs: that the sweep wants.
            known: that it has had.
        """
        numbers = {job.number for job in jobs}
        manifest.write(self.folder, jobs, [job for job in known if job.number not in numbers])
        write_atomically(self.folder / COMMAND, OmegaConf.to_yaml(self._config).encode())


def _say_changes(jobs: Sequence[Job], earlier: Sequence[Job]) -> None:
    digests, earlier_digests = ({job.digest for job in group} for group in (jobs, earlier))
    for word, group, others in (("added", jobs, earlier_digests), ("removed", earlier, digests)):
        for job in group:
            if job.digest not in others:
                what = " ".join(varied_of(job, [*jobs, *earlier])) or "the same overrides, another config"
                print(f"{word}: job {job.number}, {what}")
