"""What is wrong with a config, all of it, before data is read or weights are fetched.

No rule stands here: each section is made as a run makes it, and what it complains of is gathered.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from regraft.config.instantiate import Config, checked_call, factory, hints_of, require_numbers, target_of
from regraft.config.repair import Mending
from regraft.core.types import Backbone, InputSpec
from regraft.data.from_config import build_unread_datamodule
from regraft.models.from_config import Built, LastBackbone, build_backbone, build_bare_backbone, head_source
from regraft.runs.checkpoint import Checkpoint
from regraft.training import resources
from regraft.training.feature_plan import require_storable_if_wanted
from regraft.training.from_config import build_freezing, build_loss, build_strategy, require_length
from regraft.training.preflight import (
    ANY_CLASSES,
    attempt_nodes,
    attempt_room,
    attempt_training,
    class_counts_to_try,
    replace_shapeless,
    weightless_head,
)
from regraft.training.stage_table import StageRow
from regraft.training.trainer import build_trainer, lacking_keys

_ANY_FEATURES = 8
"""Of a head that is tried out where there is no backbone."""


@dataclass(frozen=True)
class Checked:
    """A config that has been looked through.

    Attributes:
        faults: what is wrong with it, a sentence each.
        config: the same, put right as far as that is possible.
        reference: see `Mending`.
        backbone: None if it can't be made.
        architecture: what builds it again; None where the backbone has no weights yet, as they are to be downloaded.
        rows: what trains when; None if that can't be told.
        sizes: None if they can't be told.
        is_data_made: whether the data's section is in order.
    """

    faults: list[str]
    config: Config
    reference: Callable[[], Config] | None
    backbone: Backbone | None
    architecture: Config | None
    rows: list[StageRow] | None
    sizes: resources.Sizes | None
    is_data_made: bool

    @property
    def made(self) -> tuple[Backbone, Config] | None:
        """The backbone with its weights, and its architecture; None if they are to be made anew."""
        return None if self.backbone is None or self.architecture is None else (self.backbone, self.architecture)


def preflight(
    config: Config,
    folder: Path,
    *,
    continued: Checkpoint | None = None,
    reference: Callable[[], Config] | None = None,
    blocked: Collection[str] = (),
    backbones: LastBackbone | None = None,
) -> Checked:
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
    mending = Mending(config, reference, set(blocked))
    if not replace_shapeless(mending, set(blocked)):
        return Checked(mending.faults, mending.config, reference, None, None, None, None, is_data_made=False)
    mending.know_types("optimizer", {"decay_norm_and_bias": bool})
    now = mending.config
    mending.attempt("features", lambda: factory(now["features"], "features")())
    augment = mending.attempt("augment", lambda: factory(now["augment"], "augment")())
    mending.attempt("optimizer", lambda: require_numbers(now))
    attempt_nodes(mending)
    mending.attempt("trainer", lambda: require_length(now))
    made_trainer = mending.attempt("trainer", lambda: _bare_trainer(now))
    if lacking_keys(now["trainer"]):
        return Checked(mending.faults, now, reference, None, None, None, None, is_data_made=False)
    made = mending.attempt(
        "model",
        lambda: (
            _continued(continued) if continued else backbones.of(now["model"], now["trust"], lambda: _backbone(now))
        ),
    )
    body, architecture = (None, None) if made is None else made
    is_data_made = _attempt_data(mending, body)
    strategy = mending.attempt("freezing", lambda: build_strategy(now))
    if body is not None and strategy is not None:
        strategy = mending.attempt("freezing", lambda: build_freezing(now, body.stage_names))
    if continued is None and isinstance(now.get("head_from"), str):
        mending.attempt("head_from", lambda: head_source(now))
    made_head = mending.attempt("head", lambda: weightless_head(now, _num_features(body), ANY_CLASSES))
    mending.attempt("loss", lambda: build_loss(now, class_counts_to_try(now)))
    rows, sizes = None, None
    if made_head is not None:
        rows, sizes = attempt_training(mending, body, made_head, strategy)
    if body is not None and strategy is not None and augment is not None:
        mending.attempt("features", lambda: require_storable_if_wanted(now, body, augment, strategy))
    if rows is not None and sizes is not None and body is not None and made_trainer is not None:
        attempt_room(mending, folder, body, rows, sizes, made_trainer)
    return Checked(mending.faults, now, reference, body, architecture, rows, sizes, is_data_made)


def _bare_trainer(config: Config) -> Any:
    return build_trainer(config, has_val=True, logger=False, enable_checkpointing=False, enable_progress_bar=False)


def _continued(checkpoint: Checkpoint) -> Built:
    return build_bare_backbone(checkpoint.architecture, checkpoint.input_spec), None


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


def _attempt_data(mending: Mending, body: Backbone | None) -> bool:
    """Makes the datamodule, and says whether that was possible."""
    from regraft.data.datamodule import DataModule

    now = mending.config
    mending.know_types("data", hints_of(DataModule))
    spec = InputSpec(1) if body is None else body.input_spec
    return mending.attempt("data", lambda: build_unread_datamodule(now, spec)) is not None


def _num_features(body: Backbone | None) -> int:
    return _ANY_FEATURES if body is None else body.num_features
