"""Stored features that a prediction may read."""

from types import SimpleNamespace

import torch

from helpers.small_texts import word_model
from regraft.core.console import image_progress_bar
from regraft.deployment.predict import features
from regraft.features.cache import FeatureCache
from regraft.features.settings import FeatureSettings


def test_features_of_each_token_are_not_read(tmp_path, monkeypatch):
    options = {"cache": "on", "views": 0, "views_seed": 0, "dtype": "float32", "precision": "auto", "max_gb": 1.0}
    settings = FeatureSettings(**options, dir=str(tmp_path))
    model = word_model()
    bar = image_progress_bar(is_shown=False)
    frozen = FeatureCache(model.network.backbone, "words", settings, ["float32"], torch.device("cpu"), bar)
    monkeypatch.setattr(features, "build_freezing", lambda *_: None)
    config = {
        "features": {"_target_": "regraft.features.settings.FeatureSettings", **options},
        "freezing": {},
    }
    found = {}
    for depth in (1, 2):
        monkeypatch.setattr(features, "frozen_part", lambda *_, depth=depth: (frozen, depth))
        given = {"cache": "on", "dir": str(tmp_path)}
        found[depth] = features._features(SimpleNamespace(config=config), model, given, "none")
    assert found[1] == "the frozen stages give a row for each token, and predictions read one for each text."
    assert isinstance(found[2], features.FeatureLookup)
