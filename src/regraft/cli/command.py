"""What a command of the command line is."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf import DictConfig

from regraft.config.quoting import key_of
from regraft.config.shipped import conf_dir
from regraft.core.errors import ConfigError, UnknownNameError

RUN_REFERENCE = """RUN is a run's folder; last, the run that was started or resumed last; best, the finished run with
the highest test/acc, else val/acc; or a part of a folder's name that no other has. output_dir=PATH is where runs are
looked for."""


@dataclass(frozen=True)
class Command:
    """One command; its file in `commands/` has the same name, and the first line of that file is its line in the help.

    Attributes:
        run: runs it with the arguments that follow its name.
        usage: one line, for `--help` and for errors.
        details: what `--help` prints below the usage; None if a Hydra app prints the help.
        config_name: the YAML in `conf/` whose keys it takes.
        keys: the keys that it takes, if no YAML has them.
        takes_run: whether `run=` is completed with runs.
        words: returns what its words may be that aren't `key=value`, for completion.
        job: what each job of a sweep calls with its config; None if the command takes no `-m`.
    """

    name: str
    run: Callable[[list[str]], None]
    usage: str
    details: str | None = None
    config_name: str | None = None
    keys: Sequence[str] = ()
    takes_run: bool = False
    words: Callable[[], Iterable[str]] = tuple
    job: Callable[[DictConfig], Any] | None = None

    @property
    def help(self) -> str | None:
        """What `--help` prints; None if a Hydra app prints it."""
        return None if self.details is None else f"usage: {self.usage}\n{self.details}"

    def known_keys(self) -> list[str]:
        """Returns the keys that the command takes: those of its YAML, the groups among them, and `run`."""
        if self.config_name is None:
            return list(self.keys)
        content = yaml.safe_load((conf_dir() / f"{self.config_name}.yaml").read_text(encoding="utf-8"))
        groups = [group for entry in content["defaults"] if isinstance(entry, dict) for group in entry]
        inner = [f"{key}.{name}" for key, value in content.items() if isinstance(value, dict) for name in value]
        plain = [key for key, value in content.items() if not isinstance(value, dict)]
        return ["run", *(key for key in [*plain, *inner, *groups] if key not in ("defaults", "hydra"))]

    def require_keys(self, arguments: Sequence[str]) -> None:
        """Checks that each argument is `key=value`, with a known key that no other argument has.

        Raises:
            ConfigError: one isn't.
        """
        for argument in arguments:
            if argument.startswith("-") or "=" not in argument:
                raise ConfigError(self.name, got=argument, allowed=self.usage)
        keys, known = [key_of(argument) or argument for argument in arguments], self.known_keys()
        for key in keys:
            if key not in known:
                raise UnknownNameError(self.name, "key", key, known)
            if keys.count(key) > 1:
                raise ConfigError(key, f"it is given {keys.count(key)} times", fix="Give it once.")
