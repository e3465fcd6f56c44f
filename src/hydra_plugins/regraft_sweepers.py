"""Where Hydra looks for Regraft's sweeper; what it is is in `regraft.sweeps`."""

from regraft.sweeps.sweeper import SurvivingSweeper as _SurvivingSweeper


class SurvivingSweeper(_SurvivingSweeper):
    """See `regraft.sweeps.sweeper.SurvivingSweeper`: Hydra takes plugins of this package only."""
