"""The overrides of a run in about a second: a small CNN from scratch on a part of the digits."""

SMALL = [
    "data=digits",
    "data.fraction=0.2",
    "model=simple_cnn",
    "model.image_size=16",
    "freezing=none",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
    "logger=csv",
]


def without(*keys: str) -> list[str]:
    """Returns the overrides but those that start with one of the keys."""
    return [override for override in SMALL if not override.startswith(keys)]
