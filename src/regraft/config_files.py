"""How Hydra reads the config files of others: as data that can't make it import, open or call anything.

The shipped ones are read as they are. What a config may name is decided in `trust`; how configs are composed, in
`composition`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from regraft.plain_data import require_bounded
from regraft.shipped import conf_dir
from regraft.trust import is_trusted, named_in, require_known, require_known_resolvers

# Hydra imports packages of a search path, and sets environment variables, before any check of ours could come.
_NEVER_IN_FILES = ("searchpath", "env_set", "env_copy")
# What logging's dictConfig may be told to make: `class` of a handler or formatter, `()` of anything.
_LOGGING = (
    *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter"),
    *("logging.handlers.RotatingFileHandler", "logging.handlers.TimedRotatingFileHandler"),
    "colorlog.ColoredFormatter",
)
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


class CheckedFiles(FileConfigSource):
    """Reads YAML files for Hydra.

    Attributes:
        trust: what the command line trusts.
    """

    trust: ClassVar[Sequence[str]] = ()

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns a file's content.

        Raises:
            ValueError: it is no YAML, or asks for what only a command line may.
        """
        path = Path(self.path, self._normalize_file_name(config_path))
        if not path.is_file() or path.resolve().is_relative_to(conf_dir().resolve()):
            return super().load_config(config_path)
        try:
            require_bounded(path.read_text(encoding="utf-8"), path)
            result = super().load_config(config_path)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: can't be read as YAML ({' '.join(str(error).split())}).") from error
        require_harmless(OmegaConf.to_container(result.config, resolve=False), self.trust, str(path))
        return result


@contextmanager
def checked(arguments: Sequence[str]) -> Iterator[None]:
    """Has Hydra read files in this way, inside the block.

    Args:
        arguments: the command line's; what they name is trusted.

    Raises:
        ValueError: one of them uses a resolver that isn't trusted.
    """
    trust = named_in(arguments)
    for argument in arguments:
        require_known_resolvers(argument, trust, argument.partition("=")[0])
        if "env_copy" in argument.partition("=")[0]:
            raise ValueError("hydra.job.env_copy: it would write the environment into the run's folder. Leave it out.")
    Plugins.instance()  # has Hydra register its own first
    types = SourcesRegistry.instance().types
    before = types["file"]
    types["file"] = type(CheckedFiles.__name__, (CheckedFiles,), {"trust": trust})
    try:
        yield
    finally:
        types["file"] = before


def require_harmless(node: Any, trust: Sequence[str], path: str, place: str = "") -> None:
    """Checks what a file holds, before it is composed with anything.

    Args:
        node: the content, or a part of it; interpolations aren't resolved.
        trust: what the command line trusts.
        path: the file.
        place: of the part, dotted.

    Raises:
        ValueError: it names what isn't trusted, or holds what belongs on the command line.
    """
    at = f"{path}: {place}"
    key = place.rpartition(".")[2]
    if key == "_target_" and node is not None:
        require_known(node, trust, at)
    elif key in _NEVER_IN_FILES and node:
        raise ValueError(f"{at} can be given on the command line only, not in a file.")
    elif key in ("class", "()") and not (isinstance(node, str) and (node in _LOGGING or is_trusted(node, trust))):
        raise ValueError(f"{at} names {node!r}; allowed: {', '.join(_LOGGING)}, or what trust=[...] names.")
    elif place == "trust" and node:
        raise ValueError(f"{at} can be given on the command line only: what a file trusts, nobody has vouched for.")
    elif isinstance(node, str):
        require_known_resolvers(node, trust, at)
        if node.startswith("ext://") and node not in _STREAMS and not is_trusted(node.removeprefix("ext://"), trust):
            raise ValueError(f"{at} names {node!r}; allowed: {', '.join(_STREAMS)}.")
    elif isinstance(node, dict | list):
        for name, part in node.items() if isinstance(node, dict) else enumerate(node):
            require_harmless(part, trust, path, f"{place}.{name}".lstrip("."))


def refuse_pickles(arguments: Sequence[str]) -> None:
    """Checks that no flag of Hydra's has it read a pickle, which would run code.

    Raises:
        ValueError: one has.
    """
    for argument in arguments:
        flag = argument.partition("=")[0]
        if len(flag) > 2 and "--experimental-rerun".startswith(flag):
            raise ValueError("--experimental-rerun reads a pickle, which can run code. Use regraft reproduce run=...")
