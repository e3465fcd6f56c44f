"""Which stored features an evaluation reads."""

import pytest

from regraft.evaluation import from_config


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_features_of_another_precision_than_the_trainers_are_not_read(small_run, monkeypatch, precision):
    monkeypatch.setattr(from_config, "read_stored_pixels", lambda *_: None)
    monkeypatch.setattr(from_config, "frozen_part", lambda *_: pytest.fail("it reads the store"))
    config = {"features": small_run.config["features"], "trainer": {"precision": precision}}
    rest = [None, None, "test", None, None, None]
    assert from_config.evaluation_data(config, *rest, needs_features=False) is None
    with pytest.raises(ValueError, match=f"trainer.precision={precision} computes the frozen part in another"):
        from_config.evaluation_data(config, *rest, needs_features=True)
