"""The freezing strategy of a config, and how long it has."""

from regraft.config.instantiate import Config, factory
from regraft.models.freezing import FreezingStrategy
from regraft.models.phases import phases


def build_freezing(config: Config, stage_names: tuple[str, ...]) -> FreezingStrategy:
    """Returns the strategy, having asked it about every epoch, so that a misnamed stage is said before data is read."""
    strategy = build_strategy(config)
    phases(strategy, stage_names, config["trainer"]["max_epochs"])
    return strategy


def build_strategy(config: Config) -> FreezingStrategy:
    """Returns the strategy, which may still not fit the backbone's stages, or the length of the run."""
    require_length(config)
    strategy: FreezingStrategy = factory(config["freezing"], "freezing")()
    return strategy


def require_length(config: Config) -> None:
    """Checks how many epochs the run has."""
    max_epochs = config["trainer"]["max_epochs"]
    if not isinstance(max_epochs, int) or isinstance(max_epochs, bool) or not (max_epochs >= 1 or max_epochs == -1):
        raise ValueError(f"trainer.max_epochs: got {max_epochs!r}; allowed: 1 or more, or -1 for no limit.")
