"""The only place where config becomes objects.

Below it nobody sees a config: every object gets plain arguments. What the objects do belongs in their own rooms.
"""

from regraft.build.data_fit import data_faults, require_fitting_data, require_sound, steps_per_epoch
from regraft.build.features import FeaturePlan, feature_plan, model_name, store
from regraft.build.modules import transfer_module
from regraft.build.optimizers import optimizer_groups
from regraft.build.parts import Parts, assemble
from regraft.build.pixels import store_pixels
from regraft.build.preflight import Checked, preflight
from regraft.build.probing import Point, fit_grid
from regraft.build.room import bytes_text
from regraft.build.running import callbacks, loggers, trainer
from regraft.build.strategies import freezing
from regraft.data.from_config import datamodule, unread_datamodule
from regraft.deployment.load import device_named, model_of, trained_model
from regraft.deployment.predict.features import model_and_features
from regraft.evaluation.from_config import another_domain, evaluation_data, require_types
from regraft.models.from_config import LastBackbone, bare_backbone

__all__ = [
    "Checked",
    "FeaturePlan",
    "LastBackbone",
    "Parts",
    "Point",
    "another_domain",
    "assemble",
    "bare_backbone",
    "bytes_text",
    "callbacks",
    "data_faults",
    "datamodule",
    "device_named",
    "evaluation_data",
    "feature_plan",
    "fit_grid",
    "freezing",
    "loggers",
    "model_and_features",
    "model_name",
    "model_of",
    "optimizer_groups",
    "preflight",
    "require_fitting_data",
    "require_sound",
    "require_types",
    "steps_per_epoch",
    "store",
    "store_pixels",
    "trained_model",
    "trainer",
    "transfer_module",
    "unread_datamodule",
]
