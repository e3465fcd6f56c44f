"""Loads a classifier together with the stored features of inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from regraft.config.instantiate import factory
from regraft.core.console import image_progress_bar
from regraft.core.errors import ConfigError
from regraft.deployment.classifier import Classifier
from regraft.deployment.load import model_of, require_engine
from regraft.features.lookup import FeatureLookup, LookupTransform
from regraft.features.settings import FeatureSettings
from regraft.features.store.store import NoFolderError
from regraft.runs.checkpoint import Checkpoint, read
from regraft.runs.folder import find_checkpoint
from regraft.training.caching.feature_plan import frozen_part
from regraft.training.from_config import build_freezing


def model_and_features(
    path: str | Path,
    *,
    trust: Sequence[str],
    device: torch.device | None,
    engine: str,
    settings: Mapping[str, Any],
    tta: str,
) -> tuple[Classifier, FeatureLookup | None]:
    """Returns the classifier of a run, computed by torch, and the stored features of its inputs, if any.

    Args:
        engine: that is to compute it; see `trained_model`. Features are stored for torch alone.
        settings: `cache` (auto, on, off) and `dir`, of the prediction.
        tta: features are stored for `none` only.
    """
    checkpoint = read(find_checkpoint(path, prefer="best"), trust)
    require_engine(engine, device)
    if engine == "onnx":
        if settings["cache"] == "on":
            raise ConfigError(
                "features.cache", "engine=onnx computes whole networks", got="on", fix="Use engine=torch."
            )
        return model_of(checkpoint, torch.device("cpu")), None
    model = model_of(checkpoint, device)
    found = _features(checkpoint, model, settings, tta)
    if isinstance(found, FeatureLookup):
        return model, found
    if settings["cache"] == "on":
        raise ConfigError("features.cache", found, got="on")
    return model, None


def _features(checkpoint: Checkpoint, model: Classifier, settings: Mapping[str, Any], tta: str) -> FeatureLookup | str:
    """Returns the stored features, or a sentence on why there are none."""
    config = checkpoint.config
    given = {"cache": settings["cache"]} | ({} if settings["dir"] is None else {"dir": settings["dir"]})
    own: FeatureSettings = factory(config["features"] | given, "features")()
    if own.cache == "off":
        return "features.cache=off."
    if tta != "none":
        return f"only the view of tta=none is stored; got tta={tta}."
    described = model.reader.stored_transform()
    if isinstance(described, str):
        return described
    if own.dtype != "float32" or own.precision == "bfloat16":
        key = "precision=bfloat16" if own.precision == "bfloat16" else f"dtype={own.dtype}"
        return f"the run's features.{key} is coarser than what a prediction takes; use features.cache=auto."
    backbone = model.network.backbone
    strategy, progress = build_freezing(config, backbone.has_parameters), image_progress_bar(is_shown=False)
    found = frozen_part(config, own, backbone, strategy, model.device, progress)
    if isinstance(found, str):
        return found
    frozen, depth = found
    if not frozen.is_of_one_shape(depth):
        return "the frozen stages give a row for each token, and predictions read one for each text."
    transform = LookupTransform(described)
    if not frozen.prefer(lambda: frozen.has_entry(transform, depth)) and own.cache != "on":
        return "the store has none of this backbone."
    try:
        return FeatureLookup(frozen, transform, depth, model.input_spec.nouns)
    except NoFolderError as error:
        return str(error)
