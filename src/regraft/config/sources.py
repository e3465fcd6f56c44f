"""How Hydra reads the config files of others: as data that can't make it import, open or call anything.

The shipped ones are read as they are.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from regraft.config.hydra_internals import FileConfigSource, files_read_by
from regraft.config.interpolations import require_bounded_references
from regraft.config.quoting import from_home, key_of
from regraft.config.safe_yaml import require_bounded
from regraft.config.shipped import conf_dir
from regraft.config.trust import is_trusted, named_in, require_known, require_known_resolvers, values
from regraft.config.written_paths import require_no_path
from regraft.core.errors import ConfigError

# What a file may say of Hydra. The rest has it import packages, set environment variables, or write into any folder or
# file, before a check of ours could come.
_OF_HYDRA = ("job.chdir", "verbose", "mode")

_MAPPING = re.compile(r"(?<!\$)\{")
_INDEX = re.compile(r"(\.\d+)+$")
_COMMAND_LINE_ONLY = "this can be given on the command line only; to let files say it, add trust=[hydra]."


class CheckedFiles(FileConfigSource):
    """Reads YAML files for Hydra; `trust` is what the command line trusts."""

    trust: ClassVar[Sequence[str]] = ()

    def load_config(self, config_path: str) -> ConfigResult:
        """Returns a file's content; raises ConfigError if it holds what only a command line may."""
        path = Path(self.path, f"{config_path.removesuffix('.yaml')}.yaml")
        if not path.is_file() or path.resolve().is_relative_to(conf_dir().resolve()):
            return super().load_config(config_path)
        group = config_path.rpartition("/")[0] or None
        try:
            text = path.read_text(encoding="utf-8")
            require_bounded(text, path)
            result = super().load_config(config_path)
            content = OmegaConf.to_container(result.config, resolve=False)
            if "~" in text:
                content = _from_home(content, str(path))
                result.config = OmegaConf.create(content)
            package = package_of(config_path, result.header.get("package"))
            require_harmless(content, self.trust, str(path), package)
            nested = content
            for part in reversed(package.split(".") if package else []):
                nested = {part: nested}
            require_bounded_references(nested, str(path))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(group, f"{path}: can't be read as YAML ({' '.join(str(error).split())}).") from error
        except ConfigError as error:
            raise ConfigError(group, str(error)) from error
        return result


def _from_home(content: Any, path: str) -> Any:
    """Returns a file's content with the home folder in place of a `~` at the start of a path."""
    if isinstance(content, dict):
        return {key: _from_home(value, path) for key, value in content.items()}
    if isinstance(content, list):
        return [_from_home(value, path) for value in content]
    return from_home(content, path) if isinstance(content, str) and content.startswith("~") else content


@contextmanager
def checked(arguments: Sequence[str]) -> Iterator[None]:
    """Has Hydra read files with `CheckedFiles` inside the block; ConfigError for what could run code."""
    trust = named_in(arguments)
    for argument in arguments:
        require_known_resolvers(argument, trust, key_of(argument) or argument)
        flag = argument.partition("=")[0]
        if len(flag) > 2 and "--experimental-rerun".startswith(flag):
            raise ConfigError(argument, "it reads a pickle, which can run code", fix="Use regraft reproduce run=...")
        if "env_copy" in flag:
            raise ConfigError(
                "hydra.job.env_copy", "it would write the environment into the run's folder. Leave it out."
            )
    with files_read_by(CheckedFiles, trust=trust):
        yield


def package_of(config_path: str, header: str | None) -> str:
    """Returns where a file's content goes in the config, dotted; empty for its top.

    Args:
        config_path: path of the file in its folder, such as `head/linear`.
        header: the file's own `# @package ...`; None if it has none.
    """
    group, _, name = config_path.removesuffix(".yaml").strip("/").replace("/", ".").rpartition(".")
    package = group if header is None else header.replace("_group_", group).replace("_name_", name)
    return ".".join(part for part in package.split(".") if part not in ("", "_global_"))


def require_harmless(content: Any, trust: Sequence[str], path: str, package: str) -> None:
    """Checks what a file holds, before it is composed with anything.

    Args:
        content: plain types; interpolations aren't resolved.

    Raises:
        ConfigError: it names what isn't trusted, or holds what belongs on the command line.
    """
    defaults = content.get("defaults") if isinstance(content, dict) else None
    for entry in (part for node in defaults or [] for part in (node if isinstance(node, dict) else [node])):
        there = str(entry).partition("@")[2]
        if ("hydra" in there or "$" in there) and not is_trusted("hydra", trust):
            raise ConfigError(f"{path}: defaults", f"they hold {entry!r}; {_COMMAND_LINE_ONLY}")
    for place, value in values(content, package):
        at = f"{path}: {place}"
        if place.startswith("sweep.space."):
            place = _of_jobs(place, value, at)
        _, is_of_hydra, of_hydra = f".{place}".partition(".hydra.")
        if (is_of_hydra and of_hydra not in _OF_HYDRA) or place.rpartition(".")[2] == "hydra":
            if value is not None and not is_trusted("hydra", trust):
                raise ConfigError(at, _COMMAND_LINE_ONLY)
        elif place.partition(".")[0] == "trust" and value:
            raise ConfigError(str(path), "trust can be given on the command line only, never in a file")
        if place.rpartition(".")[2] == "_target_" and value is not None:
            require_known(value, trust, at)
        elif isinstance(value, str):
            require_known_resolvers(value, trust, at)
        require_no_path(place, value, path)


def _of_jobs(place: str, value: Any, at: str) -> str:
    """Returns the jobs' key that a key in `sweep.space` gives; raises ConfigError for a mapping as text."""
    if isinstance(value, str) and _MAPPING.search(value):
        raise ConfigError(at, "a mapping can't be a value of sweep.space in a file", got=value)
    return _INDEX.sub("", place.removeprefix("sweep.space.").lstrip("+"))
