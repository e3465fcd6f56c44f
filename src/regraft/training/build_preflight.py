"""What is wrong with a config, all of it, before data is read or weights are fetched.

No rule stands here: each section is made as a run makes it, and what it complains of is gathered.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from regraft.config.collector import ErrorCollector
from regraft.config.instantiate import Config, checked_call, factory, hints_of, require_numbers, target_of
from regraft.core.errors import ConfigError
from regraft.core.types import Backbone, InputSpec
from regraft.data.from_config import build_unread_datamodule
from regraft.models.from_config import Built, LastBackbone, build_backbone, build_bare_backbone, head_source
from regraft.runs.checkpoint import Checkpoint
from regraft.training import resources
from regraft.training.feature_plan import require_storable_if_wanted
from regraft.training.from_config import Made, build_freezing, build_loss, build_strategy, require_length
from regraft.training.preflight import (
    ANY_CLASSES,
    build_nodes,
    build_trial_optimizer,
    check_resources,
    class_counts_to_try,
    replace_shapeless,
    rows_and_size,
    weightless_head,
)
from regraft.training.stage_table import StageRow
from regraft.training.trainer import build_trainer, lacking_keys

_ANY_FEATURES = 8
"""Of a head that is tried out where there is no backbone."""


@dataclass(frozen=True)
class PreflightResult:
    """A config that has been looked through.

    Attributes:
        errors: its mistakes.
        config: the same, its wrong keys reset to their defaults.
        reference: see `ErrorCollector`.
        backbone: None if it can't be made.
        architecture: what builds it again; None where the backbone has no weights yet, as they are to be downloaded.
        data: the datamodule, its data not read yet; None if it can't be made.
        head_source: the checkpoint whose head the run starts with; None if it starts with one of its own.
        trial_optimizer: the config's optimizer on parameters of no use, for schedules to be tried on; None if it can't
            be made.
        rows: what trains when; None if that can't be told.
        sizes: None if they can't be told.
    """

    errors: list[ConfigError]
    config: Config
    reference: Callable[[], Config] | None
    backbone: Backbone | None
    architecture: Config | None
    rows: list[StageRow] | None
    sizes: resources.ModelSize | None
    data: Any = None
    head_source: Checkpoint | None = None
    trial_optimizer: Any = None

    @property
    def made(self) -> Made | None:
        """What a training takes over; None if its backbone is to be built again, with weights to be downloaded."""
        if self.backbone is None or self.architecture is None or self.data is None:
            return None
        return Made(self.backbone, self.architecture, self.data, self.head_source)


def preflight(
    config: Config,
    folder: Path,
    *,
    continued: Checkpoint | None = None,
    reference: Callable[[], Config] | None = None,
    blocked: Collection[str] = (),
    backbones: LastBackbone | None = None,
) -> PreflightResult:
    """Returns what is wrong with a config, as far as that can be told without its data.

    Args:
        config: the resolved config.
        folder: of the run; needn't exist.
        continued: what the run goes on from.
        reference: gives the config of the same choices without any other override.
        blocked: sections that aren't looked at, because what is wrong with them has been said.
        backbones: for jobs of a sweep, of which none is trained with the backbone that is made here.
    """
    backbones = LastBackbone() if backbones is None else backbones
    reference = None if reference is None else cache(reference)
    collector = ErrorCollector(config, reference, set(blocked))
    if not replace_shapeless(collector, set(blocked)):
        return PreflightResult(collector.errors, collector.config, reference, None, None, None, None)
    collector.add_types("optimizer", {"decay_norm_and_bias": bool})
    now = collector.config
    collector.try_build("features", lambda: factory(now["features"], "features")())
    augment = collector.try_build("augment", lambda: factory(now["augment"], "augment")())
    collector.try_build("optimizer", lambda: require_numbers(now))
    build_nodes(collector)
    collector.try_build("trainer", lambda: require_length(now))
    made_trainer = collector.try_build("trainer", lambda: _bare_trainer(now))
    if lacking_keys(now["trainer"]):
        return PreflightResult(collector.errors, now, reference, None, None, None, None)
    made = collector.try_build(
        "model",
        lambda: (
            _continued(continued) if continued else backbones.of(now["model"], now["trust"], lambda: _backbone(now))
        ),
    )
    body, architecture = (None, None) if made is None else made
    earlier_head = None
    if continued is None and isinstance(now.get("head_from"), str):
        earlier_head = collector.try_build("head_from", lambda: head_source(now))
    data = _build_data(collector, body, continued or earlier_head)
    strategy = collector.try_build("freezing", lambda: build_strategy(now))
    if body is not None and strategy is not None:
        strategy = collector.try_build("freezing", lambda: build_freezing(now, body.stage_names))
    made_head = collector.try_build("head", lambda: weightless_head(now, _num_features(body), ANY_CLASSES))
    collector.try_build("loss", lambda: build_loss(now, class_counts_to_try(now)))
    rows, sizes, trial = None, None, None
    if made_head is not None:
        trial = build_trial_optimizer(collector, body, made_head)
        if trial is not None and body is not None and strategy is not None:
            rows, sizes = rows_and_size(now, body, made_head, strategy, trial)
    if body is not None and strategy is not None and augment is not None:
        collector.try_build("features", lambda: require_storable_if_wanted(now, body, augment, strategy))
    if rows is not None and sizes is not None and body is not None and made_trainer is not None:
        check_resources(collector, folder, body, rows, sizes, made_trainer)
    return PreflightResult(collector.errors, now, reference, body, architecture, rows, sizes, data, earlier_head, trial)


def _bare_trainer(config: Config) -> Any:
    return build_trainer(config, has_val=True, logger=False, enable_checkpointing=False, enable_progress_bar=False)


def _continued(checkpoint: Checkpoint) -> Built:
    return build_bare_backbone(checkpoint.architecture, checkpoint.input_spec), checkpoint.architecture


def _backbone(config: Config) -> Built:
    model = config["model"]
    factory(model, "model")  # says of an unknown key before anything else
    source = import_module(target_of(model, "model").__module__)
    # Sources that download say whether they would; others have their weights at hand.
    has_weights = getattr(source, "has_weights", None)
    if (
        has_weights is None
        or checked_call(has_weights, "model", {key: model.get(key) for key in ("name", "weights")})()
    ):
        return build_backbone(model, config["trust"])
    return build_bare_backbone(model | {"weights": None}), None


def _build_data(collector: ErrorCollector, body: Backbone | None, trained: Checkpoint | None) -> Any:
    from regraft.data.datamodule import DataModule

    now = collector.config
    collector.add_types("data", hints_of(DataModule))
    spec = InputSpec(1) if body is None else body.input_spec
    return collector.try_build("data", lambda: build_unread_datamodule(now, spec, trained))


def _num_features(body: Backbone | None) -> int:
    return _ANY_FEATURES if body is None else body.num_features
