"""The only place where config becomes objects.

Below it nobody sees a config: every object gets plain arguments. What the objects do belongs in their own rooms.
"""

from regraft.build.evaluating import evaluation_data
from regraft.build.features import FeaturePlan, feature_plan, store
from regraft.build.parts import Parts, assemble, bare_backbone, datamodule, freezing, optimizer_groups, transfer_module
from regraft.build.pixels import store_pixels
from regraft.build.probing import Point, fit_grid
from regraft.build.running import callbacks, loggers, trainer

__all__ = [
    "FeaturePlan",
    "Parts",
    "Point",
    "assemble",
    "bare_backbone",
    "callbacks",
    "datamodule",
    "evaluation_data",
    "feature_plan",
    "fit_grid",
    "freezing",
    "loggers",
    "optimizer_groups",
    "store",
    "store_pixels",
    "trainer",
    "transfer_module",
]
