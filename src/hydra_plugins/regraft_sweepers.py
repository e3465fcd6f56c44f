"""Where Hydra looks for Regraft's sweeper; it is defined in `regraft.sweeps`."""

from regraft.sweeps.sweeper import SearchSweeper


class SurvivingSweeper(SearchSweeper):
    """The sweeper that Hydra finds: it takes plugins of this package only."""
