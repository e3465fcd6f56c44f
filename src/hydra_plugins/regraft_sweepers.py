"""Where Hydra looks for Regraft's sweepers; what they are is in `regraft.sweeps`."""

from regraft.sweeps.sweeper import GridSweeper as _GridSweeper


class GridSweeper(_GridSweeper):
    """See `regraft.sweeps.sweeper.GridSweeper`: Hydra takes plugins of this package only."""
