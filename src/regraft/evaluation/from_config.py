"""The data of an evaluation: stored features of the run's own data, and the data of a target domain."""

import inspect
from pathlib import Path
from typing import Any

import torch

from regraft.config.annotations import hints_of
from regraft.config.instantiate import Config, factory, target_of, type_errors
from regraft.core.console import ProgressBar
from regraft.core.errors import ConfigError, ConfigErrors, errors_in
from regraft.core.types import Backbone
from regraft.data.datamodule import DataModule
from regraft.data.shards.headers import are_shards
from regraft.data.sources.class_mapping import AnotherDomain
from regraft.data.sources.folder import FolderSource
from regraft.data.sources.labelled_table import LabelledTable
from regraft.data.sources.table import TableSource
from regraft.data.sources.text_folder import TextFolderSource
from regraft.data.sources.text_table import TextTableSource
from regraft.data.sources.webdataset import WebDatasetSource
from regraft.features.datamodule import FeatureDataModule
from regraft.features.settings import FeatureSettings
from regraft.features.store.store import NoRoomError
from regraft.models.freezing import FreezingStrategy
from regraft.runs.checkpoint import Checkpoint
from regraft.training.caching.feature_plan import frozen_part
from regraft.training.caching.feature_policy import why_not_as_precise
from regraft.training.caching.image_cache import read_stored_pixels

_FOLDERS: dict[str, Any] = {"image": FolderSource, "text": TextFolderSource}
_TABLES: dict[str, Any] = {"image": TableSource, "text": TextTableSource}
"""The sources of a target domain for each kind of input."""


def require_types(config: Config) -> None:
    """Raises an error for values of a wrong type in the sections that the command may change."""
    errors = type_errors(config["data"], "data", hints_of(DataModule))
    errors += type_errors(config["trainer"], "trainer", {})
    if errors:
        raise ConfigErrors(errors)


def evaluation_data(
    config: Config,
    backbone: Backbone,
    images: Any,
    split: str,
    strategy: FreezingStrategy,
    device: torch.device,
    progress: ProgressBar,
    *,
    needs_features: bool,
) -> FeatureDataModule | None:
    """Returns a datamodule of stored features of `val` or `test`; None if the images have to be used.

    Args:
        needs_features: whether missing features must be computed and stored; the run's own `features.cache=on` was for
            its training only.

    Raises:
        ValueError: features are needed and can't be stored.
    """
    read_stored_pixels(config, images, [split], progress)
    settings: FeatureSettings = factory(config["features"], "features")()
    if settings.cache == "off":
        return None
    found = why_not_as_precise(settings, config) or frozen_part(config, settings, backbone, strategy, device, progress)
    if isinstance(found, str):
        if needs_features:
            raise ConfigError("features.cache", found, got="on")
        return None
    frozen, depth = found
    views = images.inputs.views(split, settings.views, settings.views_seed)
    frozen.prefer_stored(views, depth)
    if not needs_features and not frozen.has_all(views, depth):
        return None
    try:
        frozen.ensure(views, [depth])
    except NoRoomError as error:
        raise ConfigError("features.cache", f"{error}") from error
    tables = {(split, depth): frozen.table(views, depth, images.indices(split), images.labels(split))}
    num_stages = len(backbone.stages)
    return FeatureDataModule(
        images, tables, [], depth, num_stages=num_stages, one_batch_per_epoch=False, is_full_batch=False
    )


def target_domain(config: Config, trained: Checkpoint, path: str) -> Any:
    """Returns the prepared datamodule of a folder of classes, or of a table, all of whose inputs are its test split."""
    own = inspect.signature(DataModule).parameters
    options = {key: value for key, value in config["data"].items() if key in own}
    # Options of training data, which doesn't exist here.
    options |= {"fraction": 1.0, "shots": None, "cache": "off", "val_fraction": 0, "test_fraction": 0}
    try:
        source = _source_at(config, trained, path)
        module = DataModule(
            source=AnotherDomain(source, trained.class_names, str(trained.path)),
            input_spec=trained.input_spec,
            augment=factory(config["augment"], "augment")(),
            seed=config["seed"],
            **options,
        )
        module.prepare_data()
        module.setup()
    except (ConfigError, ConfigErrors) as error:
        # The source reports its folder or its table as its own.
        own_keys = ("data.root", "data.path", "data.urls")
        errors = [each.about("shift") if each.key in own_keys else each for each in errors_in(error)]
        raise (errors[0] if len(errors) == 1 else ConfigErrors(errors)) from error
    return module


def _source_at(config: Config, trained: Checkpoint, path: str) -> Any:
    """Returns the source of a target domain: shards or a table, read as the run's own are, or class folders."""
    data, task = config["data"], trained.task
    kind = target_of(data, "data")
    is_table_run = isinstance(kind, type) and issubclass(kind, LabelledTable)
    place = Path(path).expanduser()
    if are_shards(path):
        own = data if kind is WebDatasetSource else {"on_error": data.get("on_error", "raise")}
        taken = inspect.signature(WebDatasetSource).parameters
        options = {key: value for key, value in own.items() if key in taken and key not in ("group", "weight", "table")}
        return WebDatasetSource(**options | {"urls": path, "task": task.name, "trust": config["trust"]})
    if place.is_dir() and task.has_classes:
        folder = _FOLDERS[trained.input_spec.kind]
        return folder(root=path, on_error=data.get("on_error", "raise"), splits={})
    if not is_table_run or kind is WebDatasetSource:
        label = list(trained.class_names) if task.name == "regression" else None
        on_error = data.get("on_error", "raise")
        table = _TABLES[trained.input_spec.kind]
        return table(path=path, label=label, task=task.name, on_error=on_error)
    taken = inspect.signature(kind).parameters
    options = {key: value for key, value in data.items() if key in taken}
    options |= {"path": path, "task": task.name} | {key: None for key in ("root", "group", "weight") if key in taken}
    return kind(**options)
