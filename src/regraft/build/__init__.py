"""The only place where config becomes objects.

Below it nobody sees a config: every object gets plain arguments. What the objects do belongs in their own rooms.
"""

from regraft.data.from_config import datamodule, unread_datamodule
from regraft.deployment.load import device_named, model_of, trained_model
from regraft.deployment.predict.features import model_and_features
from regraft.evaluation.from_config import another_domain, evaluation_data, require_types
from regraft.models.from_config import LastBackbone, bare_backbone
from regraft.training.build_preflight import Checked, preflight
from regraft.training.data_fit import data_faults, require_fitting_data, require_sound, steps_per_epoch
from regraft.training.feature_plan import FeaturePlan, feature_plan, model_name, store
from regraft.training.from_config import Parts, assemble
from regraft.training.image_cache import store_pixels
from regraft.training.modules import transfer_module
from regraft.training.optimizers import optimizer_groups
from regraft.training.probe.setup import Point, fit_grid
from regraft.training.resources import bytes_text
from regraft.training.strategies import freezing
from regraft.training.trainer import callbacks, loggers, trainer

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
