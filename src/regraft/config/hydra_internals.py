"""Everything that Regraft uses of Hydra beyond its public API, so that an upgrade breaks one file.

`tests/config/test_hydra_internals.py` has a test for each name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from hydra._internal import defaults_list
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.default_element import InputDefault
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, _utils, read_write

__all__ = [
    "BASIC_LAUNCHER",
    "FileConfigSource",
    "files_read_by",
    "is_basic_launcher",
    "quick_composing",
    "run_in_its_folder",
]

BASIC_LAUNCHER = BasicLauncher.__module__
"""Name of the logger of Hydra's own launcher."""


def is_basic_launcher(launcher: object) -> bool:
    """Returns whether a launcher is Hydra's own, which runs jobs in this process, one after the other."""
    # Not isinstance: Hydra loads the modules of its plugins again, so there may be two classes of that name.
    return any(kind.__module__ == BASIC_LAUNCHER for kind in type(launcher).__mro__)


_create_interpolation_map = defaults_list._create_interpolation_map
_omegaconf_loader = _utils.get_yaml_loader()
# libyaml's parser with what OmegaConf makes of its words.
_Loader = type("_Loader", (yaml.CSafeLoader, _omegaconf_loader), {}) if yaml.__with_libyaml__ else _omegaconf_loader


@contextmanager
def quick_composing() -> Iterator[None]:
    """Has Hydra compose the same in two thirds of the time, inside the block.

    For each file, OmegaConf makes a loader of YAML, in Python, and Hydra a config of all choices, for interpolations in
    the file's defaults list, which hardly any has.
    """

    def choices(overrides: defaults_list.Overrides, defaults_list: list[InputDefault], self_added: bool) -> DictConfig:
        is_read = any(default.is_interpolation() for default in defaults_list)
        return _create_interpolation_map(overrides, defaults_list, self_added) if is_read else DictConfig({})

    before = _utils.get_yaml_loader, defaults_list._create_interpolation_map
    _utils.get_yaml_loader, defaults_list._create_interpolation_map = lambda: _Loader, choices
    try:
        yield
    finally:
        _utils.get_yaml_loader, defaults_list._create_interpolation_map = before


@contextmanager
def files_read_by(source: type[FileConfigSource], **attributes: Any) -> Iterator[None]:
    """Has Hydra read config files with a subclass of its own class, which gets these attributes, inside the block."""
    Plugins.instance()  # has Hydra register its own first
    types = SourcesRegistry.instance().types
    before = types["file"]
    # Under the name that it replaces: where a launcher's worker unpickles this, Hydra registers its own again.
    types["file"] = type(FileConfigSource.__name__, (source,), attributes)
    try:
        with quick_composing():
            yield
    finally:
        types["file"] = before


def run_in_its_folder(node: DictConfig, task: Callable[[DictConfig], Any]) -> None:
    """Runs a task as Hydra's run mode does: makes the folder and `.hydra/` in it, configures logging, runs callbacks.

    Args:
        task: takes the config without Hydra's node, and handles its own errors.
    """
    with read_write(node.hydra):
        node.hydra.mode = RunMode.RUN
    context = HydraContext(config_loader=ConfigLoaderImpl(ConfigSearchPathImpl()), callbacks=Callbacks(node))
    context.callbacks.on_run_start(config=node, config_name=node.hydra.job.config_name)
    job_return = run_job(task, node, job_dir_key="hydra.run.dir", job_subdir_key=None, hydra_context=context)
    context.callbacks.on_run_end(config=node, config_name=node.hydra.job.config_name, job_return=job_return)
