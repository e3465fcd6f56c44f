"""Fills the store with the features that a training reads, without training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from filelock import FileLock

from regraft.config.instantiate import Config, factory
from regraft.core.console import image_progress_bar
from regraft.core.launcher import Place
from regraft.core.startup import keep_freed_memory, stop_looking_for_gpus
from regraft.data.from_config import prepare
from regraft.features.filling import FillState, fill
from regraft.features.settings import FeatureSettings
from regraft.features.share import WHOLE, Share
from regraft.features.store.store import folder_of
from regraft.models.from_config import weights_url
from regraft.training.caching.feature_plan import FeaturePlan, feature_plan
from regraft.training.fit.assemble import assemble
from regraft.training.fit.refit import fits_twice
from regraft.training.hardware.precision import matmul_precision
from regraft.training.plan import TrainingJob, checked_job

Show = Callable[[FillState, str], None]


@dataclass(frozen=True)
class Filled:
    """What was filled, in which folder; `nouns` are what the inputs are called."""

    state: FillState
    folder: Path
    nouns: str


def share_of(config: Config, place: Place | None) -> Share:
    """Returns the share that this process fills: that of `fill.share`, or a part of it if it is one of several."""
    given = config["fill"]["share"]
    share = WHOLE if given is None else Share.parse(given, "fill.share")
    return share if place is None else share.part(place.rank, place.num_processes)


def on_one_device(config: Config, place: Place | None) -> Config:
    """Returns a training's config with a single device, that of this process, however many train."""
    trainer = config["trainer"] | {"devices": 1, "num_nodes": 1, "strategy": "auto"}
    if place is not None and trainer["accelerator"] != "cpu" and (num_gpus := torch.cuda.device_count()) > 1:
        trainer["devices"] = [place.local_rank % num_gpus]
    return {key: value for key, value in config.items() if key != "fill"} | {"trainer": trainer}


def fill_store(job: TrainingJob, share: Share, show: Show) -> Filled:
    """Computes and stores a share of the features that a training reads and the store lacks.

    Args:
        job: the training, which isn't started.
        show: called every few seconds with what is done, and what the inputs are called.

    Raises:
        ConfigError: the training stores no features, or doesn't fit its data.
    """
    with matmul_precision(job.config):
        filled, plan = _fill(job, share, show)
        if fits_twice(job.config) and len(plan.first_views) > 1:
            # The second fit trains on the validation inputs, too, under each view.
            again = checked_job(job.config, job.run, refit={"num_epochs": 1, "figures": {}, "kept": None})
            del plan  # so that no two backbones are in memory at once
            first, (filled, _) = filled.state, _fill(again, share, show)
            sums = (sum(each) for each in zip(astuple(first), astuple(filled.state), strict=True))
            filled = replace(filled, state=FillState(*sums))
    return filled


def _fill(job: TrainingJob, share: Share, show: Show) -> tuple[Filled, FeaturePlan]:
    job.require_sound()
    assert job.checked is not None, "it isn't done"
    settings: FeatureSettings = factory(job.config["features"], "features")()
    folder = folder_of(settings)
    is_here = weights_url(job.config) is None and job.checked.data.is_here
    with nullcontext() if is_here else _taking_turns(folder):
        if job.checked.is_provisional:
            prepare(job.checked.data)
            job = checked_job(job.config, job.run)
            job.require_sound()
        assert job.checked is not None, "it isn't done"
        pl.seed_everything(job.config["seed"], workers=True, verbose=False)  # random weights are those of the training
        parts = assemble(job.checked, None)
    device = parts.trainer.strategy.root_device
    _settle_process(device)
    plan = feature_plan(
        job.config,
        parts.module.backbone,
        parts.data,
        parts.strategy,
        device,
        start_epoch=0,
        progress=image_progress_bar(is_shown=False),
        may_leave_out_train=True,
        is_filled=True,
    )
    assert plan is not None, "nothing to store is an error"
    nouns = parts.data.input_spec.nouns
    state = fill(plan.frozen, list(plan.needed.values()), share, lambda state: show(state, nouns))
    return Filled(state, folder, nouns), plan


def _settle_process(device: torch.device) -> None:
    if not torch.cuda.is_available():
        stop_looking_for_gpus()
    if device.type == "cpu":
        keep_freed_memory()


@contextmanager
def _taking_turns(folder: Path) -> Iterator[None]:
    """Has one process of a machine at a time download what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "downloads.lock"):
        yield
