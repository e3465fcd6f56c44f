"""The datamodule of a config: a source of its own, and what all sources share."""

import inspect
from typing import Any

from regraft.config.instantiate import Config, checked_call, factory
from regraft.core.errors import ConfigError
from regraft.core.types import InputSpec
from regraft.runs.checkpoint import Checkpoint

_LATER_KEYS = {"cache": "off"}
"""Of the section `data`, which runs of older versions lack."""


def build_datamodule(config: Config, input_spec: InputSpec, trained: Checkpoint | None = None) -> Any:
    """Returns the prepared datamodule: data read, splits made, classes known.

    Args:
        config: the resolved config.
        input_spec: what the backbone wants.
        trained: a run's, whose classes the data must have; they are put in its order.

    Raises:
        ValueError: the data can't be read or split as asked, or has other classes.
    """
    module = build_unread_datamodule(config, input_spec, trained)
    module.prepare_data()
    module.setup("fit")
    return module


def build_unread_datamodule(config: Config, input_spec: InputSpec, trained: Checkpoint | None = None) -> Any:
    """Returns the datamodule, its data not looked for yet; see `build_datamodule`."""
    from regraft.data.datamodule import ImageDataModule
    from regraft.data.sources.class_mapping import InOrderOf

    ours = inspect.signature(ImageDataModule).parameters
    node = _LATER_KEYS | config["data"]
    lacking = [key for key in ours if key not in (*node, "source", "input_spec", "augment", "seed")]
    if lacking:
        raise ConfigError(
            "data",
            f"it lacks {', '.join(lacking)}. A data config starts with `defaults: [_common, _self_]`, "
            f"which brings them.",
        )
    own = [key for key in node if key in ours]
    source = factory({key: value for key, value in node.items() if key not in ours}, "data", own)()
    if trained is not None:
        source = InOrderOf(source, trained.class_names, str(trained.path))
    options = {key: value for key, value in node.items() if key in ours}
    make = checked_call(ImageDataModule, "data", options)
    return make(
        source=source, input_spec=input_spec, augment=factory(config["augment"], "augment")(), seed=config["seed"]
    )


def require_same_data(data: Any, checkpoint: Checkpoint) -> None:
    """Checks that a run goes on with its own images and labels.

    Raises:
        ValueError: it doesn't.
    """
    if data.fingerprint != checkpoint.fingerprint:
        raise ConfigError(
            "data",
            f"these aren't the images and labels that {checkpoint.path} was trained on (fingerprint "
            f"{data.fingerprint[:12]}, the run has {checkpoint.fingerprint[:12]}). A run goes on with its own data; "
            f"name where it lies now with data.root=PATH.",
        )
