"""The datamodule built from a config: the source from its own keys, the rest from the keys that all sources share."""

import inspect
from typing import Any

from regraft.config.instantiate import Config, checked_call, factory
from regraft.core.errors import ConfigError
from regraft.core.input_spec import InputSpec
from regraft.runs.checkpoint import Checkpoint
from regraft.runs.provenance import key_of_place


def build_datamodule(config: Config, input_spec: InputSpec | None, trained: Checkpoint | None = None) -> Any:
    """Returns the datamodule, read and split, with the classes and class indices of `trained`, if given.

    Args:
        input_spec: of the backbone; None as long as none is known.
    """
    module = build_unread_datamodule(config, input_spec, trained)
    prepare(module)
    return module


def prepare(module: Any) -> None:
    """Reads a datamodule's data and makes its splits, if that hasn't been done yet."""
    module.prepare_data()
    module.setup("fit")


def build_unread_datamodule(config: Config, input_spec: InputSpec | None, trained: Checkpoint | None = None) -> Any:
    """Returns the datamodule of `build_datamodule` before its data is read."""
    from regraft.data.datamodule import DataModule
    from regraft.data.inputs import PIXEL_OPTIONS
    from regraft.data.sources.class_mapping import InOrderOf

    ours = inspect.signature(DataModule).parameters
    node = config["data"]
    lacking = [key for key in ours if key not in (*node, *PIXEL_OPTIONS, "source", "input_spec", "augment", "seed")]
    if lacking:
        raise ConfigError(
            "data",
            f"it lacks {', '.join(lacking)}. A data config starts with `defaults: [_common, _self_]`, which adds them.",
        )
    own = [key for key in node if key in ours]
    options = {key: value for key, value in node.items() if key not in ours}
    if "trust" in options:
        options["trust"] = config["trust"]  # that of the command line, whatever a file says
    source = factory(options, "data", own)()
    if trained is not None:
        source = InOrderOf(source, trained.class_names, str(trained.path))
    # The number of images decides on an open batch size, which isn't known before they are listed.
    is_open = node["batch_size"] == "auto"
    given = {key: node[key] for key in own if not (is_open and key == "batch_size")}
    make = checked_call(DataModule, "data", given)
    augment = factory(config["augment"], "augment")()
    return make(source=source, input_spec=input_spec, augment=augment, seed=config["seed"])


def require_same_data(data: Any, checkpoint: Checkpoint) -> None:
    """Raises ValueError if the data isn't that of the checkpoint, by its fingerprint."""
    if data.fingerprint != checkpoint.fingerprint:
        raise ConfigError(
            "data",
            f"these aren't the samples and labels that {checkpoint.path} was trained on (fingerprint "
            f"{data.fingerprint[:12]}, the run has {checkpoint.fingerprint[:12]}). A run resumes with its own data; "
            f"give the place where it lies with {key_of_place(checkpoint.config['data'])}.",
        )
