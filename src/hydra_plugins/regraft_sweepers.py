"""Where Hydra looks for Regraft's sweeper; it is defined in `regraft.sweeps`."""

from regraft.sweeps import sweeper


class SearchSweeper(sweeper.SearchSweeper):
    """The sweeper that Hydra finds: it accepts plugins of this package only."""
