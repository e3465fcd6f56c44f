"""What a command of the command line is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from regraft.config import compose
from regraft.config.groups import commented_keys
from regraft.config.meant import keys_of_command_meant
from regraft.config.quoting import key_of
from regraft.config.safe_yaml import load
from regraft.config.shipped import conf_dir
from regraft.config.trust import look_beside, named_in
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.runs.arguments import require_run, with_checkpoint

RUN_REFERENCE = """RUN is a run's folder; last, of the runs with a checkpoint the one started or resumed last; best,
the finished run with the highest test/acc, else val/acc; or a unique part of a folder's name. The folder of a search by
regraft auto is its best run. output_dir=PATH is the folder of all runs."""


@dataclass(frozen=True)
class Command:
    """A command; its file in `commands/` has the same name, and the first line of that file is its line in the help.

    Attributes:
        run: called with the arguments after the command's name.
        usage: one line, for `--help` and for errors.
        details: printed by `--help` below the usage and the keys; None if a Hydra app prints the help.
        config_name: the YAML in `conf/` that has its keys.
        takes_run: whether `run=` is completed with runs.
        words: returns the words that aren't `key=value`, for completion.
        shares_work: whether several processes of torchrun or Slurm do it together; of any other command one may run.
        job: called by `run_app` with each config of a sweep; None if the command has no Hydra app.
    """

    name: str
    run: Callable[[list[str]], None]
    usage: str
    details: str | None = None
    config_name: str | None = None
    keys: Sequence[str] = ()
    takes_run: bool = False
    words: Callable[[], Iterable[str]] = tuple
    shares_work: bool = False
    job: Callable[[DictConfig], Any] | None = None

    @property
    def help(self) -> str | None:
        """What `--help` prints; None if a Hydra app prints it."""
        if self.details is None:
            return None
        keys = commented_keys(self.name) if self.config_name == self.name else []
        return "\n".join([f"usage: {self.usage}", *keys, self.details])

    def known_keys(self) -> list[str]:
        """Returns the command's keys: those of its YAML, the groups among them, and `run`."""
        if self.config_name is None:
            return list(self.keys)
        content = load(conf_dir() / f"{self.config_name}.yaml")
        groups = [group for entry in content["defaults"] if isinstance(entry, dict) for group in entry]
        inner = [f"{key}.{name}" for key, value in content.items() if isinstance(value, dict) for name in value]
        plain = [key for key, value in content.items() if not isinstance(value, dict)]
        return ["run", *(key for key in [*plain, *inner, *groups] if key not in ("defaults", "hydra"))]

    def require_keys(self, arguments: Sequence[str]) -> None:
        """Checks that each argument is `key=value`, with a known key that no other argument has."""
        for argument in arguments:
            if argument.startswith("-") or "=" not in argument:
                raise ConfigError(self.name, got=argument, allowed=self.usage)
        keys, known = [key_of(argument) or argument for argument in arguments], self.known_keys()
        for key in keys:
            if key not in known:
                raise UnknownNameError(self.name, "key", key, known, meant=keys_of_command_meant(key, known))
            if keys.count(key) > 1:
                raise ConfigError(key, f"it is given {keys.count(key)} times", fix="Give it once.")

    def split(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Returns the words and the values of the keys; a word that is a path may contain `=`."""
        words: list[str] = []
        values: dict[str, str] = {}
        for argument in arguments:
            key, is_given, value = argument.partition("=")
            if argument.startswith("-"):
                raise ConfigError(self.name, got=argument, allowed=self.usage)
            if not is_given or "/" in key or Path(argument).exists():
                words.append(argument)
            elif key not in self.keys:
                raise UnknownNameError(self.name, "key", key, self.keys, meant=keys_of_command_meant(key, self.keys))
            elif not value:
                raise ConfigError(key, "it has no value", allowed=self.usage)
            elif key in values:
                raise ConfigError(key, "it is given more than once", fix="Give it once.")
            else:
                values[key] = value
        return words, values

    def composed(self, arguments: Sequence[str], verbatim: Sequence[str] = ()) -> DictConfig:
        """Returns the config of a command that uses a trained run; Hydra doesn't parse the keys in `verbatim`."""
        self.require_keys(arguments)
        require_run(arguments)
        assert self.config_name is not None
        others = [argument for argument in arguments if key_of(argument) not in verbatim]
        look_beside(named_in(others))
        return compose.compose_once(self.config_name, with_checkpoint(others), None)
