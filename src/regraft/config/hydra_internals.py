"""Everything that Regraft uses of Hydra beyond its public API, so that an upgrade breaks one file.

`tests/config/test_hydra_internals.py` has a test for each name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, read_write

__all__ = ["BASIC_LAUNCHER", "FileConfigSource", "files_read_by", "is_basic_launcher", "run_in_its_folder"]

BASIC_LAUNCHER = BasicLauncher.__module__
"""Name of the logger of Hydra's own launcher."""


def is_basic_launcher(launcher: object) -> bool:
    """Returns whether a launcher is Hydra's own, which runs jobs in this process, one after the other."""
    # Not isinstance: Hydra loads the modules of its plugins again, so there may be two classes of that name.
    return any(kind.__module__ == BASIC_LAUNCHER for kind in type(launcher).__mro__)


@contextmanager
def files_read_by(source: type[FileConfigSource], **attributes: Any) -> Iterator[None]:
    """Has Hydra read config files with a subclass of its own class, which gets these attributes, inside the block."""
    Plugins.instance()  # has Hydra register its own first
    types = SourcesRegistry.instance().types
    before = types["file"]
    # Under the name that it replaces: where a launcher's worker unpickles this, Hydra registers its own again.
    types["file"] = type(FileConfigSource.__name__, (source,), attributes)
    try:
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
